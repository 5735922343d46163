// Loops shared by several cores, on a pool of std::thread: not every compiler has OpenMP. Included by the kernels.
//
// share(count, threads, grain, body) calls body(i, thread) for every i below count; a thread takes ``grain`` of them at a
// time. ``thread`` is below ``threads``: it may index scratch memory. The caller is thread 0 and works too. Two callers at
// once do not wait for each other: the pool helps the first, the other does its loop alone.

#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#if !defined(_WIN32)
#include <unistd.h>
#endif

namespace {

class Pool {
    // of a loop: what a thread calls with a range and its own number
    using Call = void (*)(const void *body, int64_t first, int64_t end, int thread);

  public:
    // Never deleted: its threads sleep in it until the process ends. A forked child has none of them, and makes its own.
    static Pool &get() {
        static std::mutex guard;
        static Pool *pool = nullptr;
        static long owner = 0;
        const std::lock_guard<std::mutex> lock(guard);
        if (!pool || owner != process()) pool = new Pool, owner = process();
        return *pool;
    }

    void run(int64_t count, int threads, int64_t grain, Call call, const void *body) {
        const std::unique_lock<std::mutex> mine(busy, std::try_to_lock);
        if (!mine || !grow(threads - 1)) return call(body, 0, count, 0);
        {
            const std::lock_guard<std::mutex> lock(mutex);
            this->call = call, this->body = body, this->count = count, this->grain = grain;
            room = threads - 1, entered = 0;
            next.store(0, std::memory_order_relaxed);
            loop.fetch_add(1, std::memory_order_release);
        }
        wake.notify_all();
        take(0);
        {
            const std::lock_guard<std::mutex> lock(mutex);
            room = 0;  // all is taken: who has not woken yet is not waited for
        }
        const auto left = [this] { return !working.load(std::memory_order_acquire); };
        if (soon(left)) return;
        std::unique_lock<std::mutex> lock(mutex);
        done.wait(lock, left);
    }

  private:
    std::mutex busy, mutex;
    std::condition_variable wake, done;
    Call call = nullptr;
    const void *body = nullptr;
    int64_t count = 0, grain = 1;
    int made = 0, room = 0, entered = 0;  // threads there are; how many more the loop takes; how many it took
    std::atomic<int64_t> next{0};
    std::atomic<int> working{0};
    std::atomic<uint64_t> loop{0};

    static long process() {
#if defined(_WIN32)
        return 1;
#else
        return (long)getpid();
#endif
    }

    bool grow(int wanted) {
        try {
            for (; made < wanted; made++) std::thread(&Pool::serve, this, loop.load()).detach();
        } catch (const std::exception &) {  // the system gives no more threads
            return false;
        }
        return true;
    }

    void take(int thread) {
        for (int64_t first; (first = next.fetch_add(grain, std::memory_order_relaxed)) < count;)
            call(body, first, std::min(first + grain, count), thread);
    }

    // Waits for a moment without sleeping: loops follow each other closely, and waking takes tens of microseconds.
    template <class Ready> static bool soon(const Ready &ready) {
        const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(50);
        do {
            for (int i = 0; i < 64; i++) {
                if (ready()) return true;
#if defined(__x86_64__) || defined(_M_X64)
                __builtin_ia32_pause();
#endif
            }
        } while (std::chrono::steady_clock::now() < end);
        return false;
    }

    void serve(uint64_t seen) {
        const auto called = [&] { return loop.load(std::memory_order_acquire) != seen; };
        while (true) {
            soon(called);
            int thread;
            {
                std::unique_lock<std::mutex> lock(mutex);
                wake.wait(lock, called);
                seen = loop.load(std::memory_order_relaxed);
                if (!room) continue;
                room--, thread = ++entered;
                working.fetch_add(1, std::memory_order_relaxed);
            }
            take(thread);
            if (working.fetch_sub(1, std::memory_order_acq_rel) > 1) continue;
            const std::lock_guard<std::mutex> lock(mutex);
            done.notify_one();
        }
    }
};

template <class Body> void share(int64_t count, int threads, int64_t grain, const Body &body) {
    const auto call = [](const void *given, int64_t first, int64_t end, int thread) {
        const Body own = *(const Body *)given;  // a copy, which no store can change: what it holds stays in registers
        for (int64_t i = first; i < end; i++) own(i, thread);
    };
    if (threads > 1 && count > grain) Pool::get().run(count, threads, grain, call, &body);
    else call(&body, 0, count, 0);
}

// The grain of loops whose turns are alike and short: a few for each thread.
inline int64_t evenly(int64_t count, int threads) { return std::max<int64_t>(1, count / (4 * std::max(threads, 1))); }

}  // namespace
