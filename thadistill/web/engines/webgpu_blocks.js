// Blocks: which pixels of each level the WebGPU engine computes.
//
// Pixels are computed in blocks of 4x2, a thread's share: the visible pixels are tiles of 4x4, and 12 pixels of the
// level below are all that bilinear doubling reads for a block. At every level, blocks without a pixel that is needed
// are left out.

/**
 * @typedef {Object} Blocks the blocks of a stage that are computed
 * @property {number} count
 * @property {number} size side of the stage's image
 * @property {Uint32Array} places 16 values a block: the 12 pixels below (4 in each of 3 rows) by their numbers there,
 *   then x and y of the first pixel, which pixels are needed (bit 4 dy + dx), and 0. Pixel dx, dy of block i has the
 *   number 8 i + 4 dy + dx.
 */

/** Pixels of a block. */
export const BLOCK = 8;

/**
 * The blocks that hold a pixel of a mask.
 * @param {Uint8Array} mask 1 for the pixels that are needed
 * @param {number} size
 * @returns {Blocks} whose pixels below are not known yet
 */
export function blocksOf(mask, size) {
  if (size % 4) throw new Error(`a level of ${size} pixels; the WebGPU engine expects a multiple of 4`);
  /** @type {number[]} */
  const places = [];
  for (let y = 0; y < size; y += 2) {
    for (let x = 0; x < size; x += 4) {
      let bits = 0;
      for (let i = 0; i < BLOCK; i++) bits |= mask[(y + (i >> 2)) * size + x + (i & 3)] << i;
      if (bits) places.push(...new Array(12).fill(0), x, y, bits, 0);
    }
  }
  if (!places.length) places.push(...new Array(16).fill(0)); // a dispatch of nothing is none
  return { count: places.length / 16, size, places: Uint32Array.from(places) };
}

/**
 * The blocks of the level below that bilinear doubling reads; fills in where each block finds its pixels in them.
 * @param {Blocks} above
 * @returns {Blocks}
 */
export function blocksBelow(above) {
  const size = above.size / 2;
  const mask = new Uint8Array(size * size);
  const inside = (/** @type {number} */ i) => Math.min(size - 1, Math.max(0, i));
  /** @type {(block: number, tap: number) => [number, number]} */
  const tapOf = (block, tap) => {
    const [x, y] = above.places.subarray(16 * block + 12);
    return [inside(x / 2 - 1 + (tap % 4)), inside(y / 2 - 1 + Math.floor(tap / 4))];
  };
  for (let block = 0; block < above.count; block++) {
    for (let tap = 0; tap < 12; tap++) {
      const [x, y] = tapOf(block, tap);
      mask[y * size + x] = 1;
    }
  }
  const below = blocksOf(mask, size);
  const numberAt = new Map();
  for (let block = 0; block < below.count; block++) {
    const [x, y] = below.places.subarray(16 * block + 12);
    numberAt.set(y * size + x, block);
  }
  for (let block = 0; block < above.count; block++) {
    for (let tap = 0; tap < 12; tap++) {
      const [x, y] = tapOf(block, tap);
      const holder = numberAt.get((y & ~1) * size + (x & ~3));
      above.places[16 * block + tap] = holder * BLOCK + (y & 1) * 4 + (x & 3);
    }
  }
  return below;
}
