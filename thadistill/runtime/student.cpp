// The student's frame in one pass over cache-sized blocks of pixels; built by native_build.py, driven by native.py.
//
// A block is P pixels, NV vectors of VL lanes: a lane is a pixel, so a weight is one broadcast and no channel count is
// padded to a vector's width. A level takes a block through all its layers while the activations stay in the nearest cache;
// what a level hands to the next (its features times the next level's first matrix, which commutes with the bilinear
// upsampling) goes to a plane of rows [y][channel][x], which is read back with two loads and two shuffles a row.
// Phases are in half-turns: sin(pi t), t = W x + b with omega / pi already in W and b.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <omp.h>
#if defined(__AVX512VNNI__)
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int VL = 16;
#else
constexpr int VL = 8;
#endif
constexpr int NV = 3;
constexpr int P = VL * NV;

typedef float vf __attribute__((vector_size(VL * 4)));
typedef int32_t vi __attribute__((vector_size(VL * 4)));
typedef float v4 __attribute__((vector_size(16)));

inline vf load(const float *p) { vf v; std::memcpy(&v, p, sizeof v); return v; }
inline void store(float *p, vf v) { std::memcpy(p, &v, sizeof v); }
inline vi loadi(const int32_t *p) { vi v; std::memcpy(&v, p, sizeof v); return v; }
inline void storei(int32_t *p, vi v) { std::memcpy(p, &v, sizeof v); }
inline vf fill(float x) { return vf{} + x; }
inline vf to_float(vi x) { return __builtin_convertvector(x, vf); }
inline vf lower(vf a, vf b) { return a < b ? a : b; }
inline vf higher(vf a, vf b) { return a > b ? a : b; }

// How a layer's input is held, one 32-bit word a lane: one float, two int16 or four uint8 of consecutive channels.
enum Format { F32 = 0, I16 = 1, U8 = 2, LINEAR = 3 };
constexpr int group(int format) { return format == I16 ? 2 : format == U8 ? 4 : 1; }

constexpr float I16_ONE = 4095.0f;  // what sin = 1 becomes: 13 bits, so that a row's products fit 32
constexpr float U8_ONE = 127.0f;    // offset by 128; the offset's share is in the bias
constexpr float MAGIC = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits

// scale * sin(pi t). Odd minimax polynomials on half a turn; greatest errors 5e-9, 6e-7, 7e-5 of 1, below each format's own.
template <int FORMAT> inline vf sine(vf t) {
    vf turned = t + MAGIC;
    vf r = t - (turned - MAGIC);
    vf q = r * r;
    vf s;
    if constexpr (FORMAT == F32) {
        s = (((0.07707987f * q - 0.59796161f) * q + 2.55001437f) * q - 5.16770554f) * q + 3.14159255f;
    } else if constexpr (FORMAT == I16) {
        s = ((-0.5546362f * I16_ONE * q + 2.54189903f * I16_ONE) * q - 5.1671428f * I16_ONE) * q + 3.14158202f * I16_ONE;
    } else {
        s = (2.29954734f * U8_ONE * q - 5.13690534f * U8_ONE) * q + 3.14064004f * U8_ONE;
    }
    vi flip = ((vi)turned) << 31;  // odd half-turns change the sign
    return (vf)(((vi)(s * r)) ^ flip);
}

// Sines of group(FORMAT) consecutive channels -> one word a lane.
template <int FORMAT> inline void pack(const vf *phase, int32_t *word) {
    if constexpr (FORMAT == F32) {
        storei(word, (vi)sine<F32>(phase[0]));
    } else if constexpr (FORMAT == I16) {
        vi a = (vi)(sine<I16>(phase[0]) + MAGIC), b = (vi)(sine<I16>(phase[1]) + MAGIC);
        storei(word, (a & 0xffff) | (b << 16));
    } else {
        vi a = (vi)(sine<U8>(phase[0]) + (MAGIC + 128)), b = (vi)(sine<U8>(phase[1]) + (MAGIC + 128));
        vi c = (vi)(sine<U8>(phase[2]) + (MAGIC + 128)), d = (vi)(sine<U8>(phase[3]) + (MAGIC + 128));
        storei(word, ((a & 0xff) | ((b & 0xff) << 8)) | (((c & 0xff) << 16) | (d << 24)));
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
    const int32_t *segments;   // [n_segments][2]: y, x of VL pixels in a row; x is even
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
                    sum[r][v] = IN == U8 ? _mm512_dpbusd_epi32(sum[r][v], x[v], y) : _mm512_dpwssd_epi32(sum[r][v], x[v], y);
            }
        }
#pragma GCC unroll 16
        for (int r = 0; r < R; r++)
#pragma GCC unroll 4
            for (int v = 0; v < NV; v++) _mm512_storeu_si512(sums + r * P + v * VL, sum[r][v]);
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
#if defined(__AVX512VNNI__)
    if (layer.out_format == I16) return layer_to<IN, I16>(layer, in, out);
    if (layer.out_format == U8) return layer_to<IN, U8>(layer, in, out);
#endif
    layer_to<IN, LINEAR>(layer, in, out);
}

void run_layer(const Layer &layer, const int32_t *in, int32_t *out) {
#if defined(__AVX512VNNI__)
    if (layer.in_format == I16) return layer_from<I16>(layer, in, out);
    if (layer.in_format == U8) return layer_from<U8>(layer, in, out);
#endif
    layer_from<F32>(layer, in, out);
}

// VL pixels of a row of the doubled plane: rows first (the nearer weighs 3/4), then columns by shuffles.
struct Doubling {
    const float *near, *far;

    Doubling(const float *plane, int size, int channels, int y, int x) {
        int half = y >> 1, other = (y & 1) ? half + 1 : half - 1;
        other = other < 0 ? 0 : other > size - 1 ? size - 1 : other;
        long row = (long)channels * stride_of(size);
        near = plane + half * row + (x >> 1);  // column -1 is stored first, so this is column x/2 - 1
        far = plane + other * row + (x >> 1);
    }

    vf at(long offset) const {
        vf v = 0.75f * load(near + offset) + 0.25f * load(far + offset);
#if defined(__AVX512F__)
        const vi close = {1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8};
        const vi wide = {0, 2, 1, 3, 2, 4, 3, 5, 4, 6, 5, 7, 6, 8, 7, 9};
#else
        const vi close = {1, 1, 2, 2, 3, 3, 4, 4};
        const vi wide = {0, 2, 1, 3, 2, 4, 3, 5};
#endif
        return 0.75f * __builtin_shuffle(v, close) + 0.25f * __builtin_shuffle(v, wide);
    }
};

inline vf columns(int x, int size) {
    vi index;
    for (int i = 0; i < VL; i++) index[i] = 2 * i + 1;
    return to_float(index + 2 * x) / (float)size - 1.0f;
}

template <int FORMAT> void first_layer(const Stage &stage, const Stage *below, const int32_t *segment, int32_t *out) {
    constexpr int G = group(FORMAT);
    for (int v = 0; v < NV; v++) {
        int y = segment[2 * v], x = segment[2 * v + 1];
        vf px = columns(x, stage.size);
        float py = (float)(2 * y + 1) / stage.size - 1.0f;
        if (below) {
            Doubling doubling(below->plane, below->size, below->out_channels, y, x);
            long step = stride_of(below->size);
            for (int c = 0; c < stage.first_channels; c += G) {
                vf phase[G];
                for (int g = 0; g < G; g++)
                    phase[g] = doubling.at((c + g) * step) + (px * stage.wx[c + g] + (py * stage.wy[c + g] + stage.shift[c + g]));
                pack<FORMAT>(phase, out + c / G * P + v * VL);
            }
        } else {
            for (int c = 0; c < stage.first_channels; c += G) {
                vf phase[G];
                for (int g = 0; g < G; g++) phase[g] = px * stage.wx[c + g] + (py * stage.wy[c + g] + stage.shift[c + g]);
                pack<FORMAT>(phase, out + c / G * P + v * VL);
            }
        }
    }
}

// Takes a block through a level; the result lies in the returned buffer as [channel][P] floats.
const float *run_block(const Stage &stage, const Stage *below, const int32_t *segment, int32_t *a, int32_t *b) {
#if defined(__AVX512VNNI__)
    if (stage.first_format == I16) first_layer<I16>(stage, below, segment, a);
    else if (stage.first_format == U8) first_layer<U8>(stage, below, segment, a);
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
    long step = stride_of(stage.size);
    for (int v = 0; v < NV; v++) {
        int y = segment[2 * v], x = segment[2 * v + 1];
        float *to = stage.plane + (long)y * stage.out_channels * step + x + 1;
        for (int c = 0; c < stage.out_channels; c++) {
            store(to + c * step, load(result + c * P + v * VL));
            if (x == 0) to[c * step - 1] = to[c * step];  // the border pixel repeats, as upsampling clamps
            if (x + VL == stage.size) to[c * step + VL] = to[c * step + VL - 1];
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
int32_t block_pixels() { return P; }
int32_t plane_stride(int32_t size) { return stride_of(size); }
int32_t has_integer_products() {
#if defined(__AVX512VNNI__)
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
    for (int v = 0; v < NV; v++, m += VL) {
        const int y = segment[2 * v], x = segment[2 * v + 1];
        const vf dx = load(m), dy = load(m + P), alpha = load(m + 2 * P);
        const float py = (float)(2 * y + 1) / side - 1.0f;
        const vf half = fill(0.5f * side);
        vf sx = (columns(x, side) + dx + 1.0f) * half - 0.5f, sy = (py + dy + 1.0f) * half - 0.5f;
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
        const long at = (long)y * side + x;
        vf posed[4];
        for (int k = 0; k < 4; k++) {
            const vf w = load(moved[k]), color = load(m + (3 + k) * P);
            posed[k] = color * alpha + w * (1.0f - alpha);
            if (f.posed) store(f.posed + k * area + at, posed[k]);
            if (f.warped) store(f.warped + k * area + at, w);
            if (f.color_change) store(f.color_change + k * area + at, color);
        }
        if (f.alpha) store(f.alpha + at, alpha);
        if (f.grid_change) {
            store(f.grid_change + at, dx);
            store(f.grid_change + area + at, dy);
        }
        if (!f.rgba || y < f.top || y >= f.bottom) continue;
        vf unit[4];
        for (int k = 0; k < 4; k++) unit[k] = lower(higher(posed[k] * 0.5f + 0.5f, fill(0)), fill(1));
        const vf over = 65535.0f / higher(unit[3], fill(1e-6f));
        vi index[3];
        for (int k = 0; k < 3; k++)
            index[k] = (vi)(lower(unit[k] * over, fill(65535.0f)) + MAGIC) & 0xffff;
        const vi opaque = (vi)(unit[3] * 255.0f + MAGIC) & 0xff;
        uint8_t *to = f.rgba + ((long)(y - f.top) * (f.right - f.left) + x - f.left) * 4;
        const int red = f.swap ? 2 : 0;
        for (int i = 0; i < VL; i++, to += 4) {
            if (x + i < f.left || x + i >= f.right) continue;
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
#pragma omp parallel for schedule(dynamic, 2) num_threads(s.threads)
    for (int b = 0; b < stage.n_segments / NV; b++) {
        int32_t *scratch = s.scratch + omp_get_thread_num() * 2 * s.scratch_words;
        const int32_t *segment = stage.segments + b * NV * 2;
        const float *m = run_block(stage, nullptr, segment, scratch, scratch + s.scratch_words);
        for (int v = 0; v < NV; v++) {
            float *to = s.character + ((long)(segment[2 * v] + s.face_top) * s.side + segment[2 * v + 1] + s.face_left) * 4;
            for (int i = 0; i < VL; i++)
                for (int k = 0; k < 4; k++) to[4 * i + k] = m[k * P + v * VL + i];
        }
    }
}

// One frame; the face must have been painted.
void run_frame(const Student *student, const float *pose, const Frame *frame) {
    const Student &s = *student;
    for (int l = 0; l < s.n_levels; l++) {
        const Stage &stage = s.levels[l];
        const Stage *below = l ? &s.levels[l - 1] : nullptr;
        const bool last = l == s.n_levels - 1;
        set_shift(stage, pose);
#pragma omp parallel for schedule(dynamic, 2) num_threads(s.threads)
        for (int b = 0; b < stage.n_segments / NV; b++) {
            int32_t *scratch = s.scratch + omp_get_thread_num() * 2 * s.scratch_words;
            const int32_t *segment = stage.segments + b * NV * 2;
            const float *m = run_block(stage, below, segment, scratch, scratch + s.scratch_words);
            if (last) paint(s, *frame, segment, m);
            else hand_on(stage, segment, m);
        }
    }
}
}
