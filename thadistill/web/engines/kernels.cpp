// Kernels: a student's frame in WebAssembly SIMD, band by band; built by build_kernels.sh, driven by wasm_worker.js.
//
// A group is 8 pixels: two quads, each 4 neighbours of a row, anywhere in the image. A lane is a pixel, so that a weight
// is one broadcast and no channel count is padded to a vector's width. A block of groups goes through all layers of a
// level while its activations stay in the nearest cache. What a level hands to the next goes to a plane [y][x][channel],
// which is read back doubled.
//
// An activation is an int16, a word two of them; their products with int16 weights are summed in 32 bits, whose unit is
// 2^(SHIFT - 31) half-turns. Sums wrap around, and as they are the phases of sines, that is the range reduction.

#include <stdint.h>
#include <wasm_simd128.h>

#define EXPORT(name) __attribute__((export_name(#name)))

namespace {

typedef float f4 __attribute__((vector_size(16), aligned(4)));
typedef int32_t i4 __attribute__((vector_size(16), aligned(4)));

constexpr int GROUP = 8;    // pixels
constexpr int QUAD = 4;     // pixels
constexpr int OUTPUTS = 7;  // of the last linear layer: grid change x, y, alpha, colour change 4

enum Kind {
    SINES = 0,        // int16 to int16
    FLOAT_SINES = 1,  // int16 to floats
    SUMS = 2,         // int16 to sums of products, which go to a plane
    SCALED = 3,       // int16 to sums of products in units of each row's own, as floats
    FLOATS = 4,       // floats to floats, without sines
};

struct Layer {
    int32_t kind;
    int32_t inputs;      // words of a pixel: pairs of channels, or floats where the kind is FLOATS
    int32_t fours;       // blocks of four rows,
    int32_t rest;        // and the rows of one more: 0 or 2, or up to 3 where the kind is FLOATS
    int32_t shift;       // that brings a sum to units of 2^-31 half-turns
    const int32_t *weights;  // [block][input][row]
    const int32_t *bias;     // in the sums' unit; floats where the kind is FLOATS
    const float *gains;      // of a row's int16 sines, see Sine, null where all are 1; units where the kind is SCALED
    float lambda, alpha, beta;
};

struct Stage {
    int32_t size;           // image side
    int32_t channels;       // of the first layer, even
    const float *by_x, *by_y, *shift;
    const float *gains;     // of the first sines
    float lambda, alpha, beta;
    int32_t n_layers;
    const Layer *layers;
    const int32_t *quads;   // y << 16 | x, x even
    const int32_t *below;   // the plane it doubles, from column -1 on. Null: there is none
    int32_t below_top;      // the row that the plane below starts with
    int32_t out_channels;
    const float *out_x, *out_y, *out_shift;  // what position and pose add to a plane's channels
    int32_t *plane;         // what it hands on, in units of 2^-27 half-turns, modulo 2^32
    int32_t top;            // the row that it starts with
    float *results;         // where it hands on nothing: [quad][channel][4]
};

inline i4 load(const void *p) { return (i4)wasm_v128_load(p); }
inline f4 loadf(const float *p) { return (f4)wasm_v128_load(p); }
inline void store(void *p, i4 v) { wasm_v128_store(p, (v128_t)v); }
inline void store(void *p, f4 v) { wasm_v128_store(p, (v128_t)v); }
inline i4 splat(const int32_t *p) { return (i4)wasm_v128_load32_splat(p); }
inline f4 splat(const float *p) { return (f4)wasm_v128_load32_splat(p); }
inline f4 fill(float x) { return (f4)wasm_f32x4_splat(x); }
inline i4 dot(i4 a, i4 b) { return (i4)wasm_i32x4_dot_i16x8((v128_t)a, (v128_t)b); }
inline i4 thrice(i4 v) { return v + v + v; }
inline f4 to_float(i4 v) { return (f4)wasm_f32x4_convert_i32x4((v128_t)v); }
// Not f32x4.abs, for which V8 makes its mask anew each time, in two instructions.
inline f4 magnitude(f4 v) { return (f4)((i4)v & 0x7fffffff); }
inline f4 lower(f4 a, f4 b) { return (f4)wasm_f32x4_pmin((v128_t)a, (v128_t)b); }
inline f4 higher(f4 a, f4 b) { return (f4)wasm_f32x4_pmax((v128_t)a, (v128_t)b); }

inline i4 truncate(f4 v) { return (i4)wasm_i32x4_trunc_sat_f32x4((v128_t)v); }
template <int A, int B, int C, int D, typename V> inline V shuffle(V a, V b) {
    return (V)wasm_i32x4_shuffle((v128_t)a, (v128_t)b, A, B, C, D);
}
template <typename V> inline void transpose(V a, V b, V c, V d, V *to) {
    const V e = shuffle<0, 4, 1, 5>(a, b), f = shuffle<2, 6, 3, 7>(a, b);
    const V g = shuffle<0, 4, 1, 5>(c, d), h = shuffle<2, 6, 3, 7>(c, d);
    to[0] = shuffle<0, 1, 4, 5>(e, g);
    to[1] = shuffle<2, 3, 6, 7>(e, g);
    to[2] = shuffle<0, 1, 4, 5>(f, h);
    to[3] = shuffle<2, 3, 6, 7>(f, h);
}

constexpr float MAGIC = 12582912.0f;      // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
constexpr float MAGIC_EVEN = 25165824.0f;  // the same for the nearest even integer
constexpr float MAGIC_32 = 402653184.0f;   // and for the nearest multiple of 32
constexpr float UNIT = 4.656612873077393e-10f;  // 2^-31
constexpr float PLANE_ONE = 134217728.0f;  // 2^27

// t less the nearest even integer: half-turns in [-1, 1].
inline f4 reduce(f4 t) { return t - ((t + MAGIC_EVEN) - MAGIC_EVEN); }

// The nearest integer to gain * ONE * sin(pi t) in the low 16 bits, from lambda * t, t in [-1, 1]. With p = t (1 - |t|),
// sin(pi t) = c p ((|p| + a)^2 + b) to 8e-6; lambda^6 = c ONE takes the factors in. Inputs that meet large weights get a
// larger integer for 1, hence the gains: weights are then smaller, and more finely rounded where they can be.
struct Sine {
    f4 lambda, alpha, beta;

    template <typename Of> explicit Sine(const Of &of) : lambda(fill(of.lambda)), alpha(fill(of.alpha)), beta(fill(of.beta)) {}

    f4 scaled(f4 t) const {
        const f4 p = t * (lambda - magnitude(t)), q = magnitude(p) + alpha;
        return p * (q * q + beta);
    }
    i4 operator()(f4 t) const { return (i4)(scaled(t) + MAGIC); }
    i4 operator()(f4 t, f4 gain) const { return (i4)(scaled(t) * gain + MAGIC); }
};

// sin(pi t), t in [-1, 1], to 4e-8 and rounding.
inline f4 sine(f4 t) {
    const f4 p = t * (1.0f - magnitude(t)), q = magnitude(p);
    return p * (((0.21968558f * q + 1.11223173f) * q + 3.14186853f) * q + 3.14158564f);
}

// Low halves of two channels -> words, the first channel in the low bits.
inline i4 pair(i4 a, i4 b) {
    return (i4)wasm_i16x8_shuffle((v128_t)a, (v128_t)(b << 16), 0, 9, 2, 11, 4, 13, 6, 15);
}

inline i4 low_halves(i4 a, i4 b) {
    return (i4)wasm_i16x8_shuffle((v128_t)a, (v128_t)b, 0, 2, 4, 6, 8, 10, 12, 14);
}

// Not unrolled: V8 loads all that a loop's body needs at its beginning, and more rows or rounds leave the registers.
template <int R> inline void sums(const int32_t *x, int words, const int32_t *w, i4 (&sum)[R][2]) {
    const int32_t *end = w + R * words;
#pragma unroll 1
    do {
        const i4 a = load(x), b = load(x + QUAD);
#pragma unroll
        for (int r = 0; r < R; r++) {
            const i4 y = splat(w + r);
            sum[r][0] += dot(a, y);
            sum[r][1] += dot(b, y);
        }
        x += GROUP;
        w += R;
    } while (w != end);
}

// The same in float32.
template <int R> inline void sums(const float *x, int inputs, const float *w, f4 (&sum)[R][2]) {
    const float *end = w + R * inputs;
#pragma unroll 1
    do {
        const f4 a = loadf(x), b = loadf(x + QUAD);
#pragma unroll
        for (int r = 0; r < R; r++) {
            const f4 y = splat(w + r);
            sum[r][0] += y * a;
            sum[r][1] += y * b;
        }
        x += GROUP;
        w += R;
    } while (w != end);
}

// R rows of a layer for one group. `out` is the group's place among words or floats.
template <int KIND, int R, int SHIFT, bool GAINS>
inline void rows_of(const Layer &layer, const int32_t *x, const int32_t *w, int row, int32_t *out) {
    if constexpr (KIND == FLOATS) {
        f4 sum[R][2];
#pragma unroll
        for (int r = 0; r < R; r++) sum[r][0] = sum[r][1] = (f4)splat(layer.bias + row + r);
        sums<R>((const float *)x, layer.inputs, (const float *)w, sum);
        out += row * GROUP;
#pragma unroll
        for (int r = 0; r < R; r++, out += GROUP)
#pragma unroll
            for (int v = 0; v < 2; v++) store(out + v * QUAD, sum[r][v]);
        return;
    }
    i4 sum[R][2];
#pragma unroll
    for (int r = 0; r < R; r++) sum[r][0] = sum[r][1] = splat(layer.bias + row + r);
    sums<R>(x, layer.inputs, w, sum);
    if constexpr (KIND == SINES) {
        const Sine rounded(layer);
        const f4 unit = rounded.lambda * UNIT;
        out += row / 2 * GROUP;
        i4 word[R / 2][2];
        f4 gain[R];
#pragma unroll
        for (int r = 0; GAINS && r < R; r++) gain[r] = splat(layer.gains + row + r);
#pragma unroll
        for (int r = 0; r < R; r += 2)
#pragma unroll
            for (int v = 0; v < 2; v++) {
                const f4 s = to_float(sum[r][v] << SHIFT) * unit, t = to_float(sum[r + 1][v] << SHIFT) * unit;
                word[r / 2][v] = GAINS ? pair(rounded(s, gain[r]), rounded(t, gain[r + 1])) : pair(rounded(s), rounded(t));
            }
#pragma unroll
        for (int r = 0; r < R / 2; r++, out += GROUP)
#pragma unroll
            for (int v = 0; v < 2; v++) store(out + v * QUAD, word[r][v]);
    } else {
        out += row * GROUP;
#pragma unroll
        for (int r = 0; r < R; r++, out += GROUP)
#pragma unroll
            for (int v = 0; v < 2; v++) {
                if constexpr (KIND == FLOAT_SINES) store(out + v * QUAD, sine(to_float(sum[r][v] << SHIFT) * UNIT));
                else if constexpr (KIND == SCALED) store(out + v * QUAD, to_float(sum[r][v]) * splat(layer.gains + row + r));
                else store(out + v * QUAD, sum[r][v]);
            }
    }
}

template <int KIND, int R, int SHIFT, bool GAINS>
void rows_of_groups(const Layer &layer, const int32_t *in, int groups, const int32_t *w, int row, int32_t *out, int out_step) {
    for (int g = 0; g < groups; g++, in += layer.inputs * GROUP, out += out_step)
        rows_of<KIND, R, SHIFT, GAINS>(layer, in, w, row, out);
}

inline int rows_in(const Layer &layer) { return 4 * layer.fours + layer.rest; }

template <int KIND, int SHIFT, bool GAINS = false> void layer_of(const Layer &layer, const int32_t *in, int groups, int32_t *out) {
    const int step = (KIND == SINES ? rows_in(layer) / 2 : rows_in(layer)) * GROUP;
    const int32_t *w = layer.weights;
    int row = 0;
    for (int i = 0; i < layer.fours; i++, row += 4, w += 4 * layer.inputs)
        rows_of_groups<KIND, 4, SHIFT, GAINS>(layer, in, groups, w, row, out, step);
    if (layer.rest == 2) rows_of_groups<KIND, 2, SHIFT, GAINS>(layer, in, groups, w, row, out, step);
    if constexpr (KIND == FLOATS) {
        if (layer.rest == 1) rows_of_groups<KIND, 1, SHIFT, GAINS>(layer, in, groups, w, row, out, step);
        if (layer.rest == 3) rows_of_groups<KIND, 3, SHIFT, GAINS>(layer, in, groups, w, row, out, step);
    }
}

template <int KIND, bool GAINS = false>
void shifted_layer_of(const Layer &layer, const int32_t *in, int groups, int32_t *out) {
    switch (layer.shift) {
        case 0: return layer_of<KIND, 0, GAINS>(layer, in, groups, out);
        case 1: return layer_of<KIND, 1, GAINS>(layer, in, groups, out);
        case 2: return layer_of<KIND, 2, GAINS>(layer, in, groups, out);
        default: return layer_of<KIND, 4, GAINS>(layer, in, groups, out);
    }
}

inline float position(int i, int size) { return (float)(2 * i + 1) / (float)size - 1.0f; }

inline f4 columns(int x, int size) {
    return f4{position(x, size), position(x + 1, size), position(x + 2, size), position(x + 3, size)};
}

// Words of the first sines of a quad, from position and pose.
void first_words(const Stage &stage, int y, int x, int32_t *out) {
    const f4 px = columns(x, stage.size);
    const f4 py = fill(position(y, stage.size));
    const Sine rounded(stage);
    for (int c = 0; c < stage.channels; c += 2, out += GROUP) {
        i4 word[2];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const f4 t = px * splat(stage.by_x + c + i) + (py * splat(stage.by_y + c + i) + splat(stage.shift + c + i));
            word[i] = rounded(reduce(t) * rounded.lambda, splat(stage.gains + c + i));
        }
        store(out, pair(word[0], word[1]));
    }
}

inline int plane_channels(int channels) { return (channels + 3) & ~3; }

// The same from the plane below: of a pixel's four neighbours there, the nearer weigh 3/4 along each axis. The plane
// holds position and pose already, as doubling keeps what is linear; 16 of its units are one of the sums'. Lanes are
// channels here, until words are put together.
void doubled_words(const Stage &stage, int y, int x, int32_t *out) {
    const int channels = stage.channels, step = plane_channels(channels);
    const long row = (long)step * (stage.size / 2 + 2);
    const int32_t *near = stage.below + ((y >> 1) - stage.below_top) * row + (x >> 1) * step;
    const int32_t *far = y & 1 ? near + row : near - row;
    const float *gains = stage.gains;
    const Sine rounded(stage);
    const f4 unit = rounded.lambda * UNIT;
    for (int c = 0; c < channels; c += 4, near += 4, far += 4, out += 2 * GROUP) {
        i4 column[4], word[4];
#pragma unroll
        for (int i = 0; i < 4; i++) column[i] = thrice(load(near + i * step)) + load(far + i * step);
        const i4 left = thrice(column[1]), right = thrice(column[2]);
        const i4 phase[4] = {left + column[0], left + column[2], right + column[1], right + column[3]};
        const f4 gain = loadf(gains + c);
#pragma unroll
        for (int i = 0; i < 4; i++) word[i] = rounded(to_float(phase[i]) * unit, gain);
        const i4 a = low_halves(word[0], word[1]), b = low_halves(word[2], word[3]);
        store(out, shuffle<0, 2, 4, 6>(a, b));
        if (c + 2 < channels) store(out + GROUP, shuffle<1, 3, 5, 7>(a, b));
    }
}

// Half-turns, modulo 32, in the plane's unit.
inline i4 to_plane(f4 t) { return truncate((t - ((t + MAGIC_32) - MAGIC_32)) * PLANE_ONE); }

inline i4 placed(i4 sum, f4 place) { return sum + to_plane(place); }
inline i4 placed(f4 features, f4 place) { return to_plane(features + place); }

// Four channels of a quad into row y of the plane, which may be the one beyond the border: there the features repeat,
// and the position goes on.
template <typename V> void hand_row(const Stage &stage, int y, int x, int c, const V (&pixel)[4]) {
    const int size = stage.size, step = plane_channels(stage.out_channels);
    const f4 by_x = loadf(stage.out_x + c);
    const f4 still = position(y, size) * loadf(stage.out_y + c) + loadf(stage.out_shift + c);
    int32_t *to = stage.plane + ((long)(y - stage.top) * (size + 2) + x + 1) * step + c;
    for (int i = 0; i < QUAD; i++) store(to + i * step, placed(pixel[i], position(x + i, size) * by_x + still));
    if (x == 0) store(to - step, placed(pixel[0], position(-1, size) * by_x + still));
    if (x + QUAD == size) store(to + QUAD * step, placed(pixel[3], position(size, size) * by_x + still));
}

template <typename V> void hand_on(const Stage &stage, int quad, const int32_t *from) {
    const int y = quad >> 16, x = quad & 0xffff;
    for (int c = 0; c < stage.out_channels; c += 4, from += 4 * GROUP) {
        V pixel[4];
        transpose((V)load(from), (V)load(from + GROUP), (V)load(from + 2 * GROUP), (V)load(from + 3 * GROUP), pixel);
        hand_row(stage, y, x, c, pixel);
        if (y == 0) hand_row(stage, -1, x, c, pixel);
        if (y == stage.size - 1) hand_row(stage, stage.size, x, c, pixel);
    }
}

void keep(const Stage &stage, int q, const int32_t *from) {
    float *to = stage.results + (long)q * stage.out_channels * QUAD;
    for (int c = 0; c < stage.out_channels; c++, from += GROUP, to += QUAD) store(to, load(from));
}

}  // namespace

extern "C" {

// Takes groups of a stage through its layers; `a` and `b` are scratch.
EXPORT(run) void run(const Stage *at, int first, int groups, int32_t *a, int32_t *b) {
    const Stage &stage = *at;
    const int32_t *quads = stage.quads + 2 * first;
    int words = stage.channels / 2;
    for (int q = 0; q < 2 * groups; q++) {
        int32_t *out = a + (q / 2 * words * 2 + q % 2) * QUAD;
        const int y = quads[q] >> 16, x = quads[q] & 0xffff;
        if (stage.below) doubled_words(stage, y, x, out);
        else first_words(stage, y, x, out);
    }
    for (int i = 0; i < stage.n_layers; i++) {
        const Layer &layer = stage.layers[i];
        switch (layer.kind) {
            case SINES:
                if (layer.gains) shifted_layer_of<SINES, true>(layer, a, groups, b);
                else shifted_layer_of<SINES>(layer, a, groups, b);
                break;
            case FLOAT_SINES: shifted_layer_of<FLOAT_SINES>(layer, a, groups, b); break;
            case SUMS: layer_of<SUMS, 0>(layer, a, groups, b); break;
            case SCALED: layer_of<SCALED, 0>(layer, a, groups, b); break;
            default: layer_of<FLOATS, 0>(layer, a, groups, b);
        }
        int32_t *t = a;
        a = b;
        b = t;
    }
    const Layer &last = stage.layers[stage.n_layers - 1];
    for (int q = 0; q < 2 * groups; q++) {
        const int32_t *from = a + (q / 2 * rows_in(last) * 2 + q % 2) * QUAD;
        if (!stage.plane) keep(stage, 2 * first + q, from);
        else if (last.kind == SUMS) hand_on<i4>(stage, quads[q], from);
        else hand_on<f4>(stage, quads[q], from);
    }
}

// The face's results into the character's image, [side][side][4].
EXPORT(place_face) void place_face(const Stage *at, int quads, float *image, int side, int top, int left) {
    for (int q = 0; q < quads; q++) {
        const int y = at->quads[q] >> 16, x = at->quads[q] & 0xffff;
        const float *from = at->results + (long)q * 4 * QUAD;
        float *to = image + ((long)(top + y) * side + left + x) * 4;
        f4 pixel[4];
        transpose(loadf(from), loadf(from + QUAD), loadf(from + 2 * QUAD), loadf(from + 3 * QUAD), pixel);
        for (int i = 0; i < QUAD; i++) store(to + 4 * i, pixel[i]);
    }
}

struct Frame {
    const float *image;  // the character with this pose's face, [side][side][4], network space
    int32_t side;
    const uint8_t *srgb;  // of 65536 linear values in [0, 1]
    int32_t top, left, width;  // of the pixels' rectangle
    uint8_t *rgba;        // straight sRGB
    float *posed;         // network space, [4][height][width]; null where it is not wanted
    int32_t area;         // height * width
};

// Paints quads [first, last) of the last level from its results: warps, blends, encodes.
EXPORT(paint) void paint(const Stage *at, int first, int last, const Frame *into) {
    const Frame &frame = *into;
    const int size = at->size, side = frame.side;
    const f4 half = fill(0.5f * (float)side), limit = fill((float)(side - 1)), zero = fill(0), one = fill(1);
    for (int q = first; q < last; q++) {
        const int y = at->quads[q] >> 16, x = at->quads[q] & 0xffff;
        const float *m = at->results + (long)q * OUTPUTS * QUAD;
        const f4 px = columns(x, size), py = fill(position(y, size)), alpha = loadf(m + 2 * QUAD);
        const f4 sx = higher(lower((px + loadf(m) + 1.0f) * half - 0.5f, limit), zero);
        const f4 sy = higher(lower((py + loadf(m + QUAD) + 1.0f) * half - 0.5f, limit), zero);
        const i4 ix = truncate(sx), iy = truncate(sy);
        const f4 fx = sx - to_float(ix), fy = sy - to_float(iy);
        f4 moved[QUAD], warped[4];
        for (int i = 0; i < QUAD; i++) {
            const float *p = frame.image + ((long)iy[i] * side + ix[i]) * 4;
            const long right = ix[i] < side - 1 ? 4 : 0, down = iy[i] < side - 1 ? 4L * side : 0;
            const f4 a = loadf(p), b = loadf(p + right), c = loadf(p + down), d = loadf(p + down + right);
            const f4 above = a + (b - a) * fill(fx[i]), under = c + (d - c) * fill(fx[i]);
            moved[i] = above + (under - above) * fill(fy[i]);
        }
        transpose(moved[0], moved[1], moved[2], moved[3], warped);
        const long pixel = (long)(y - frame.top) * frame.width + x - frame.left;
        f4 unit[4];
        for (int k = 0; k < 4; k++) {
            const f4 posed = loadf(m + (3 + k) * QUAD) * alpha + warped[k] * (1.0f - alpha);
            if (frame.posed) store(frame.posed + (long)k * frame.area + pixel, posed);
            unit[k] = lower(higher(posed * 0.5f + 0.5f, zero), one);
        }
        int32_t *to = (int32_t *)frame.rgba + pixel;
        const i4 shown = unit[3] > 0.0f;
        if (!wasm_v128_any_true((v128_t)shown)) {
            store(to, i4{});
            continue;
        }
        const f4 over = 65535.0f / higher(unit[3], fill(1e-6f));
        i4 index[3];
        for (int k = 0; k < 3; k++) index[k] = (i4)(lower(unit[k] * over, fill(65535.0f)) + MAGIC) & 0xffff & shown;
        const i4 opaque = ((i4)(unit[3] * 255.0f + MAGIC) & 0xff) << 24;
        i4 color = {};
        for (int i = 0; i < QUAD; i++)
            color[i] = frame.srgb[index[0][i]] | frame.srgb[index[1][i]] << 8 | frame.srgb[index[2][i]] << 16;
        store(to, color | opaque);
    }
}

}  // extern "C"
