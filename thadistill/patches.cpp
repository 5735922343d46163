// Training squares: cutting them out of targets, and their warp in one pass with its slopes; called by patches.py.

#include <cstdint>
#include <cstring>

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
    const uint16_t *inset;  // [4][inset_height][inset_width], of the square at hand
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

inline int clamp(int64_t value, int last) { return value < 0 ? 0 : value > last ? last : (int)value; }

// What is no number stays so: it comes out again as the weight of a pixel at 0.
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

}  // namespace

extern "C" {

// n squares of ``size`` pixels; grid_change [n][2][size][size] by its strides, in elements. value, and slope_x and slope_y
// where they are given: [n][4][size][size], the slopes by grid_change.
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
                const Place row(clamp(corner[2 * i] + y, height - 1) + change[strides[1]] * (height * 0.5f), height - 1);
                const Place column(clamp(corner[2 * i + 1] + x, width - 1) + change[0] * (width * 0.5f), width - 1);
                const v4 a = images.at(row.whole, column.whole), b = images.at(row.whole, column.whole + 1);
                const v4 c = images.at(row.whole + 1, column.whole), d = images.at(row.whole + 1, column.whole + 1);
                const v4 above = a + (b - a) * column.part, below = c + (d - c) * column.part;
                const v4 mixed = above + (below - above) * row.part;
                const int64_t to = i * 4 * plane + y * size + x;
                for (int k = 0; k < 4; k++) value[to + k * plane] = mixed[k];
                if (!slope_x) continue;
                const v4 across = ((b - a) + ((d - c) - (b - a)) * row.part) * (column.free ? width * 0.5f : 0.0f);
                const v4 down = (below - above) * (row.free ? height * 0.5f : 0.0f);
                for (int k = 0; k < 4; k++) slope_x[to + k * plane] = across[k], slope_y[to + k * plane] = down[k];
            }
    }
}

// n squares of ``size`` pixels out of images [channels][side][side], each at its own address; out [n][channels][size][size].
// Their lines lie wherever in gigabytes: the squares to come are asked for early, or half of the time goes into waiting.
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
