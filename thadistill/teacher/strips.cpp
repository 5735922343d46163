// What strips.py does to a strip besides the matrix product; built by native_build.py, called by native.py.
//
// Features are channels-last, [y][x][c], as a block left them: their normalisation and activation are done on reading.
// The channels of the buffer are padded to whole vectors, so that the convolution has one form.

#include <cstdint>
#include <cstring>

namespace {

#if defined(__AVX512F__)
constexpr int VL = 16;
#else
constexpr int VL = 8;
#endif
constexpr int PIXELS = 8;  // of a row at a time: a weight is loaded once for them
constexpr int ROWS = 256;  // whose sums are taken in float before they are added in double

typedef float vf __attribute__((vector_size(VL * 4)));
typedef uint32_t vu __attribute__((vector_size(VL * 4)));
typedef uint16_t vh __attribute__((vector_size(VL * 2)));
typedef uint16_t bfloat16;  // the upper half of a float's bits

inline vf load(const float *p) { vf v; std::memcpy(&v, p, sizeof v); return v; }
inline void store(float *p, vf v) { std::memcpy(p, &v, sizeof v); }

inline vf load(const bfloat16 *p) {
    vh half;
    std::memcpy(&half, p, sizeof half);
    const vu bits = __builtin_convertvector(half, vu) << 16;
    vf v;
    std::memcpy(&v, &bits, sizeof v);
    return v;
}

// To the nearest, of two equally near the even one. Not for infinities and NaN, which no network here gives.
inline void store(bfloat16 *p, vf v) {
    vu bits;
    std::memcpy(&bits, &v, sizeof bits);
    bits += 0x7fff + ((bits >> 16) & 1);
    const vh half = __builtin_convertvector(bits >> 16, vh);
    std::memcpy(p, &half, sizeof half);
}

inline float one(const float *p) { return *p; }
inline float one(const bfloat16 *p) {
    const uint32_t bits = (uint32_t)*p << 16;
    float v;
    std::memcpy(&v, &bits, sizeof v);
    return v;
}

// act(raw * scale + shift), slope being that of a leaky ReLU (at most 1); no scale: raw as it is.
struct Source {
    const void *raw;
    const float *scale, *shift;
    float slope;
    int channels;
    int rounded;   // raw is bfloat16
    int doubling;  // 2: every pixel stands for two by two
};

template <class T>
void finish_pixel(const Source &source, const T *from, float *to, int copies, int64_t apart) {
    int c = 0;
    for (; c + VL <= source.channels; c += VL) {
        vf v = load(from + c);
        if (source.scale) {
            v = v * load(source.scale + c) + load(source.shift + c);
            vf lower = v * source.slope;
            v = v > lower ? v : lower;
        }
        for (int copy = 0; copy < copies; copy++) store(to + copy * apart + c, v);
    }
    for (; c < source.channels; c++) {
        float v = one(from + c);
        if (source.scale) {
            v = v * source.scale[c] + source.shift[c];
            v = v > v * source.slope ? v : v * source.slope;
        }
        for (int copy = 0; copy < copies; copy++) to[copy * apart + c] = v;
    }
}

template <class T>
void finish_row(const Source &source, int y, int width, float *to, int padded) {
    const int step = source.doubling, own = width / step;
    const T *from = (const T *)source.raw + (int64_t)(y / step) * own * source.channels;
    for (int x = 0; x < own; x++)
        finish_pixel(source, from + (int64_t)x * source.channels, to + (int64_t)x * step * padded, step, padded);
}

void finish_row(const Source &source, int y, int width, float *to, int padded) {
    if (source.rounded) finish_row<bfloat16>(source, y, width, to, padded);
    else finish_row<float>(source, y, width, to, padded);
}

// One row of output pixels, all channels. K, S: kernel and stride, 0 where they are known at run time only.
template <int K, int S, class T>
void convolve_row(const float *in, int64_t row, int padded, const float *weights, int kernel, int stride, int width,
                  int channels, T *out) {
    const int k = K ? K : kernel, s = S ? S : stride;
    for (int x = 0; x < width;) {
        const int count = x + PIXELS <= width ? PIXELS : 1;
        const float *corner = in + (int64_t)x * s * padded;
        for (int c = 0; c < padded; c += VL) {
            vf sum[PIXELS] = {};
            for (int i = 0; i < k; i++)
                for (int j = 0; j < k; j++) {
                    const vf weight = load(weights + (i * k + j) * padded + c);
                    const float *p = corner + i * row + (int64_t)j * padded + c;
                    if (count == PIXELS)
                        for (int n = 0; n < PIXELS; n++) sum[n] += load(p + (int64_t)n * s * padded) * weight;
                    else
                        sum[0] += load(p) * weight;
                }
            const int whole = channels - c < VL ? channels - c : VL;
            for (int n = 0; n < count; n++) {
                T *to = out + (int64_t)(x + n) * channels + c;
                if (whole == VL) {
                    store(to, sum[n]);
                } else {
                    T last[VL];
                    store(last, sum[n]);
                    std::memcpy(to, last, whole * sizeof(T));
                }
            }
        }
        x += count;
    }
}

template <class T>
void convolve_rows(const float *in, int64_t row, int padded, const float *weights, int kernel, int stride, int rows,
                   int width, int channels, T *out) {
    for (int y = 0; y < rows; y++, in += stride * row, out += (int64_t)width * channels) {
        if (kernel == 3 && stride == 1) convolve_row<3, 1>(in, row, padded, weights, kernel, stride, width, channels, out);
        else if (kernel == 4 && stride == 2) convolve_row<4, 2>(in, row, padded, weights, kernel, stride, width, channels, out);
        else convolve_row<0, 0>(in, row, padded, weights, kernel, stride, width, channels, out);
    }
}

template <class T>
void moments(const T *values, int64_t n, int channels, const float *reference, double *sums) {
    float total[2][VL];
    for (int64_t begin = 0; begin < n; begin += ROWS) {
        const int64_t end = begin + ROWS < n ? begin + ROWS : n;
        int c = 0;
        for (; c + VL <= channels; c += VL) {
            const vf mean = load(reference + c);
            vf sum = {}, square = {};
            for (int64_t i = begin; i < end; i++) {
                const vf off = load(values + i * channels + c) - mean;
                sum += off;
                square += off * off;
            }
            store(total[0], sum);
            store(total[1], square);
            for (int l = 0; l < VL; l++) {
                sums[c + l] += total[0][l];
                sums[channels + c + l] += total[1][l];
            }
        }
        for (; c < channels; c++)
            for (int64_t i = begin; i < end; i++) {
                const double off = one(values + i * channels + c) - reference[c];
                sums[c] += off;
                sums[channels + c] += off * off;
            }
    }
}

}  // namespace

extern "C" {

int strip_lanes() { return VL; }

// Rows top to bottom of a depthwise convolution of ``raw``, doubled in size or not, with the channels of ``skip`` joined.
// height, width: of what is convolved, which is padded with zeros. weights [kernel * kernel][padded channels].
// buffer [(bottom - top) * stride + kernel - stride][width + kernel - stride + padding][padded channels]; out [rows][width / stride][channels].
// rounded, skip_rounded, out_rounded: those are bfloat16, not float.
void strip_depthwise(const void *raw, const float *scale, const float *shift, float slope, int channels, int rounded,
                     int doubling, const void *skip, const float *skip_scale, const float *skip_shift, float skip_slope,
                     int skip_channels, int skip_rounded, int height, int width, const float *weights, int kernel,
                     int stride, int top, int bottom, float *buffer, void *out, int out_rounded) {
    const Source below{raw, scale, shift, slope, channels, rounded, doubling};
    const Source beside{skip, skip_scale, skip_shift, skip_slope, skip_channels, skip_rounded, 1};
    const int all = channels + skip_channels, padded = (all + VL - 1) / VL * VL;
    const int halo = (kernel - stride + 1) / 2, first = top * stride - halo;
    const int64_t row = (int64_t)(width + 2 * halo) * padded;
    const int rows = (bottom - top) * stride + 2 * halo, out_width = width / stride;
    for (int r = 0; r < rows; r++) {
        float *to = buffer + r * row;
        const int y = first + r;
        if (y < 0 || y >= height) {
            std::memset(to, 0, row * sizeof(float));
            continue;
        }
        std::memset(to, 0, (int64_t)halo * padded * sizeof(float));
        std::memset(to + row - (int64_t)halo * padded, 0, (int64_t)halo * padded * sizeof(float));
        to += (int64_t)halo * padded;
        if (all < padded)
            for (int x = 0; x < width; x++)
                std::memset(to + (int64_t)x * padded + all, 0, (padded - all) * sizeof(float));
        finish_row(below, y, width, to, padded);
        if (skip) finish_row(beside, y, width, to + channels, padded);
    }
    if (out_rounded)
        convolve_rows(buffer, row, padded, weights, kernel, stride, bottom - top, out_width, all, (bfloat16 *)out);
    else
        convolve_rows(buffer, row, padded, weights, kernel, stride, bottom - top, out_width, all, (float *)out);
}

// Adds to sums [2][channels] the sums over n pixels of values - reference and of its square; rounded: values are bfloat16.
void strip_moments(const void *values, int rounded, int64_t n, int channels, const float *reference, double *sums) {
    if (rounded) moments((const bfloat16 *)values, n, channels, reference, sums);
    else moments((const float *)values, n, channels, reference, sums);
}

}
