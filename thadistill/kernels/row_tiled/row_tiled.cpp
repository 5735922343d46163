// What teacher/row_tiled.py does to a tile of rows besides the matrix product; built by kernels/build.py, called by op.py.
//
// Features are channels-last, [y][x][c], as a block left them: their normalisation and activation are done on reading.
// The channels of the buffer are padded to whole vectors, so that the convolution has one form.

#include <cstdint>
#include <cstring>

#include "vectors.hpp"

namespace {

constexpr int PIXELS = 8;  // of a row at a time: a weight, and mostly a pixel, is loaded once for them
constexpr int ROWS = 256;  // whose sums are taken in float before they are added in double

// A feature [height][width][channels]: act(raw * scale + shift), slope being that of a leaky ReLU (at most 1); no scale: raw
// as it is.
struct Source {
    const void *raw;
    const float *scale, *shift;
    float slope;
    int rounded;  // raw is bfloat16
    int height, width, channels;

    int padded() const { return (channels + VL - 1) / VL * VL; }
};

inline vf finished(const Source &source, vf v, int c) {
    if (!source.scale) return v;
    v = v * load(source.scale + c, source.channels - c) + load(source.shift + c, source.channels - c);
    const vf lower = v * source.slope;
    return v > lower ? v : lower;
}

template <class T, class B>
void finish_row(const Source &source, int y, B *to) {
    const T *from = (const T *)source.raw + (int64_t)y * source.width * source.channels;
    for (int x = 0; x < source.width; x++, from += source.channels)
        for (int c = 0; c < source.channels; c += VL, to += VL)
            store(to, finished(source, load(from + c, source.channels - c), c));
}

// Rows top to bottom, finished, with halo pixels of zeros on all sides: buffer [bottom - top][width + 2 halo][padded].
template <class B>
void finish_rows(const Source &source, int top, int bottom, int halo, B *buffer) {
    const int64_t side = (int64_t)halo * source.padded(), inside = (int64_t)source.width * source.padded();
    for (int y = top; y < bottom; y++, buffer += inside + 2 * side) {
        if (y < 0 || y >= source.height) {
            std::memset(buffer, 0, (inside + 2 * side) * sizeof(B));
            continue;
        }
        std::memset(buffer, 0, side * sizeof(B));
        std::memset(buffer + side + inside, 0, side * sizeof(B));
        if (source.rounded) finish_row<bf16>(source, y, buffer + side);
        else finish_row<float>(source, y, buffer + side);
    }
}

// N output pixels of a row from x on, all channels; K: kernel, S: stride. A pixel's results lie ``pitch`` apart.
template <int K, int S, int N, class T>
void convolve_pixels(const float *in, int64_t row, int channels, int padded, const float *weights, int x, int pitch, T *out) {
    for (int c = 0; c < padded; c += VL) {
        vf sum[N] = {};
        for (int i = 0; i < K; i++) {
            const float *p = in + i * row + (int64_t)x * S * padded + c;
            vf weight[K];
            for (int j = 0; j < K; j++) weight[j] = load(weights + (i * K + j) * padded + c);
#pragma GCC unroll 64
            for (int m = 0; m < (N - 1) * S + K; m++) {
                const vf pixel = load(p + (int64_t)m * padded);
#pragma GCC unroll 8
                for (int n = 0; n < N; n++)
                    if (m - n * S >= 0 && m - n * S < K) sum[n] += pixel * weight[m - n * S];
            }
        }
        for (int n = 0; n < N; n++) store(out + (int64_t)(x + n) * pitch + c, sum[n], channels - c);
    }
}

template <int K, int S, class T>
void convolve_row(const float *in, int64_t row, int channels, int padded, const float *weights, int width, int pitch, T *out) {
    int x = 0;
    for (; x + PIXELS <= width; x += PIXELS) convolve_pixels<K, S, PIXELS>(in, row, channels, padded, weights, x, pitch, out);
    for (; x < width; x++) convolve_pixels<K, S, 1>(in, row, channels, padded, weights, x, pitch, out);
}

// 2 N output pixels of a row of the doubled image, from N of the image's, x on; weights [2][2][2][padded]: of the left and the
// right of a pixel's two; in each, of two rows and two columns.
template <int N, class T>
void double_pixels(const float *in, int64_t row, int channels, int padded, const float *weights, int x, int pitch, T *out) {
    for (int c = 0; c < padded; c += VL) {
        vf sum[2][N] = {};
        for (int i = 0; i < 2; i++) {
            const float *p = in + i * row + (int64_t)x * padded + c;
            vf weight[2][2];
            for (int side = 0; side < 2; side++)
                for (int j = 0; j < 2; j++) weight[side][j] = load(weights + ((side * 2 + i) * 2 + j) * padded + c);
#pragma GCC unroll 16
            for (int m = 0; m < N + 2; m++) {
                const vf pixel = load(p + (int64_t)m * padded);
#pragma GCC unroll 8
                for (int n = 0; n < N; n++) {
                    if (m == n || m == n + 1) sum[0][n] += pixel * weight[0][m - n];
                    if (m == n + 1 || m == n + 2) sum[1][n] += pixel * weight[1][m - n - 1];
                }
            }
        }
        for (int n = 0; n < N; n++)
            for (int side = 0; side < 2; side++)
                store(out + (int64_t)(2 * (x + n) + side) * pitch + c, sum[side][n], channels - c);
    }
}

template <class T>
void double_row(const float *in, int64_t row, int channels, int padded, const float *weights, int width, int pitch, T *out) {
    constexpr int N = PIXELS / 2;
    int x = 0;
    for (; x + N <= width; x += N) double_pixels<N>(in, row, channels, padded, weights, x, pitch, out);
    for (; x < width; x++) double_pixels<1>(in, row, channels, padded, weights, x, pitch, out);
}

#if defined(__AVX512BF16__)

// N pixels from x on of a convolution of 3 by 3 to at most VL planes, of finished rows in bfloat16; rows: the three.
// weights [3 * 3][padded / 2][VL][2]
template <int N>
void project_pixels(const bf16 *const *rows, int padded, const bf16 *weights, vf bias, int x, int planes, float *out, int64_t plane) {
    __m512 sum[N];
    for (int n = 0; n < N; n++) sum[n] = (__m512)bias;
    for (int i = 0; i < 3; i++) {
        const bf16 *p = rows[i] + (int64_t)x * padded;
        for (int pair = 0; pair < 3 * padded; pair += 2, weights += 2 * VL) {  // of a row's three pixels, which are neighbours
            const __m512bh weight = (__m512bh)_mm512_loadu_si512(weights);
            for (int n = 0; n < N; n++) {
                int two;
                std::memcpy(&two, p + (int64_t)n * padded + pair, sizeof two);
                sum[n] = _mm512_dpbf16_ps(sum[n], (__m512bh)_mm512_set1_epi32(two), weight);
            }
        }
    }
    for (int n = 0; n < N; n++)
        for (int k = 0; k < planes; k++) out[k * plane + x + n] = ((vf)sum[n])[k];
}

void project(const Source &source, const bf16 *weights, const float *bias, int planes, int top, int bottom, bf16 *buffer, float *out) {
    constexpr int N = 12;
    const int64_t row = (int64_t)(source.width + 2) * source.padded(), plane = (int64_t)source.height * source.width;
    const vf given = load(bias, planes);
    const auto at = [&](int y) { return buffer + (y + 3) % 3 * row; };
    for (int y = top - 1; y <= bottom; y++) {
        finish_rows(source, y, y + 1, 1, at(y));
        if (y <= top) continue;
        const bf16 *rows[] = {at(y - 2), at(y - 1), at(y)};
        float *to = out + (int64_t)(y - 1) * source.width;
        int x = 0;
        for (; x + N <= source.width; x += N) project_pixels<N>(rows, source.padded(), weights, given, x, planes, to, plane);
        for (; x < source.width; x++) project_pixels<1>(rows, source.padded(), weights, given, x, planes, to, plane);
    }
}

#endif

template <class T>
void moments(const T *values, int64_t n, int channels, const float *reference, double *sums) {
    for (int64_t begin = 0; begin < n; begin += ROWS) {
        const int64_t end = begin + ROWS < n ? begin + ROWS : n;
        for (int c = 0; c < channels; c += VL) {
            const int count = channels - c < VL ? channels - c : VL;
            const vf mean = load(reference + c, count);
            vf sum = {}, square = {};
            for (int64_t i = begin; i < end; i++) {
                const vf off = load(values + i * channels + c, count) - mean;
                sum += off;
                square += off * off;
            }
            for (int l = 0; l < count; l++) {
                sums[c + l] += sum[l];
                sums[channels + c + l] += square[l];
            }
        }
    }
}

template <class T, class U>
void add(const Source &a, const Source &b, int64_t first, int64_t last, float *out) {
    for (int64_t i = first * a.channels; i < last * a.channels; i += a.channels)
        for (int c = 0; c < a.channels; c += VL) {
            const int count = a.channels - c;
            const vf v = finished(a, load((const T *)a.raw + i + c, count), c);
            store(out + i + c, v + finished(b, load((const U *)b.raw + i + c, count), c), count);
        }
}

template <class T>
void depthwise(const Source &source, int doubled, const float *weights, int kernel, int stride, int top, int bottom,
               float *buffer, T *out, int pitch) {
    const int padded = source.padded(), channels = source.channels;
    const int halo = doubled ? 1 : (kernel - stride + 1) / 2;
    const int64_t row = (int64_t)(source.width + 2 * halo) * padded;
    if (doubled) {
        finish_rows(source, top / 2 - 1, bottom / 2 + 1, 1, buffer);
        for (int y = top; y < bottom; y++, out += (int64_t)2 * source.width * pitch)  // the upper of two reads a row before
            double_row(buffer + ((y + 1) / 2 - top / 2) * row, row, channels, padded, weights + y % 2 * 8 * padded,
                       source.width, pitch, out);
        return;
    }
    finish_rows(source, top * stride - halo, (bottom - 1) * stride - halo + kernel, halo, buffer);
    const int width = source.width / stride;
    for (int y = top; y < bottom; y++, buffer += stride * row, out += (int64_t)width * pitch) {
        if (kernel == 3) convolve_row<3, 1>(buffer, row, channels, padded, weights, width, pitch, out);
        else if (kernel == 4) convolve_row<4, 2>(buffer, row, channels, padded, weights, width, pitch, out);
        else convolve_row<7, 1>(buffer, row, channels, padded, weights, width, pitch, out);
    }
}

}  // namespace

extern "C" {

int tile_lanes() { return VL; }

int tile_projects() {
#if defined(__AVX512BF16__)
    return 1;
#else
    return 0;
#endif
}

// Rows top to bottom of a depthwise convolution of a feature [height][width][channels], or of it doubled in size (nearest),
// which is one with a kernel of 2 by 2 for each of a pixel's four.
// kernel, stride: 3, 1 or 4, 2 or 7, 1; doubled: 3, 1, and top and bottom even.
// weights [kernel * kernel][padded channels]; doubled: [2][2][2 * 2][padded], of upper and lower, then left and right pixels.
// buffer: the finished rows that these need, a halo of (kernel - stride + 1) / 2 (doubled: of one pixel before doubling).
// out: the first of the pixels' channels, ``pitch`` from one pixel to the next.
// rounded, out_rounded: those are bfloat16, not float.
void tile_depthwise(const void *raw, const float *scale, const float *shift, float slope, int rounded, int height, int width,
                     int channels, int doubled, const float *weights, int kernel, int stride, int top, int bottom,
                     float *buffer, void *out, int pitch, int out_rounded) {
    const Source source{raw, scale, shift, slope, rounded, height, width, channels};
    if (out_rounded) depthwise(source, doubled, weights, kernel, stride, top, bottom, buffer, (bf16 *)out, pitch);
    else depthwise(source, doubled, weights, kernel, stride, top, bottom, buffer, (float *)out, pitch);
}

#if defined(__AVX512BF16__)
// Rows top to bottom of a convolution of 3 by 3 to planes [planes][height][width], VL at the most; factors are bfloat16.
// weights [3 * 3][padded channels / 2][VL][2]; buffer [3][width + 2][padded].
void tile_project(const void *raw, const float *scale, const float *shift, float slope, int rounded, int height, int width,
                   int channels, const bf16 *weights, const float *bias, int planes, int top, int bottom, bf16 *buffer,
                   float *out) {
    project({raw, scale, shift, slope, rounded, height, width, channels}, weights, bias, planes, top, bottom, buffer, out);
}
#endif

// Rows top to bottom of planes, each with its strides over y and x, as out [height][width][channels].
void tile_enter(const float *const *planes, const int64_t *strides, int channels, int width, int top, int bottom, float *out) {
    out += (int64_t)top * width * channels;
    for (int y = top; y < bottom; y++)
        for (int x = 0; x < width; x++)
            for (int c = 0; c < channels; c++) *out++ = planes[c][y * strides[2 * c] + x * strides[2 * c + 1]];
}

// Rows top to bottom of the sum of two features of one size, finished; out may be what one of them is made of.
void tile_add(const void *raw, const float *scale, const float *shift, float slope, int rounded, int height, int width,
               int channels, const void *raw2, const float *scale2, const float *shift2, float slope2, int rounded2, int,
               int, int, int top, int bottom, float *out) {
    const Source a{raw, scale, shift, slope, rounded, height, width, channels};
    const Source b{raw2, scale2, shift2, slope2, rounded2, height, width, channels};
    const int64_t first = (int64_t)top * width, last = (int64_t)bottom * width;
    if (rounded && rounded2) add<bf16, bf16>(a, b, first, last, out);
    else if (rounded) add<bf16, float>(a, b, first, last, out);
    else if (rounded2) add<float, bf16>(a, b, first, last, out);
    else add<float, float>(a, b, first, last, out);
}

// Adds to sums [2][channels] the sums over n pixels of values - reference and of its square; rounded: values are bfloat16.
void tile_moments(const void *values, int rounded, int64_t n, int channels, const float *reference, double *sums) {
    if (rounded) moments((const bf16 *)values, n, channels, reference, sums);
    else moments((const float *)values, n, channels, reference, sums);
}

}
