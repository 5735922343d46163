// What the kernels share: vectors of four pixels, and the structs that wasm_plan.js fills in, field by field.

#pragma once

#include <stdint.h>
#include <wasm_simd128.h>

#define EXPORT(name) extern "C" __attribute__((export_name(#name)))

namespace {

typedef float f4 __attribute__((vector_size(16)));
typedef int32_t i4 __attribute__((vector_size(16)));

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
    int32_t inputs;          // words of a pixel: pairs of channels, or floats where the kind is FLOATS
    int32_t fours;           // blocks of four rows,
    int32_t rest;            // and the rows of one more: 0 or 2, or up to 3 where the kind is FLOATS
    int32_t shift;           // that brings a sum to units of 2^-31 half-turns
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
    const int32_t *quads;   // y << 16 | x, x even where there is a plane below
    const int32_t *below;   // the plane it doubles, from column -1 on. Null: there is none
    int32_t below_top;      // the row that the plane below starts with
    int32_t out_channels;
    const float *out_x, *out_y, *out_shift;  // what position and pose add to a plane's channels
    int32_t *plane;         // what it hands on, in units of 2^-27 half-turns, modulo 2^32
    int32_t top;            // the row that it starts with
    float *results;         // where it hands on nothing: [quad][channel][4]
};

struct Frame {
    const float *image;  // the character with this pose's face, [side][side][4], network space
    int32_t side;
    const uint8_t *srgb;  // of 65536 linear values in [0, 1]
    int32_t top, left, width;  // of the pixels' rectangle
    uint8_t *rgba;        // straight sRGB
    float *posed;         // network space, [4][height][width]; null where it is not wanted
    int32_t area;         // height * width
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

constexpr float MAGIC = 12582912.0f;       // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
constexpr float MAGIC_EVEN = 25165824.0f;  // the same for the nearest even integer
constexpr float MAGIC_32 = 402653184.0f;   // and for the nearest multiple of 32
constexpr float UNIT = 4.656612873077393e-10f;  // 2^-31
constexpr float PLANE_ONE = 134217728.0f;       // 2^27

inline float position(int i, int size) { return (float)(2 * i + 1) / (float)size - 1.0f; }

inline f4 columns(int x, int size) {
    return f4{position(x, size), position(x + 1, size), position(x + 2, size), position(x + 3, size)};
}

}  // namespace
