// Vectors of floats and how they are read and written, whole or in part, as floats or bfloat16; included by the kernels.

#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
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

struct bf16 { uint16_t bits; };  // the upper half of a float's

// To the nearest, of two equally near the even one. Not for infinities and NaN, which no network here gives.
inline vh round_to_bf16(vf v) {
#if defined(__AVX512BF16__)
    return (vh)_mm512_cvtneps_pbh((__m512)v);
#else
    const vu bits = (vu)v;
    return __builtin_convertvector((bits + 0x7fff + ((bits >> 16) & 1)) >> 16, vh);
#endif
}
inline vf widen(vh h) { return (vf)(__builtin_convertvector(h, vu) << 16); }

// The first ``count`` of a vector, all where there are more; what is not read is zero.
#if defined(__AVX512BW__) && defined(__AVX512VL__)

// By masks: a memcpy of any size is a call, at several times the price of the vector.
inline __mmask16 first(int count) { return (__mmask16)((1u << count) - 1); }

inline vf load(const float *p, int count = VL) {
    return (vf)(count >= VL ? _mm512_loadu_ps(p) : _mm512_maskz_loadu_ps(first(count), p));
}
inline vf load(const bf16 *p, int count = VL) {
    return widen((vh)(count >= VL ? _mm256_loadu_si256((const __m256i *)p) : _mm256_maskz_loadu_epi16(first(count), p)));
}
inline void store(float *p, vf v, int count = VL) {
    if (count >= VL) _mm512_storeu_ps(p, (__m512)v);
    else _mm512_mask_storeu_ps(p, first(count), (__m512)v);
}
inline void store(bf16 *p, vf v, int count = VL) {
    if (count >= VL) _mm256_storeu_si256((__m256i *)p, (__m256i)round_to_bf16(v));
    else _mm256_mask_storeu_epi16(p, first(count), (__m256i)round_to_bf16(v));
}

#else

template <class V> V load_some(const void *p, int count, int size) {
    V v = {};
    if (count >= VL) std::memcpy(&v, p, sizeof v);
    else std::memcpy(&v, p, count * size);
    return v;
}
inline vf load(const float *p, int count = VL) { return load_some<vf>(p, count, sizeof *p); }
inline vf load(const bf16 *p, int count = VL) { return widen(load_some<vh>(p, count, sizeof *p)); }

template <class V> void store_some(void *p, V v, int count, int size) {
    if (count >= VL) std::memcpy(p, &v, sizeof v);
    else std::memcpy(p, &v, count * size);
}
inline void store(float *p, vf v, int count = VL) { store_some(p, v, count, sizeof *p); }
inline void store(bf16 *p, vf v, int count = VL) { store_some(p, round_to_bf16(v), count, sizeof *p); }

#endif

}  // namespace
