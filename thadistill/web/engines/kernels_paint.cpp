// Painting: the face into the character's image, the image warped, painted over and encoded as 8-bit sRGB.

#include "kernels.hpp"

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

// Paints quads [first, last) of the last level from its results: warps, blends, encodes.
EXPORT(paint) void paint(const Stage *at, int first, int last, const Frame *into) {
    const Frame &frame = *into;
    const int size = at->size, side = frame.side;
    const float ratio = (float)side / (float)size;
    const f4 half = fill(0.5f * (float)side), limit = fill((float)(side - 1)), zero = fill(0), one = fill(1);
    const f4 lane = f4{0, 1, 2, 3} * ratio;
    for (int q = first; q < last; q++) {
        const int y = at->quads[q] >> 16, x = at->quads[q] & 0xffff;
        const float *m = at->results + (long)q * OUTPUTS * QUAD;
        const f4 alpha = loadf(m + 2 * QUAD);
        // in pixels of the image; a grid change of 2 is its side
        const f4 px = ((float)x + 0.5f) * ratio - 0.5f + lane, py = fill(((float)y + 0.5f) * ratio - 0.5f);
        const f4 sx = higher(lower(px + loadf(m) * half, limit), zero);
        const f4 sy = higher(lower(py + loadf(m + QUAD) * half, limit), zero);
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
