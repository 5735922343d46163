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

inline vf load(const float *p) { vf v; std::memcpy(&v, p, sizeof v); return v; }
inline void store(float *p, vf v) { std::memcpy(p, &v, sizeof v); }

// act(raw * scale + shift), slope being that of a leaky ReLU (at most 1); no scale: raw as it is.
struct Source {
    const float *raw, *scale, *shift;
    float slope;
    int channels;
    int doubling;  // 2: every pixel stands for two by two
};

void finish_pixel(const Source &source, const float *from, float *to, int copies, int64_t apart) {
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
        float v = from[c];
        if (source.scale) {
            v = v * source.scale[c] + source.shift[c];
            v = v > v * source.slope ? v : v * source.slope;
        }
        for (int copy = 0; copy < copies; copy++) to[copy * apart + c] = v;
    }
}

void finish_row(const Source &source, int y, int width, float *to, int padded) {
    const int step = source.doubling, own = width / step;
    const float *from = source.raw + (int64_t)(y / step) * own * source.channels;
    for (int x = 0; x < own; x++)
        finish_pixel(source, from + (int64_t)x * source.channels, to + (int64_t)x * step * padded, step, padded);
}

// One row of output pixels, all channels. K, S: kernel and stride, 0 where they are known at run time only.
template <int K, int S>
void convolve_row(const float *in, int64_t row, int padded, const float *weights, int kernel, int stride, int width,
                  int channels, float *out) {
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
                float *to = out + (int64_t)(x + n) * channels + c;
                if (whole == VL) store(to, sum[n]);
                else std::memcpy(to, &sum[n], whole * sizeof(float));
            }
        }
        x += count;
    }
}

}  // namespace

extern "C" {

int strip_lanes() { return VL; }

// Rows top to bottom of a depthwise convolution of ``raw``, doubled in size or not, with the channels of ``skip`` joined.
// height, width: of what is convolved, which is padded with zeros. weights [kernel * kernel][padded channels].
// buffer [(bottom - top) * stride + kernel - stride][width + kernel - stride + padding][padded channels]; out [rows][width / stride][channels].
void strip_depthwise(const float *raw, const float *scale, const float *shift, float slope, int channels, int doubling,
                     const float *skip, const float *skip_scale, const float *skip_shift, float skip_slope,
                     int skip_channels, int height, int width, const float *weights, int kernel, int stride, int top,
                     int bottom, float *buffer, float *out) {
    const Source below{raw, scale, shift, slope, channels, doubling};
    const Source beside{skip, skip_scale, skip_shift, skip_slope, skip_channels, 1};
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
    for (int y = 0; y < bottom - top; y++) {
        const float *in = buffer + (int64_t)y * stride * row;
        float *to = out + (int64_t)y * out_width * all;
        if (kernel == 3 && stride == 1) convolve_row<3, 1>(in, row, padded, weights, kernel, stride, out_width, all, to);
        else if (kernel == 4 && stride == 2) convolve_row<4, 2>(in, row, padded, weights, kernel, stride, out_width, all, to);
        else convolve_row<0, 0>(in, row, padded, weights, kernel, stride, out_width, all, to);
    }
}

// Adds to sums [2][channels] the sums over n pixels of values - reference and of its square.
void strip_moments(const float *values, int64_t n, int channels, const float *reference, double *sums) {
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
                const double off = values[i * channels + c] - reference[c];
                sums[c] += off;
                sums[channels + c] += off * off;
            }
    }
}

}
