// Training patches: cutting them out of targets, their warp and their loss, each in one pass with its gradients; for op.py.

#include <cstdint>
#include <cstring>

#include "threads.hpp"

namespace {

typedef float v4 __attribute__((vector_size(16)));  // a pixel's channels

// A half that is no infinity: its exponent is 15 off where a float's is 127 off.
inline float from_half(uint16_t half) {
    const uint32_t bits = (uint32_t)(half & 0x7fff) << 13, sign = (uint32_t)(half & 0x8000) << 16;
    float magnitude;
    std::memcpy(&magnitude, &bits, sizeof bits);
    magnitude *= 0x1p112f;
    uint32_t whole;
    std::memcpy(&whole, &magnitude, sizeof whole);
    whole |= sign;
    std::memcpy(&magnitude, &whole, sizeof whole);
    return magnitude;
}

struct Images {
    const float *pixels;  // [height][width][4]
    const uint16_t *inset;  // [4][inset_height][inset_width], of the patch at hand
    int height, width, inset_height, inset_width, inset_top, inset_left;

    v4 at(int y, int x) const {
        const int row = y - inset_top, column = x - inset_left;
        if ((unsigned)row < (unsigned)inset_height && (unsigned)column < (unsigned)inset_width) {
            const int64_t plane = (int64_t)inset_height * inset_width;
            const uint16_t *p = inset + (int64_t)row * inset_width + column;
            return v4{from_half(p[0]), from_half(p[plane]), from_half(p[2 * plane]), from_half(p[3 * plane])};
        }
        v4 pixel;
        std::memcpy(&pixel, pixels + ((int64_t)y * width + x) * 4, sizeof pixel);
        return pixel;
    }
};

inline v4 mix(v4 a, v4 b, float part) { return a + (b - a) * part; }
inline float sum(v4 v) { return v[0] + v[1] + v[2] + v[3]; }
inline v4 size_of(v4 v) {
    for (int k = 0; k < 4; k++) v[k] = v[k] < 0 ? -v[k] : v[k];
    return v;
}
inline v4 sign_of(v4 v) {
    for (int k = 0; k < 4; k++) v[k] = (float)((v[k] > 0) - (v[k] < 0));
    return v;
}

inline int clamp(int64_t value, int last) { return value < 0 ? 0 : value > last ? last : (int)value; }

// What is not a number stays so: it comes out again as the weight of a pixel at 0.
struct Place {
    int whole;
    float part;
    bool free;  // not held at the border, where a step changes nothing
    Place(float position, int last) {
        free = position >= 0 && position <= last;
        const float held = position < 0 ? 0 : position > last ? last : position;
        whole = held == held ? (int)held : 0;
        if (whole > last - 1) whole = last - 1;
        part = held - whole;
    }
};

struct Sample {
    v4 value, across, down;  // and its gradients by the two of grid_change
};

// At row and column ``y``, ``x`` plus a grid change.
inline Sample sample(const Images &images, int64_t y, int64_t x, float change_x, float change_y) {
    const Place row(clamp(y, images.height - 1) + change_y * (images.height * 0.5f), images.height - 1);
    const Place column(clamp(x, images.width - 1) + change_x * (images.width * 0.5f), images.width - 1);
    const v4 a = images.at(row.whole, column.whole), b = images.at(row.whole, column.whole + 1);
    const v4 c = images.at(row.whole + 1, column.whole), d = images.at(row.whole + 1, column.whole + 1);
    const v4 above = mix(a, b, column.part), below = mix(c, d, column.part);
    return {mix(above, below, row.part), mix(b - a, d - c, row.part) * (column.free ? images.width * 0.5f : 0.0f),
            (below - above) * (row.free ? images.height * 0.5f : 0.0f)};
}

}  // namespace

extern "C" {

// n patches of ``size`` pixels; grid_change [n][2][size][size] by its strides, in elements. value, and slope_x and slope_y
// where they are given: [n][4][size][size], the gradients by grid_change.
void warp_patches(const float *pixels, int height, int width, const uint16_t *insets, int inset_height, int inset_width,
                  int inset_top, int inset_left, const int64_t *which, const int64_t *corner, const float *grid_change,
                  const int64_t *strides, int64_t n, int size, float *value, float *slope_x, float *slope_y) {
    Images images{pixels, nullptr, height, width, inset_height, inset_width, inset_top, inset_left};
    const int64_t plane = (int64_t)size * size;
    for (int64_t i = 0; i < n; i++) {
        images.inset = insets + which[i] * 4 * inset_height * inset_width;
        for (int y = 0; y < size; y++)
            for (int x = 0; x < size; x++) {
                const float *change = grid_change + i * strides[0] + y * strides[2] + x * strides[3];
                const Sample at = sample(images, corner[2 * i] + y, corner[2 * i + 1] + x, change[0], change[strides[1]]);
                const int64_t to = i * 4 * plane + y * size + x;
                for (int k = 0; k < 4; k++) value[to + k * plane] = at.value[k];
                if (!slope_x) continue;
                for (int k = 0; k < 4; k++) slope_x[to + k * plane] = at.across[k], slope_y[to + k * plane] = at.down[k];
            }
    }
}

// Loss of n patches whose channels [n][size * size][7] are grid change, alpha and colour change, against posed images
// [n][4][size][size] and grid changes [n][2][size][size]. sums [n][5]: over a patch of what blended and warped images, grid
// change and colours are off, and of the former's squares. gradient, like channels: of the four sums, each times its weight.
void match_patches(const float *pixels, int height, int width, const uint16_t *insets, int inset_height, int inset_width,
                   int inset_top, int inset_left, const int64_t *which, const int64_t *corner, const float *channels,
                   const float *posed, const float *grid_change, int64_t n, int size, const float *weights, float *sums,
                   float *gradient, int threads) {
    const int plane = size * size;
    share(n, threads, evenly(n, threads), [=](int64_t i, int) {
        Images images{pixels, insets + which[i] * 4 * inset_height * inset_width, height, width,
                      inset_height, inset_width, inset_top, inset_left};
        v4 blended_off = {}, warped_off = {}, color_off = {}, squares = {};
        float grid_off = 0;
        for (int p = 0; p < plane; p++) {
            const int64_t y = corner[2 * i] + p / size, x = corner[2 * i + 1] + p % size;
            const float *own = channels + (i * plane + p) * 7, *wanted = posed + i * 4 * plane + p;
            const float *moved = grid_change + i * 2 * plane + p;
            const Sample at = sample(images, y, x, own[0], own[1]);
            const v4 target = {wanted[0], wanted[plane], wanted[2 * plane], wanted[3 * plane]};
            const v4 target_warped = sample(images, y, x, moved[0], moved[plane]).value;
            const v4 color = {own[3], own[4], own[5], own[6]};
            const float alpha = own[2], off_x = own[0] - moved[0], off_y = own[1] - moved[plane];
            const v4 blended = color * alpha + at.value * (1 - alpha) - target, warped = at.value - target_warped;
            blended_off += size_of(blended), warped_off += size_of(warped), color_off += size_of(color - target);
            squares += blended * blended;
            grid_off += sum(size_of(v4{off_x, off_y}));
            const v4 to_blended = sign_of(blended) * weights[0];
            const v4 to_warped = to_blended * (1 - alpha) + sign_of(warped) * weights[1];
            const v4 to_color = to_blended * alpha + sign_of(color - target) * weights[3];
            const v4 to_grid = sign_of(v4{off_x, off_y}) * weights[2];
            float *to = gradient + (i * plane + p) * 7;
            to[0] = sum(to_warped * at.across) + to_grid[0];
            to[1] = sum(to_warped * at.down) + to_grid[1];
            to[2] = sum(to_blended * (color - at.value));
            for (int k = 0; k < 4; k++) to[3 + k] = to_color[k];
        }
        const float all[5] = {sum(blended_off), sum(warped_off), grid_off, sum(color_off), sum(squares)};
        std::memcpy(sums + 5 * i, all, sizeof all);
    });
}

// n patches of ``size`` pixels out of images [channels][side][side], each at its own address; out [n][channels][size][size].
// Their lines lie wherever in gigabytes: the patches to come are asked for early, or half of the time goes into waiting.
void cut_patches(const uint16_t *const *images, const int64_t *corner, int64_t n, int channels, int side, int size,
                 float *out) {
    constexpr int64_t AHEAD = 2;
    const int last = side - 1;
    const auto line = [&](int64_t i, int c, int y) {
        return images[i] + ((int64_t)c * side + clamp(corner[2 * i] + y, last)) * side;
    };
    for (int64_t i = -AHEAD; i < n; i++) {
        if (const int64_t next = i + AHEAD; next < n)
            for (int c = 0; c < channels; c++)
                for (int y = 0; y < size; y++) {
                    const uint16_t *row = line(next, c, y);
                    __builtin_prefetch(row + clamp(corner[2 * next + 1], last));
                    __builtin_prefetch(row + clamp(corner[2 * next + 1] + size - 1, last));
                }
        if (i < 0) continue;
        for (int c = 0; c < channels; c++)
            for (int y = 0; y < size; y++) {
                const uint16_t *row = line(i, c, y);
                for (int x = 0; x < size; x++) *out++ = from_half(row[clamp(corner[2 * i + 1] + x, last)]);
            }
    }
}

}
