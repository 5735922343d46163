// What a SIREN level does besides its matrix products, forwards and backwards, in one pass each; called by level.py.
// Forwards the products too, where the processor multiplies bfloat16: sums of such products stay float.
//
// Rows are pixels, channels contiguous. What the backward pass needs is kept in T: float, or bfloat16 where the processor
// multiplies that. Channels are handled in vectors, the last one partly filled.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int VL = 16;
#else
constexpr int VL = 8;
#endif

typedef float vf __attribute__((vector_size(VL * 4)));
typedef int32_t vi __attribute__((vector_size(VL * 4)));
typedef uint32_t vu __attribute__((vector_size(VL * 4)));
typedef uint16_t vh __attribute__((vector_size(VL * 2)));

struct bf16 { uint16_t bits; };

inline vf load(const float *p, int count) {
    vf v = {};
    if (count >= VL) std::memcpy(&v, p, sizeof v);
    else std::memcpy(&v, p, count * sizeof(float));
    return v;
}
inline void store(float *p, vf v, int count) {
    if (count >= VL) std::memcpy(p, &v, sizeof v);
    else std::memcpy(p, &v, count * sizeof(float));
}
inline vf load(const bf16 *p, int count) {
    vh h = {};
    if (count >= VL) std::memcpy(&h, p, sizeof h);
    else std::memcpy(&h, p, count * sizeof(bf16));
    return (vf)(__builtin_convertvector(h, vu) << 16);
}
inline void store(bf16 *p, vf v, int count) {
    const vu bits = (vu)v;
    const vh h = __builtin_convertvector((bits + 0x7fff + ((bits >> 16) & 1)) >> 16, vh);  // to nearest, ties to even
    if (count >= VL) std::memcpy(p, &h, sizeof h);
    else std::memcpy(p, &h, count * sizeof(bf16));
}

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

template <class T>
void enter(const float *raised, Doubling doubling, const float *coordinates, const float *plane, int64_t n, int64_t each,
           int points, int channels, float *out, T *slope, T *copy, int threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int64_t i = 0; i < n; i++) {
        const float *across = plane + i / each * 3 * channels, *down = across + channels, *constant = down + channels;
        std::vector<float> row(raised ? (int64_t)doubling.s * channels : 0);
        for (int64_t p = 0; p < points; p++) {
            const int64_t pixel = i * points + p;
            const int column = raised ? p % doubling.t : 0, line = raised ? p / doubling.t : 0;
            if (raised && column == 0) {  // the two rows of the level below, mixed once for the whole row
                const float *a = raised + ((int64_t)i * doubling.s + doubling.low[line]) * doubling.s * channels;
                const float *b = a + (int64_t)doubling.s * channels;
                const float wa = doubling.at(0, line), wb = doubling.at(1, line);
                for (int64_t c = 0; c < (int64_t)row.size(); c += VL) {
                    const int count = row.size() - c;
                    store(&row[c], load(a + c, count) * wa + (wb != 0 ? load(b + c, count) * wb : vf{}), count);
                }
            }
            const float x = coordinates[2 * pixel], y = coordinates[2 * pixel + 1];
            for (int c = 0; c < channels; c += VL) {
                const int count = channels - c;
                vf phase = load(across + c, count) * x + load(down + c, count) * y + load(constant + c, count);
                if (raised) {
                    const float *a = &row[(int64_t)doubling.low[column] * channels + c];
                    phase += load(a, count) * doubling.at(0, column);
                    if (doubling.at(1, column) != 0) phase += load(a + channels, count) * doubling.at(1, column);
                }
                vf sine, cosine;
                sine_cosine(phase, sine, cosine);
                if (out) store(out + pixel * channels + c, sine, count);
                store(slope + pixel * channels + c, cosine, count);
                if (copy) store(copy + pixel * channels + c, sine, count);
            }
        }
    }
}

// sin(phase + bias) in place, its slopes, and a copy in T where one is wanted.
template <class T>
void sine(float *phase, const float *bias, int64_t rows, int channels, T *slope, T *copy, int threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int64_t r = 0; r < rows; r++)
        for (int c = 0; c < channels; c += VL) {
            const int count = channels - c;
            const int64_t i = r * channels + c;
            vf s, o;
            sine_cosine(load(phase + i, count) + load(bias + c, count), s, o);
            store(phase + i, s, count);
            store(slope + i, o, count);
            if (copy) store(copy + i, s, count);
        }
}

#if defined(__AVX512BF16__)

constexpr int ROWS = 4, VECTORS = 6;  // of a tile at the most: 24 sums, 6 of the matrix's vectors and a pair of inputs
constexpr int64_t CHUNK = 64;         // rows that a thread takes at a time: they and the matrix stay in its cache

// A matrix [channels][given] in bfloat16 as tiles read it: blocks of vectors of channels; in each, by pairs of inputs.
struct Packed {
    std::vector<uint32_t> content;
    const uint32_t *panels;  // at a cache line
    int given, channels, pairs, vectors, most;

    Packed(const float *matrix, int given, int channels)
        : given(given), channels(channels), pairs((given + 1) / 2), vectors((channels + VL - 1) / VL) {
        const int blocks = (vectors + VECTORS - 1) / VECTORS;
        most = (vectors + blocks - 1) / blocks;
        content.assign((int64_t)vectors * pairs * VL + 16, 0);
        uint32_t *to = (uint32_t *)(((uintptr_t)content.data() + 63) / 64 * 64);
        panels = to;
        std::vector<bf16> row(2 * pairs, bf16{0});
        for (int c = 0; c < channels; c++) {
            for (int k = 0; k < given; k += VL) store(&row[k], load(matrix + (int64_t)c * given + k, given - k), given - k);
            const int vector = c / VL, first = vector / most * most, width = std::min(most, vectors - first);
            uint32_t *column = to + (int64_t)first * pairs * VL + (vector - first) * VL + c % VL;
            for (int pair = 0; pair < pairs; pair++) std::memcpy(column + (int64_t)pair * width * VL, &row[2 * pair], 4);
        }
    }
};

// Where a layer's results go: sin(sum + bias) to out and copy, those that are wanted, its slopes; without slopes the sum to out.
struct Ends {
    const float *bias;
    float *out;
    bf16 *slope, *copy;
};

template <int R, int V>
void tile(const bf16 *x, const Packed &matrix, int first, int64_t row, const Ends &ends) {
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
        for (int v = 0; v < V; v++) {
            const int c = (first + v) * VL, count = matrix.channels - c;
            const int64_t i = (row + r) * matrix.channels + c;
            if (!ends.slope) {
                store(ends.out + i, (vf)sum[r][v], count);
                continue;
            }
            vf s, o;
            sine_cosine((vf)sum[r][v] + load(ends.bias + c, count), s, o);
            if (ends.out) store(ends.out + i, s, count);
            store(ends.slope + i, o, count);
            if (ends.copy) store(ends.copy + i, s, count);
        }
}

template <int V>
void tiles(const bf16 *x, const Packed &matrix, int first, int64_t row, int64_t end, const Ends &ends) {
    for (; row + ROWS <= end; row += ROWS) tile<ROWS, V>(x, matrix, first, row, ends);
    for (; row < end; row++) tile<1, V>(x, matrix, first, row, ends);
}

void layer(const bf16 *x, int64_t rows, const Packed &matrix, const Ends &ends, int threads) {
    const auto run = [&](int64_t row, int64_t end) {
        for (int first = 0; first < matrix.vectors; first += matrix.most)
            switch (std::min(matrix.most, matrix.vectors - first)) {
                case 1: tiles<1>(x, matrix, first, row, end, ends); break;
                case 2: tiles<2>(x, matrix, first, row, end, ends); break;
                case 3: tiles<3>(x, matrix, first, row, end, ends); break;
                case 4: tiles<4>(x, matrix, first, row, end, ends); break;
                case 5: tiles<5>(x, matrix, first, row, end, ends); break;
                default: tiles<6>(x, matrix, first, row, end, ends);
            }
    };
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int64_t row = 0; row < rows; row += CHUNK) run(row, std::min(row + CHUNK, rows));
}

#endif

// gradient *= slope, and the sum of its rows.
template <class T>
void turn(T *gradient, const T *slope, int64_t rows, int channels, float *sums, int threads) {
    const int parts = threads > 1 ? threads : 1;
    std::vector<float> all((int64_t)parts * channels, 0.0f);
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int part = 0; part < parts; part++) {
        float *sum = &all[(int64_t)part * channels];
        for (int64_t r = rows * part / parts; r < rows * (part + 1) / parts; r++)
            for (int c = 0; c < channels; c += VL) {
                const int count = channels - c;
                const vf g = load(gradient + r * channels + c, count) * load(slope + r * channels + c, count);
                store(gradient + r * channels + c, g, count);
                store(sum + c, load(sum + c, count) + g, count);
            }
    }
    for (int c = 0; c < channels; c++) {
        sums[c] = 0;
        for (int part = 0; part < parts; part++) sums[c] += all[(int64_t)part * channels + c];
    }
}

// Backwards through enter: what the plane and the level below get. to_plane [m][3][channels], to_raised like raised.
template <class T>
void leave(const T *gradient, const T *slope, Doubling doubling, const float *coordinates, int64_t m, int64_t each,
           int points, int channels, float *to_plane, T *to_raised, int threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int64_t pose = 0; pose < m; pose++) {
        float *across = to_plane + pose * 3 * channels, *down = across + channels, *constant = down + channels;
        std::memset(across, 0, 3 * channels * sizeof(float));
        const int64_t below = (int64_t)doubling.s * doubling.s * channels;
        std::vector<float> square(to_raised ? below : 0), row(to_raised ? (int64_t)doubling.s * channels : 0);
        for (int64_t i = pose * each; i < (pose + 1) * each; i++) {
            std::fill(square.begin(), square.end(), 0.0f);
            for (int64_t p = 0; p < points; p++) {
                const int64_t pixel = i * points + p;
                const int column = to_raised ? p % doubling.t : 0, line = to_raised ? p / doubling.t : 0;
                if (to_raised && column == 0) std::fill(row.begin(), row.end(), 0.0f);
                const float x = coordinates[2 * pixel], y = coordinates[2 * pixel + 1];
                for (int c = 0; c < channels; c += VL) {
                    const int count = channels - c;
                    const vf g = load(gradient + pixel * channels + c, count) * load(slope + pixel * channels + c, count);
                    store(across + c, load(across + c, count) + g * x, count);
                    store(down + c, load(down + c, count) + g * y, count);
                    store(constant + c, load(constant + c, count) + g, count);
                    if (!to_raised) continue;
                    float *a = &row[(int64_t)doubling.low[column] * channels + c];
                    store(a, load(a, count) + g * doubling.at(0, column), count);
                    if (doubling.at(1, column) != 0)
                        store(a + channels, load(a + channels, count) + g * doubling.at(1, column), count);
                }
                if (to_raised && column == doubling.t - 1) {
                    float *a = &square[(int64_t)doubling.low[line] * row.size()];
                    const float wa = doubling.at(0, line), wb = doubling.at(1, line);
                    for (int64_t c = 0; c < (int64_t)row.size(); c += VL) {
                        const int count = row.size() - c;
                        const vf g = load(&row[c], count);
                        store(a + c, load(a + c, count) + g * wa, count);
                        if (wb != 0) store(a + row.size() + c, load(a + row.size() + c, count) + g * wb, count);
                    }
                }
            }
            if (to_raised)
                for (int64_t c = 0; c < below; c += VL) {
                    const int count = below - c;
                    store(to_raised + i * below + c, load(&square[c], count), count);
                }
        }
    }
}

}  // namespace

#define EXPORT(T, NAME)                                                                                                  \
    void level_enter_##NAME(const float *raised, const int32_t *low, const float *weight, int s, int t,                  \
                            const float *coordinates, const float *plane, int64_t n, int64_t each, int points,           \
                            int channels, float *out, void *slope, void *copy, int threads) {                            \
        enter(raised, {low, weight, s, t}, coordinates, plane, n, each, points, channels, out, (T *)slope, (T *)copy,    \
              threads);                                                                                                  \
    }                                                                                                                    \
    void level_sine_##NAME(float *phase, const float *bias, int64_t rows, int channels, void *slope, void *copy,         \
                           int threads) {                                                                                \
        sine(phase, bias, rows, channels, (T *)slope, (T *)copy, threads);                                               \
    }                                                                                                                    \
    void level_turn_##NAME(void *gradient, const void *slope, int64_t rows, int channels, float *sums, int threads) {    \
        turn((T *)gradient, (const T *)slope, rows, channels, sums, threads);                                            \
    }                                                                                                                    \
    void level_leave_##NAME(const void *gradient, const void *slope, const int32_t *low, const float *weight, int s,     \
                            int t, const float *coordinates, int64_t m, int64_t each, int points, int channels,          \
                            float *to_plane, void *to_raised, int threads) {                                             \
        leave((const T *)gradient, (const T *)slope, {low, weight, s, t}, coordinates, m, each, points, channels,        \
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
// x [rows][given] times the transposed matrix [channels][given], which is rounded to bfloat16 here; see Ends for the rest.
void level_layer(const bf16 *x, int64_t rows, int given, const float *matrix, int channels, const float *bias, float *out,
                 void *slope, void *copy, int threads) {
    layer(x, rows, Packed(matrix, given, channels), {bias, out, (bf16 *)slope, (bf16 *)copy}, threads);
}
#endif
}
