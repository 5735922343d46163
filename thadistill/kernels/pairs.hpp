// Products of integers in vectors of 8 lanes, and what keeps operands in AVX2's 16 registers; included by student.cpp.
//
// PAIR_PRODUCTS: a lane's two int16 times two others, summed in 32 bits. AVX-512 VNNI has them, in student.cpp; AVX2 in two
// instructions, AVX-VNNI in one. AVX-512 without VNNI goes without: its float32 products are twice as wide, and nobody has
// measured its pairs.

#pragma once

#include "vectors.hpp"

#if defined(__AVX512VNNI__)
#define PAIR_PRODUCTS
#elif defined(__AVX2__) && !defined(__AVX512F__)
#include <immintrin.h>
#define PAIR_PRODUCTS
#endif

namespace {

#if defined(__AVX2__) && !defined(__AVX512F__)

// Compilers read a vector anew for every row that it is multiplied with, if they may: more loads than two a cycle allow.
template <typename V, int N> inline void hold(V (&loaded)[N], int count) {
#pragma GCC unroll 4
    for (int i = 0; i < count; i++) asm("" : "+x"(loaded[i]));
}
#define HOLD(loaded, count) hold(loaded, count)

#if defined(__AVXVNNI__)
constexpr int HELD_PAIRS = 3;
inline vi add_pairs(vi sum, vi a, vi b) { return (vi)_mm256_dpwssd_avx_epi32((__m256i)sum, (__m256i)a, (__m256i)b); }
#else
constexpr int HELD_PAIRS = 2;  // the product takes a register too
inline vi add_pairs(vi sum, vi a, vi b) { return sum + (vi)_mm256_madd_epi16((__m256i)a, (__m256i)b); }
#endif

#else

#define HOLD(loaded, count)

#endif

}  // namespace
