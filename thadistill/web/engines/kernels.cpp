// Kernels: a student's networks in WebAssembly SIMD, band by band; built by build_kernels.sh, driven by wasm_worker.js.
//
// A group is 8 pixels: two quads, each 4 neighbours of a row, anywhere in the image. A lane is a pixel, so that a
// weight is one broadcast and no channel count is padded to a vector's width. A block of groups goes through all layers
// of a level while its activations stay in the nearest cache. What a level hands to the next goes to a plane
// [y][x][channel], which is read back doubled.
//
// An activation is an int16, a word two of them; their products with int16 weights are summed in 32 bits, whose unit is
// 2^(SHIFT - 31) half-turns. Sums wrap around, and as they are the phases of sines, that is the range reduction.
// Sizes are wasm_plan.js's to check.

#include "kernels.hpp"

namespace {

// t less the nearest even integer: half-turns in [-1, 1].
inline f4 reduce(f4 t) { return t - ((t + MAGIC_EVEN) - MAGIC_EVEN); }

// The nearest integer to gain * ONE * sin(pi t) in the low 16 bits, from lambda * t, t in [-1, 1].
// With p = t (1 - |t|), sin(pi t) = c p ((|p| + a)^2 + b) to 8e-6; lambda^6 = c ONE takes the factors in. Inputs that
// meet large weights get a larger integer for 1, hence the gains: other weights are then more finely rounded.
struct Sine {
    f4 lambda, alpha, beta;

    template <typename Of>
    explicit Sine(const Of &of) : lambda(fill(of.lambda)), alpha(fill(of.alpha)), beta(fill(of.beta)) {}

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
                if constexpr (GAINS) word[r / 2][v] = pair(rounded(s, gain[r]), rounded(t, gain[r + 1]));
                else word[r / 2][v] = pair(rounded(s), rounded(t));
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
                int32_t *to = out + v * QUAD;
                if constexpr (KIND == FLOAT_SINES) store(to, sine(to_float(sum[r][v] << SHIFT) * UNIT));
                else if constexpr (KIND == SCALED) store(to, to_float(sum[r][v]) * splat(layer.gains + row + r));
                else store(to, sum[r][v]);
            }
    }
}

template <int KIND, int R, int SHIFT, bool GAINS>
void rows_of_groups(
    const Layer &layer, const int32_t *in, int groups, const int32_t *w, int row, int32_t *out, int step) {
    for (int g = 0; g < groups; g++, in += layer.inputs * GROUP, out += step)
        rows_of<KIND, R, SHIFT, GAINS>(layer, in, w, row, out);
}

inline int rows_in(const Layer &layer) { return 4 * layer.fours + layer.rest; }

template <int KIND, int SHIFT, bool GAINS = false>
void layer_of(const Layer &layer, const int32_t *in, int groups, int32_t *out) {
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
// and the position goes on. `px` are the quad's positions, with one more on either side.
template <typename V>
inline void hand_row(const Stage &stage, int y, int x, int c, const V *pixel, const float *px) {
    const int size = stage.size, step = plane_channels(stage.out_channels);
    const f4 by_x = loadf(stage.out_x + c);
    const f4 still = position(y, size) * loadf(stage.out_y + c) + loadf(stage.out_shift + c);
    int32_t *to = stage.plane + ((long)(y - stage.top) * (size + 2) + x + 1) * step + c;
#pragma unroll
    for (int i = 0; i < QUAD; i++) store(to + i * step, placed(pixel[i], px[i + 1] * by_x + still));
    if (x == 0) store(to - step, placed(pixel[0], px[0] * by_x + still));
    if (x + QUAD == size) store(to + QUAD * step, placed(pixel[3], px[5] * by_x + still));
}

template <typename V> void hand_on(const Stage &stage, int quad, const int32_t *from) {
    const int y = quad >> 16, x = quad & 0xffff;
    float px[QUAD + 2];
    for (int i = 0; i < QUAD + 2; i++) px[i] = position(x - 1 + i, stage.size);
    for (int c = 0; c < stage.out_channels; c += 4, from += 4 * GROUP) {
        V pixel[4];
        transpose((V)load(from), (V)load(from + GROUP), (V)load(from + 2 * GROUP), (V)load(from + 3 * GROUP), pixel);
        hand_row(stage, y, x, c, pixel, px);
        if (y == 0) hand_row(stage, -1, x, c, pixel, px);
        if (y == stage.size - 1) hand_row(stage, stage.size, x, c, pixel, px);
    }
}

// A quad's results of the last linear layer.
void keep(const Stage &stage, int q, const int32_t *from) {
    float *to = stage.results + (long)q * stage.out_channels * QUAD;
    for (int c = 0; c < stage.out_channels; c++, from += GROUP, to += QUAD) store(to, load(from));
}

}  // namespace

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
