// What a SIREN level does besides its matrix products, forwards and backwards, in one pass each; called by op.py.
// Forwards the products too, where the processor multiplies bfloat16: sums of such products stay float.
//
// Rows are pixels, channels contiguous. What the backward pass needs is kept in T: float, or bfloat16 where the processor
// multiplies that. Channels are handled in vectors, the last one partly filled.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "threads.hpp"
#include "vectors.hpp"

namespace {

inline vf choose(vi mask, vf a, vf b) { return (vf)(((vi)a & mask) | ((vi)b & ~mask)); }

// Cephes' polynomials on [-pi/4, pi/4]; within 3e-7 up to phases of some thousands.
inline void sine_cosine(vf x, vf &sine, vf &cosine) {
    constexpr float ROUND = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest whole number in the low bits
    const vf magic = x * 0.63661977236758134f + ROUND, quarters = magic - ROUND;
    const vi quadrant = (vi)magic;
    vf r = x - quarters * 1.5703125f;  // pi/2 in three parts, the first two exact in few bits
    r = r - quarters * 4.837512969970703e-4f;
    r = r - quarters * 7.54978995489188216e-8f;
    const vf square = r * r;
    const vf s = r + r * square * (-1.6666654611e-1f + square * (8.3321608736e-3f + square * -1.9515295891e-4f));
    const vf c = 1.0f - 0.5f * square +
                 square * square * (4.166664568298827e-2f + square * (-1.388731625493765e-3f + square * 2.443315711809948e-5f));
    const vi odd = -(quadrant & 1);
    const vi sine_sign = (quadrant & 2) << 30, cosine_sign = ((quadrant + 1) & 2) << 30;
    sine = (vf)((vi)choose(odd, c, s) ^ sine_sign);
    cosine = (vf)((vi)choose(odd, s, c) ^ cosine_sign);
}

// Bilinear doubling: output row or column i mixes the inputs low[i] and low[i] + 1.
struct Doubling {
    const int32_t *low;
    const float *weight;  // [2][t]
    int s, t;
    float at(int which, int i) const { return weight[which * t + i]; }
};

// Pixels whose sums stay in a register, a vector of channels at a time; with a level below, a line of the patch's.
constexpr int TOGETHER = 4;

template <class T>
void enter(const float *raised, Doubling doubling, const float *coordinates, const float *plane, int64_t n, int64_t each,
           int points, int channels, float *out, T *derivative, T *copy, int threads) {
    const int line = raised ? doubling.t : TOGETHER;
    share(n, threads, evenly(n, threads), [=](int64_t i, int) {
        const float *across = plane + i / each * 3 * channels, *down = across + channels, *constant = down + channels;
        std::vector<float> mixed(raised ? (int64_t)doubling.s * VL : 0);  // two lines of the level below, a vector of channels
        for (int y = 0; y * line < points; y++) {
            const int64_t first = i * points + y * line;
            const int width = std::min(line, points - y * line);
            for (int c = 0; c < channels; c += VL) {
                const int count = channels - c;
                const vf ax = load(across + c, count), ay = load(down + c, count), a0 = load(constant + c, count);
                if (raised) {
                    const float *a = raised + ((int64_t)i * doubling.s + doubling.low[y]) * doubling.s * channels + c;
                    const float *b = a + (int64_t)doubling.s * channels;
                    const float wa = doubling.at(0, y), wb = doubling.at(1, y);
                    for (int k = 0; k < doubling.s; k++) {
                        const int64_t from = (int64_t)k * channels;
                        store(&mixed[k * VL], load(a + from, count) * wa + (wb != 0 ? load(b + from, count) * wb : vf{}), VL);
                    }
                }
                for (int x = 0; x < width; x++) {
                    const float *at = coordinates + 2 * (first + x);
                    vf phase = ax * at[0] + ay * at[1] + a0;
                    if (raised) {
                        const float *a = &mixed[doubling.low[x] * VL];
                        phase += load(a, VL) * doubling.at(0, x);
                        if (doubling.at(1, x) != 0) phase += load(a + VL, VL) * doubling.at(1, x);
                    }
                    const int64_t to = (first + x) * channels + c;
                    vf sine, cosine;
                    sine_cosine(phase, sine, cosine);
                    if (out) store(out + to, sine, count);
                    store(derivative + to, cosine, count);
                    if (copy) store(copy + to, sine, count);
                }
            }
        }
    });
}

// sin(phase + bias) in place, its derivatives, and a copy in T where one is wanted.
template <class T>
void sine(float *phase, const float *bias, int64_t rows, int channels, T *derivative, T *copy, int threads) {
    share(rows, threads, evenly(rows, threads), [=](int64_t r, int) {
        for (int c = 0; c < channels; c += VL) {
            const int count = channels - c;
            const int64_t i = r * channels + c;
            vf s, o;
            sine_cosine(load(phase + i, count) + load(bias + c, count), s, o);
            store(phase + i, s, count);
            store(derivative + i, o, count);
            if (copy) store(copy + i, s, count);
        }
    });
}

#if defined(__AVX512BF16__)

constexpr int ROWS = 4, VECTORS = 6;  // of a tile at the most: 24 sums, 6 of the matrix's vectors and a pair of inputs
constexpr int64_t CHUNK = 64;         // rows that a thread takes at a time: they and the matrix stay in its cache

// A matrix in bfloat16 as tiles read it: blocks of vectors of channels; in each, by pairs of inputs.
struct Packed {
    std::vector<uint32_t> content;
    uint32_t *panels;  // at a cache line
    int given, channels, pairs, vectors, most;

    Packed(int given, int channels)
        : given(given), channels(channels), pairs((given + 1) / 2), vectors((channels + VL - 1) / VL) {
        const int blocks = (vectors + VECTORS - 1) / VECTORS;
        most = (vectors + blocks - 1) / blocks;
        content.assign((int64_t)vectors * pairs * VL + 16, 0);
        panels = (uint32_t *)(((uintptr_t)content.data() + 63) / 64 * 64);
    }
    Packed(Packed &&) = default;  // and no copies: panels points into content
    // The pairs of a vector of channels, ``step`` apart.
    uint32_t *column(int vector, int &step) {
        const int first = vector / most * most, width = std::min(most, vectors - first);
        step = width * VL;
        return panels + (int64_t)first * pairs * VL + (vector - first) * VL;
    }
    static Packed of(const float *matrix, int given, int channels) {  // [channels][given]
        Packed to(given, channels);
        std::vector<bf16> row(2 * to.pairs, bf16{0});
        for (int c = 0; c < channels; c++) {
            for (int k = 0; k < given; k += VL) store(&row[k], load(matrix + (int64_t)c * given + k, given - k), given - k);
            int step;
            uint32_t *column = to.column(c / VL, step) + c % VL;
            for (int pair = 0; pair < to.pairs; pair++) std::memcpy(column + (int64_t)pair * step, &row[2 * pair], 4);
        }
        return to;
    }
    static Packed of_transposed(const float *matrix, int given, int channels) {  // [given][channels]
        Packed to(given, channels);
        for (int vector = 0; vector < to.vectors; vector++) {
            const int c = vector * VL, count = channels - c;
            int step;
            uint32_t *column = to.column(vector, step);
            for (int pair = 0; pair < to.pairs; pair++, column += step) {
                const float *from = matrix + (int64_t)2 * pair * channels + c;
                const vh one = round_to_bf16(load(from, count));
                const vh two = 2 * pair + 1 < given ? round_to_bf16(load(from + channels, count)) : vh{};
                const vu both = __builtin_convertvector(one, vu) | __builtin_convertvector(two, vu) << 16;
                std::memcpy(column, &both, sizeof both);
            }
        }
        return to;
    }
};

// Where the sums of products go, the vector at channel c of row r: sine layers' values, those that are wanted, and derivatives;
struct ToSines {
    const float *bias;
    float *out;
    bf16 *derivative, *copy;
    int channels;
    void operator()(vf sum, int64_t row, int c, float *) const {
        const int count = channels - c;
        const int64_t i = row * channels + c;
        vf s, o;
        sine_cosine(sum + load(bias + c, count), s, o);
        if (out) store(out + i, s, count);
        store(derivative + i, o, count);
        if (copy) store(copy + i, s, count);
    }
};

// as they are;
template <class T> struct ToValues {
    T *out;
    int channels;
    void operator()(vf sum, int64_t row, int c, float *) const { store(out + row * channels + c, sum, channels - c); }
};

// or backwards, times the derivatives of the layer before, and added up over rows.
struct ToGradients {
    const bf16 *derivative;
    bf16 *out;
    int channels;
    void operator()(vf sum, int64_t row, int c, float *sums) const {
        const int count = channels - c;
        const int64_t i = row * channels + c;
        const vf g = sum * load(derivative + i, count);
        store(out + i, g, count);
        store(sums + c, load(sums + c, VL) + g, VL);
    }
};

template <int R, int V, class To>
void tile(const bf16 *x, const Packed &matrix, int first, int64_t row, const To &to, float *sums) {
    const int given = matrix.given;
    const uint32_t *panel = matrix.panels + (int64_t)first * matrix.pairs * VL;
    __m512 sum[R][V];
    for (int r = 0; r < R; r++)
        for (int v = 0; v < V; v++) sum[r][v] = _mm512_setzero_ps();
    for (int pair = 0; pair < matrix.pairs; pair++, panel += V * VL) {
        __m512bh weights[V];
        for (int v = 0; v < V; v++) weights[v] = (__m512bh)_mm512_load_si512(panel + v * VL);
        for (int r = 0; r < R; r++) {
            const bf16 *from = x + (row + r) * given + 2 * pair;
            uint32_t two = 0;
            if (2 * pair + 1 < given) std::memcpy(&two, from, 4);
            else two = from->bits;
            const __m512bh inputs = (__m512bh)_mm512_set1_epi32(two);
            for (int v = 0; v < V; v++) sum[r][v] = _mm512_dpbf16_ps(sum[r][v], inputs, weights[v]);
        }
    }
    for (int r = 0; r < R; r++)
        for (int v = 0; v < V; v++) to((vf)sum[r][v], row + r, (first + v) * VL, sums);
}

template <int V, class To>
void tiles(const bf16 *x, const Packed &matrix, int first, int64_t row, int64_t end, const To &to, float *sums) {
    for (; row + ROWS <= end; row += ROWS) tile<ROWS, V>(x, matrix, first, row, to, sums);
    for (; row < end; row++) tile<1, V>(x, matrix, first, row, to, sums);
}

template <class To>
void blocks(const bf16 *x, const Packed &matrix, int64_t row, int64_t end, const To &to, float *sums) {
    for (int first = 0; first < matrix.vectors; first += matrix.most)
        switch (std::min(matrix.most, matrix.vectors - first)) {
            case 1: tiles<1>(x, matrix, first, row, end, to, sums); break;
            case 2: tiles<2>(x, matrix, first, row, end, to, sums); break;
            case 3: tiles<3>(x, matrix, first, row, end, to, sums); break;
            case 4: tiles<4>(x, matrix, first, row, end, to, sums); break;
            case 5: tiles<5>(x, matrix, first, row, end, to, sums); break;
            default: tiles<6>(x, matrix, first, row, end, to, sums);
        }
}

// x [rows][given] times the matrix; ``sums`` [channels], where the results' sums over the rows are wanted.
template <class To>
void multiply(const bf16 *x, int64_t rows, const Packed &matrix, const To &to, float *sums, int threads) {
    const int64_t chunks = (rows + CHUNK - 1) / CHUNK;
    const int parts = (int)std::min<int64_t>(std::max(threads, 1), std::max<int64_t>(chunks, 1)), padded = matrix.vectors * VL;
    std::vector<float> all((int64_t)parts * padded, 0.0f);
    share(parts, parts, 1, [&](int64_t part, int) {
        std::vector<float> some(padded);
        for (int64_t chunk = chunks * part / parts; chunk < chunks * (part + 1) / parts; chunk++) {
            const int64_t row = chunk * CHUNK, end = std::min(row + CHUNK, rows);
            std::fill(some.begin(), some.end(), 0.0f);
            blocks(x, matrix, row, end, to, some.data());
            for (int c = 0; sums && c < padded; c++) all[part * padded + c] += some[c];
        }
    });
    for (int c = 0; sums && c < matrix.channels; c++) {
        sums[c] = 0;
        for (int part = 0; part < parts; part++) sums[c] += all[(int64_t)part * padded + c];
    }
}

#endif

// gradient *= derivative, and the sum of its rows.
template <class T>
void turn(T *gradient, const T *derivative, int64_t rows, int channels, float *sums, int threads) {
    const int parts = threads > 1 ? threads : 1;
    std::vector<float> all((int64_t)parts * channels, 0.0f);
    float *const sums_of_parts = all.data();
    share(parts, parts, 1, [=](int64_t part, int) {
        float *sum = sums_of_parts + part * channels;
        const int64_t end = rows * (part + 1) / parts;
        for (int64_t first = rows * part / parts; first < end; first += TOGETHER)
            for (int c = 0; c < channels; c += VL) {
                const int count = channels - c;
                vf some = {};
                for (int64_t r = first; r < std::min<int64_t>(first + TOGETHER, end); r++) {
                    const vf g = load(gradient + r * channels + c, count) * load(derivative + r * channels + c, count);
                    store(gradient + r * channels + c, g, count);
                    some += g;
                }
                store(sum + c, load(sum + c, count) + some, count);
            }
    });
    for (int c = 0; c < channels; c++) {
        sums[c] = 0;
        for (int part = 0; part < parts; part++) sums[c] += all[(int64_t)part * channels + c];
    }
}

// Backwards through enter: what the plane and the level below get. to_plane [m][3][channels], to_raised like raised.
template <class T>
void leave(const T *gradient, const T *derivative, Doubling doubling, const float *coordinates, int64_t m, int64_t each,
           int points, int channels, float *to_plane, T *to_raised, int threads) {
    const int line = to_raised ? doubling.t : TOGETHER;
    const int s = to_raised ? doubling.s : 0;
    share(m, threads, 1, [=](int64_t pose, int) {
        float *across = to_plane + pose * 3 * channels, *down = across + channels, *constant = down + channels;
        std::memset(across, 0, 3 * channels * sizeof(float));
        const int64_t wide = (int64_t)s * channels;
        std::vector<float> square(s * wide), row((int64_t)s * VL);
        for (int64_t i = pose * each; i < (pose + 1) * each; i++) {
            std::fill(square.begin(), square.end(), 0.0f);
            for (int y = 0; y * line < points; y++) {
                const int64_t first = i * points + y * line;
                const int width = std::min(line, points - y * line);
                for (int c = 0; c < channels; c += VL) {
                    const int count = channels - c;
                    vf gx = {}, gy = {}, g0 = {};
                    std::fill(row.begin(), row.end(), 0.0f);
                    for (int x = 0; x < width; x++) {
                        const int64_t from = (first + x) * channels + c;
                        const vf g = load(gradient + from, count) * load(derivative + from, count);
                        gx += g * coordinates[2 * (first + x)], gy += g * coordinates[2 * (first + x) + 1], g0 += g;
                        if (!to_raised) continue;
                        float *a = &row[doubling.low[x] * VL];
                        store(a, load(a, VL) + g * doubling.at(0, x), VL);
                        if (doubling.at(1, x) != 0) store(a + VL, load(a + VL, VL) + g * doubling.at(1, x), VL);
                    }
                    store(across + c, load(across + c, count) + gx, count);
                    store(down + c, load(down + c, count) + gy, count);
                    store(constant + c, load(constant + c, count) + g0, count);
                    float *a = s ? &square[doubling.low[y] * wide + c] : nullptr;
                    for (int k = 0; k < s; k++, a += channels) {
                        const vf g = load(&row[k * VL], VL);
                        store(a, load(a, count) + g * doubling.at(0, y), count);
                        if (doubling.at(1, y) != 0) store(a + wide, load(a + wide, count) + g * doubling.at(1, y), count);
                    }
                }
            }
            for (int64_t c = 0; c < s * wide; c += VL) {
                const int count = std::min<int64_t>(VL, s * wide - c);
                store(to_raised + i * s * wide + c, load(&square[c], count), count);
            }
        }
    });
}

}  // namespace

#define EXPORT(T, NAME)                                                                                                  \
    void level_enter_##NAME(const float *raised, const int32_t *low, const float *weight, int s, int t,                  \
                            const float *coordinates, const float *plane, int64_t n, int64_t each, int points,           \
                            int channels, float *out, void *derivative, void *copy, int threads) {                            \
        enter(raised, {low, weight, s, t}, coordinates, plane, n, each, points, channels, out, (T *)derivative, (T *)copy,    \
              threads);                                                                                                  \
    }                                                                                                                    \
    void level_sine_##NAME(float *phase, const float *bias, int64_t rows, int channels, void *derivative, void *copy,         \
                           int threads) {                                                                                \
        sine(phase, bias, rows, channels, (T *)derivative, (T *)copy, threads);                                               \
    }                                                                                                                    \
    void level_turn_##NAME(void *gradient, const void *derivative, int64_t rows, int channels, float *sums, int threads) {    \
        turn((T *)gradient, (const T *)derivative, rows, channels, sums, threads);                                            \
    }                                                                                                                    \
    void level_leave_##NAME(const void *gradient, const void *derivative, const int32_t *low, const float *weight, int s,     \
                            int t, const float *coordinates, int64_t m, int64_t each, int points, int channels,          \
                            float *to_plane, void *to_raised, int threads) {                                             \
        leave((const T *)gradient, (const T *)derivative, {low, weight, s, t}, coordinates, m, each, points, channels,        \
              to_plane, (T *)to_raised, threads);                                                                        \
    }

extern "C" {
EXPORT(float, f32)
EXPORT(bf16, bf16)

int level_multiplies() {
#if defined(__AVX512BF16__)
    return 1;
#else
    return 0;
#endif
}

#if defined(__AVX512BF16__)
// x [rows][given] times the transposed matrix [channels][given], which is rounded to bfloat16 here: sin(that + bias) to out
// and copy, those that are wanted, and its derivatives; without a place for derivatives, itself to out.
void level_layer(const bf16 *x, int64_t rows, int given, const float *matrix, int channels, const float *bias, float *out,
                 bf16 *derivative, bf16 *copy, int threads) {
    const Packed packed = Packed::of(matrix, given, channels);
    if (derivative) multiply(x, rows, packed, ToSines{bias, out, derivative, copy, channels}, nullptr, threads);
    else multiply(x, rows, packed, ToValues<float>{out, channels}, nullptr, threads);
}

// Backwards through it: gradient [rows][given] times the matrix [given][channels], times the derivatives of the layer before where
// there are any, and that summed over the rows.
void level_back(const bf16 *gradient, int64_t rows, int given, const float *matrix, int channels, const bf16 *derivative,
                bf16 *out, float *sums, int threads) {
    const Packed packed = Packed::of_transposed(matrix, given, channels);
    if (derivative) multiply(gradient, rows, packed, ToGradients{derivative, out, channels}, sums, threads);
    else multiply(gradient, rows, packed, ToValues<bf16>{out, channels}, nullptr, threads);
}
#endif
}
