// The student's frame in one pass over cache-sized blocks of pixels; built by kernels/build.py, driven by native.py.
//
// A block is P pixels, NV vectors of VL lanes: a lane is a pixel, so a weight is one broadcast and no channel count is
// padded to a vector's width. A vector is two segments: H pixels of a row each, anywhere in the image. A level takes a block through all its layers while the activations stay in the nearest cache;
// what a level hands to the next (its features times the next level's first matrix, which commutes with the bilinear
// upsampling) goes to a plane of rows [y][channel][x], which is read back with four short loads and two shuffles.
// Phases are in half-turns: sin(pi t), t = W x + b with omega / pi already in W and b.

#include <cmath>
#include <cstdint>
#include <cstring>

#include "pairs.hpp"
#include "threads.hpp"
#include "vectors.hpp"

namespace {

constexpr int NV = 3;
constexpr int P = VL * NV;
constexpr int H = VL / 2;

typedef float segment __attribute__((vector_size(H * 4)));
typedef float v4 __attribute__((vector_size(16)));

inline vi loadi(const int32_t *p) { vi v; std::memcpy(&v, p, sizeof v); return v; }
inline void storei(int32_t *p, vi v) { std::memcpy(p, &v, sizeof v); }
inline vf fill(float x) { return vf{} + x; }
inline vf join(segment a, segment b) {
#if defined(__AVX512F__)
    return __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#else
    return __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7);
#endif
}
inline vf load_two(const float *p, const float *q) {
    segment a, b;
    std::memcpy(&a, p, sizeof a);
    std::memcpy(&b, q, sizeof b);
    return join(a, b);
}
inline void store_two(float *p, float *q, vf v) {
    std::memcpy(p, &v, H * 4);
    std::memcpy(q, (const float *)&v + H, H * 4);
}
inline vf to_float(vi x) { return __builtin_convertvector(x, vf); }
inline vf lower(vf a, vf b) { return a < b ? a : b; }
inline vf higher(vf a, vf b) { return a > b ? a : b; }

// How a layer's input is held, one 32-bit word a lane: one float, or two int16 of consecutive channels.
enum Format { F32 = 0, I16 = 1, LINEAR = 2 };
constexpr int group(int format) { return format == I16 ? 2 : 1; }

constexpr int I16_ONE = 4095;     // what sin = 1 becomes: 13 bits, so that a row's products fit 32
constexpr float MAGIC = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits

// t less its nearest integer, and that integer's last bit as a sign.
inline vf reduce(vf t, vi &flip) {
    const vf turned = t + MAGIC;
    flip = ((vi)turned) << 31;
#if defined(__AVX512DQ__)
    return (vf)_mm512_reduce_ps((__m512)t, 0);
#else
    return t - (turned - MAGIC);
#endif
}

// sin(pi t). Odd minimax polynomials on half a turn; greatest errors 5e-9 and, rounded, 7e-5 of 1.
inline vf sine(vf t) {
    vi flip;  // odd half-turns change the sign
    const vf r = reduce(t, flip), q = r * r;
    const vf s = (((0.07707987f * q - 0.59796161f) * q + 2.55001437f) * q - 5.16770554f) * q + 3.14159255f;
    return (vf)(((vi)(s * r)) ^ flip);
}

// The nearest integer to I16_ONE * sin(pi t), in the low bits of each lane.
inline vi rounded_sine(vf t) {
    vi flip;
    const vf r = reduce(t, flip), q = r * r;
    const vf s = (2.29954734f * I16_ONE * q - 5.13690534f * I16_ONE) * q + 3.14064004f * I16_ONE;
    return (vi)(s * (vf)((vi)r ^ flip) + MAGIC);
}

// Sines of group(FORMAT) consecutive channels -> one word a lane.
template <int FORMAT> inline void pack(const vf *phase, int32_t *word) {
    if constexpr (FORMAT == F32) {
        storei(word, (vi)sine(phase[0]));
    } else {
        const vi a = rounded_sine(phase[0]), b = rounded_sine(phase[1]);
#if defined(__AVX2__) && !defined(__AVX512F__)
        storei(word, (vi)_mm256_blend_epi16((__m256i)a, (__m256i)(b << 16), 0xaa));
#else
        storei(word, (a & 0xffff) | (b << 16));
#endif
    }
}

struct Layer {
    int32_t in_words;   // rows of the input: channels / group
    int32_t rows;       // output channels a main block: 9, 8 or 4
    int32_t blocks;     // main blocks
    int32_t tail;       // 1: four channels more
    int32_t in_format, out_format;
    const int32_t *weights;  // [block][in_words][rows], words as the input's
    const float *bias, *scale;  // an output channel each; scale only where the input is of integers
};

struct Stage {
    int32_t size;       // image side
    int32_t below_size;  // side of the plane it upsamples; 0: none
    int32_t first_channels;  // padded to the group of first_format
    int32_t first_format;
    int32_t n_layers;
    int32_t out_channels;  // of the last layer, padded
    int32_t n_segments;
    int32_t pose_size;
    const float *pose_matrix;  // [first_channels][pose_size]
    const float *pose_bias;    // [first_channels]
    float *shift;              // [first_channels], this frame's
    const float *wx, *wy;      // [first_channels]
    const Layer *layers;
    const int32_t *segments;   // [n_segments][2]: y, x of H pixels in a row; x is even
    float *plane;              // what it hands on: [size][out_channels][stride]
};

inline int stride_of(int size) { return (size + 2 + VL + 15) / 16 * 16; }

// Sums of products of R channels with a block. Its accumulators fill the registers, so what follows is a function apart.
template <int IN, int R> inline void multiply(const int32_t *in, int words, const int32_t *w, int32_t *sums) {
    if constexpr (IN == F32) {
        vf sum[R][NV];
#pragma GCC unroll 16
        for (int r = 0; r < R; r++)
#pragma GCC unroll 4
            for (int v = 0; v < NV; v++) sum[r][v] = vf{};
        const float *a = (const float *)in;
        const float *wf = (const float *)w;
        for (int k = 0; k < words; k++, a += P, wf += R) {
            vf x[NV];
#pragma GCC unroll 4
            for (int v = 0; v < NV; v++) x[v] = load(a + v * VL);
            HOLD(x, NV);
#pragma GCC unroll 16
            for (int r = 0; r < R; r++) {
#pragma GCC unroll 4
                for (int v = 0; v < NV; v++) sum[r][v] += wf[r] * x[v];
            }
        }
#pragma GCC unroll 16
        for (int r = 0; r < R; r++)
#pragma GCC unroll 4
            for (int v = 0; v < NV; v++) storei(sums + r * P + v * VL, (vi)sum[r][v]);
    } else {
#if defined(__AVX512VNNI__)
        __m512i sum[R][NV];
#pragma GCC unroll 16
        for (int r = 0; r < R; r++)
#pragma GCC unroll 4
            for (int v = 0; v < NV; v++) sum[r][v] = _mm512_setzero_si512();
        for (int k = 0; k < words; k++, in += P, w += R) {
            __m512i x[NV];
#pragma GCC unroll 4
            for (int v = 0; v < NV; v++) x[v] = _mm512_loadu_si512(in + v * VL);
#pragma GCC unroll 16
            for (int r = 0; r < R; r++) {
                __m512i y = _mm512_set1_epi32(w[r]);
#pragma GCC unroll 4
                for (int v = 0; v < NV; v++)
                    sum[r][v] = _mm512_dpwssd_epi32(sum[r][v], x[v], y);
            }
        }
#pragma GCC unroll 16
        for (int r = 0; r < R; r++)
#pragma GCC unroll 4
            for (int v = 0; v < NV; v++) _mm512_storeu_si512(sums + r * P + v * VL, sum[r][v]);
#elif defined(PAIR_PRODUCTS)
        vi sum[R][NV];
#pragma GCC unroll 16
        for (int r = 0; r < R; r++)
#pragma GCC unroll 4
            for (int v = 0; v < NV; v++) sum[r][v] = vi{};
        for (int k = 0; k < words; k++, in += P, w += R) {
            vi x[NV];
#pragma GCC unroll 4
            for (int v = 0; v < NV; v++) x[v] = loadi(in + v * VL);
            HOLD(x, HELD_PAIRS);
#pragma GCC unroll 16
            for (int r = 0; r < R; r++) {
                const vi y = vi{} + w[r];
#pragma GCC unroll 4
                for (int v = 0; v < NV; v++) sum[r][v] = add_pairs(sum[r][v], x[v], y);
            }
        }
#pragma GCC unroll 16
        for (int r = 0; r < R; r++)
#pragma GCC unroll 4
            for (int v = 0; v < NV; v++) storei(sums + r * P + v * VL, sum[r][v]);
#endif
    }
}

// Sums -> phases -> sines, packed for the next layer (or the phases themselves).
template <int IN, int OUT>
__attribute__((noinline)) void finish(const int32_t *sums, int rows, const float *bias, const float *scale, int32_t *out) {
    constexpr int G = OUT == LINEAR ? 1 : group(OUT);
    for (int r = 0; r < rows; r += G, sums += G * P, out += P) {
#pragma GCC unroll 4
        for (int v = 0; v < NV; v++) {
            vf phase[G];
#pragma GCC unroll 4
            for (int g = 0; g < G; g++) {
                vi sum = loadi(sums + g * P + v * VL);
                if constexpr (IN == F32) phase[g] = (vf)sum + bias[r + g];
                else phase[g] = to_float(sum) * scale[r + g] + bias[r + g];
            }
            if constexpr (OUT == LINEAR) storei(out + v * VL, (vi)phase[0]);
            else pack<OUT>(phase, out + v * VL);
        }
    }
}

template <int IN, int OUT, int R>
inline void block(const int32_t *in, int words, const int32_t *w, const float *bias, const float *scale, int32_t *out) {
    alignas(64) int32_t sums[R * P];
    multiply<IN, R>(in, words, w, sums);
    finish<IN, OUT>(sums, R, bias, scale, out);
}

template <int IN, int OUT, int R> void layer_rows(const Layer &layer, const int32_t *in, int32_t *out) {
    constexpr int G = group(OUT);
    const int32_t *w = layer.weights;
    int c = 0;
    for (int b = 0; b < layer.blocks; b++, c += R, w += layer.in_words * R)
        block<IN, OUT, R>(in, layer.in_words, w, layer.bias + c, layer.scale + c, out + c / G * P);
    if (layer.tail) block<IN, OUT, 4>(in, layer.in_words, w, layer.bias + c, layer.scale + c, out + c / G * P);
}

template <int IN, int OUT> void layer_to(const Layer &layer, const int32_t *in, int32_t *out) {
    if constexpr (group(OUT) == 1) {
        if (layer.rows == 9) return layer_rows<IN, OUT, 9>(layer, in, out);
    }
    if (layer.rows == 8) return layer_rows<IN, OUT, 8>(layer, in, out);
    layer_rows<IN, OUT, 4>(layer, in, out);
}

template <int IN> void layer_from(const Layer &layer, const int32_t *in, int32_t *out) {
    if (layer.out_format == F32) return layer_to<IN, F32>(layer, in, out);
#if defined(PAIR_PRODUCTS)
    if (layer.out_format == I16) return layer_to<IN, I16>(layer, in, out);
#endif
    layer_to<IN, LINEAR>(layer, in, out);
}

void run_layer(const Layer &layer, const int32_t *in, int32_t *out) {
#if defined(PAIR_PRODUCTS)
    if (layer.in_format == I16) return layer_from<I16>(layer, in, out);
#endif
    layer_from<F32>(layer, in, out);
}

// Two segments of the doubled plane: rows first (the nearer weighs 3/4), then columns by shuffles.
struct Doubling {
    const float *near[2], *far[2];

    Doubling(const float *plane, int size, int channels, const int32_t *segments) {
        const long row = (long)channels * stride_of(size);
        for (int i = 0; i < 2; i++) {
            const int y = segments[2 * i], x = segments[2 * i + 1], half = y >> 1;
            int other = (y & 1) ? half + 1 : half - 1;
            other = other < 0 ? 0 : other > size - 1 ? size - 1 : other;
            near[i] = plane + half * row + (x >> 1);  // column -1 is stored first, so this is column x/2 - 1
            far[i] = plane + other * row + (x >> 1);
        }
    }

    // Asks for the row of a later channel, which lies too far from this one's for the processor to foresee.
    void expect(long offset) const {
        for (int i = 0; i < 2; i++) {
            __builtin_prefetch(near[i] + offset);
            __builtin_prefetch(far[i] + offset);
        }
    }

    vf at(long offset) const {
        const vf v = 0.75f * load_two(near[0] + offset, near[1] + offset) + 0.25f * load_two(far[0] + offset, far[1] + offset);
#if defined(__AVX512F__)
        const vf close = __builtin_shufflevector(v, v, 1, 1, 2, 2, 3, 3, 4, 4, 9, 9, 10, 10, 11, 11, 12, 12);
        const vf wide = __builtin_shufflevector(v, v, 0, 2, 1, 3, 2, 4, 3, 5, 8, 10, 9, 11, 10, 12, 11, 13);
#else
        const vf close = __builtin_shufflevector(v, v, 1, 1, 2, 2, 5, 5, 6, 6);
        const vf wide = __builtin_shufflevector(v, v, 0, 2, 1, 3, 4, 6, 5, 7);
#endif
        return 0.75f * close + 0.25f * wide;
    }
};

// Positions of two segments' pixels.
inline vf columns(const int32_t *segments, int size) {
    vi x;
    for (int i = 0; i < VL; i++) x[i] = 2 * (segments[2 * (i / H) + 1] + i % H) + 1;
    return to_float(x) / (float)size - 1.0f;
}

inline vf rows(const int32_t *segments, int size) {
    vi y;
    for (int i = 0; i < VL; i++) y[i] = 2 * segments[2 * (i / H)] + 1;
    return to_float(y) / (float)size - 1.0f;
}

constexpr int AHEAD = 6;  // channels

template <int FORMAT> void first_layer(const Stage &stage, const Stage *below, const int32_t *segment, int32_t *out) {
    constexpr int G = group(FORMAT);
    const float *wx = stage.wx, *wy = stage.wy, *shift = stage.shift;
    const int channels = stage.first_channels;
    for (int v = 0; v < NV; v++, segment += 4, out += VL) {
        const vf px = columns(segment, stage.size), py = rows(segment, stage.size);
        if (below) {
            const Doubling doubling(below->plane, below->size, below->out_channels, segment);
            const long step = stride_of(below->size);
            for (int c = 0; c < channels; c += G) {
                vf phase[G];
                for (int g = 0; g < G; g++) {
                    doubling.expect((c + g + AHEAD) * step);
                    phase[g] = doubling.at((c + g) * step) + (px * wx[c + g] + (py * wy[c + g] + shift[c + g]));
                }
                pack<FORMAT>(phase, out + c / G * P);
            }
        } else {
            for (int c = 0; c < channels; c += G) {
                vf phase[G];
                for (int g = 0; g < G; g++) phase[g] = px * wx[c + g] + (py * wy[c + g] + shift[c + g]);
                pack<FORMAT>(phase, out + c / G * P);
            }
        }
    }
}

// Takes a block through a level; the result lies in the returned buffer as [channel][P] floats.
const float *run_block(const Stage &stage, const Stage *below, const int32_t *segment, int32_t *a, int32_t *b) {
#if defined(PAIR_PRODUCTS)
    if (stage.first_format == I16) first_layer<I16>(stage, below, segment, a);
    else
#endif
        first_layer<F32>(stage, below, segment, a);
    for (int i = 0; i < stage.n_layers; i++) {
        run_layer(stage.layers[i], a, b);
        int32_t *t = a; a = b; b = t;
    }
    return (const float *)a;
}

void hand_on(const Stage &stage, const int32_t *segment, const float *result) {
    const long step = stride_of(stage.size);
    for (int v = 0; v < NV; v++, segment += 4, result += VL) {
        float *to[2];
        for (int i = 0; i < 2; i++)
            to[i] = stage.plane + (long)segment[2 * i] * stage.out_channels * step + segment[2 * i + 1] + 1;
        for (int c = 0; c < stage.out_channels; c++)
            store_two(to[0] + c * step, to[1] + c * step, load(result + c * P));
        for (int i = 0; i < 2; i++) {  // the border pixel repeats, as upsampling clamps
            const int x = segment[2 * i + 1];
            for (int c = 0; x == 0 && c < stage.out_channels; c++) to[i][c * step - 1] = to[i][c * step];
            for (int c = 0; x + H == stage.size && c < stage.out_channels; c++) to[i][c * step + H] = to[i][c * step + H - 1];
        }
    }
}

}  // namespace

extern "C" {

struct Student {
    Stage face;
    int32_t n_levels;
    int32_t threads;
    Stage levels[8];
    int32_t side;               // of the character image
    int32_t face_top, face_left;
    float *character;           // [side][side][4]; the face is painted into it
    const uint8_t *srgb;        // 65536 entries
    int32_t *scratch;           // [threads][2][scratch_words]
    int64_t scratch_words;
};

// Planes [channel][side][side], each null where it is not wanted; rgba is [bottom - top][right - left][4].
struct Frame {
    float *posed, *warped, *grid_change, *color_change, *alpha, *face;
    uint8_t *rgba;
    int32_t swap;  // 1: BGRA
    int32_t top, bottom, left, right;
};

int32_t lanes() { return VL; }
int32_t segment_pixels() { return H; }
int32_t block_pixels() { return P; }
int32_t plane_stride(int32_t size) { return stride_of(size); }
int32_t has_pair_products() {
#if defined(PAIR_PRODUCTS)
    return 1;
#else
    return 0;
#endif
}

static void set_shift(const Stage &stage, const float *pose) {
    for (int c = 0; c < stage.first_channels; c++) {
        double sum = stage.pose_bias[c];
        for (int k = 0; k < stage.pose_size; k++) sum += (double)stage.pose_matrix[c * stage.pose_size + k] * pose[k];
        stage.shift[c] = (float)sum;
    }
}

static void paint(const Student &s, const Frame &f, const int32_t *segment, const float *m) {
    const int side = s.side;
    const long area = (long)side * side;
    const float limit = side - 1;
    for (int v = 0; v < NV; v++, m += VL, segment += 4) {
        const vf dx = load(m), dy = load(m + P), alpha = load(m + 2 * P);
        const vf half = fill(0.5f * side);
        vf sx = (columns(segment, side) + dx + 1.0f) * half - 0.5f, sy = (rows(segment, side) + dy + 1.0f) * half - 0.5f;
        sx = lower(higher(sx, fill(0)), fill(limit));
        sy = lower(higher(sy, fill(0)), fill(limit));
        const vi ix = __builtin_convertvector(sx, vi), iy = __builtin_convertvector(sy, vi);
        const vf fx = sx - to_float(ix), fy = sy - to_float(iy);
        alignas(64) float moved[4][VL];
        for (int i = 0; i < VL; i++) {
            const float *p = s.character + ((long)iy[i] * side + ix[i]) * 4;
            const long right = ix[i] < side - 1 ? 4 : 0, down = iy[i] < side - 1 ? 4L * side : 0;
            v4 a, b, c, d;
            std::memcpy(&a, p, 16);
            std::memcpy(&b, p + right, 16);
            std::memcpy(&c, p + down, 16);
            std::memcpy(&d, p + down + right, 16);
            const v4 upper = a + (b - a) * fx[i], under = c + (d - c) * fx[i];
            const v4 w = upper + (under - upper) * fy[i];
            for (int k = 0; k < 4; k++) moved[k][i] = w[k];
        }
        long at[2];
        for (int i = 0; i < 2; i++) at[i] = (long)segment[2 * i] * side + segment[2 * i + 1];
        const auto keep = [&](float *plane, vf value) {
            if (plane) store_two(plane + at[0], plane + at[1], value);
        };
        vf posed[4];
        for (int k = 0; k < 4; k++) {
            const vf w = load(moved[k]), color = load(m + (3 + k) * P);
            posed[k] = color * alpha + w * (1.0f - alpha);
            keep(f.posed ? f.posed + k * area : nullptr, posed[k]);
            keep(f.warped ? f.warped + k * area : nullptr, w);
            keep(f.color_change ? f.color_change + k * area : nullptr, color);
        }
        keep(f.alpha, alpha);
        keep(f.grid_change, dx);
        keep(f.grid_change ? f.grid_change + area : nullptr, dy);
        if (!f.rgba) continue;
        vf unit[4];
        for (int k = 0; k < 4; k++) unit[k] = lower(higher(posed[k] * 0.5f + 0.5f, fill(0)), fill(1));
        const vf over = 65535.0f / higher(unit[3], fill(1e-6f));
        vi index[3];
        for (int k = 0; k < 3; k++)
            index[k] = (vi)(lower(unit[k] * over, fill(65535.0f)) + MAGIC) & 0xffff;
        const vi opaque = (vi)(unit[3] * 255.0f + MAGIC) & 0xff;
        const int red = f.swap ? 2 : 0;
        for (int i = 0; i < VL; i++) {
            const int y = segment[2 * (i / H)], x = segment[2 * (i / H) + 1] + i % H;
            if (y < f.top || y >= f.bottom || x < f.left || x >= f.right) continue;
            uint8_t *to = f.rgba + ((long)(y - f.top) * (f.right - f.left) + x - f.left) * 4;
            const bool some = unit[3][i] > 0;
            to[red] = some ? s.srgb[index[0][i]] : 0;
            to[1] = some ? s.srgb[index[1][i]] : 0;
            to[2 - red] = some ? s.srgb[index[2][i]] : 0;
            to[3] = (uint8_t)opaque[i];
        }
    }
}

// Paints the face of a pose into the character image.
void paint_face(const Student *student, const float *pose) {
    const Student &s = *student;
    const Stage &stage = s.face;
    set_shift(stage, pose);
    share(stage.n_segments / (2 * NV), s.threads, 2, [&](int64_t b, int thread) {
        int32_t *scratch = s.scratch + thread * 2 * s.scratch_words;
        const int32_t *segment = stage.segments + b * NV * 4;
        const float *m = run_block(stage, nullptr, segment, scratch, scratch + s.scratch_words);
        for (int v = 0; v < 2 * NV; v++) {
            float *to = s.character + ((long)(segment[2 * v] + s.face_top) * s.side + segment[2 * v + 1] + s.face_left) * 4;
            for (int i = 0; i < H; i++)
                for (int k = 0; k < 4; k++) to[4 * i + k] = m[k * P + v * H + i];
        }
    });
}

// One frame; the face must have been painted.
void run_frame(const Student *student, const float *pose, const Frame *frame) {
    const Student &s = *student;
    for (int l = 0; l < s.n_levels; l++) {
        const Stage &stage = s.levels[l];
        const Stage *below = l ? &s.levels[l - 1] : nullptr;
        const bool last = l == s.n_levels - 1;
        set_shift(stage, pose);
        share(stage.n_segments / (2 * NV), s.threads, 2, [&](int64_t b, int thread) {
            int32_t *scratch = s.scratch + thread * 2 * s.scratch_words;
            const int32_t *segment = stage.segments + b * NV * 4;
            const float *m = run_block(stage, below, segment, scratch, scratch + s.scratch_words);
            if (last) paint(s, *frame, segment, m);
            else hand_on(stage, segment, m);
        });
    }
}
}
