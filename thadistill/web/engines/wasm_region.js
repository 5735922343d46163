// Region: the pixels that a band of the frame needs of each level, as runs of four, and the order to compute them in.

export const QUAD = 4;

/**
 * Runs of four pixels of a row that cover a mask, as y << 16 | x, by rows; an even number of them.
 * @param {Uint8Array} mask
 * @param {number} size
 * @param {number} [step] x is a multiple of it
 */
export function quadsOf(mask, size, step = 1) {
  const quads = [];
  for (let y = 0; y < size; y++) {
    for (let x = 0, end = 0; x < size; x++) {
      if (x < end || !mask[y * size + x]) continue;
      const start = Math.min(x - (x % step), size - QUAD);
      quads.push((y << 16) | start);
      end = start + QUAD;
    }
  }
  if (!quads.length) quads.push(0);
  if (quads.length % 2) quads.push(quads[quads.length - 1]);
  return Int32Array.from(quads);
}

/**
 * The pixels that bilinear doubling reads for those of a mask, as a mask of half the size.
 * @param {Uint8Array} mask
 * @param {number} half
 */
function readByDoubling(mask, half) {
  const size = 2 * half;
  const read = new Uint8Array(half * half);
  /** @param {number} i */
  const both = (i) => [i >> 1, Math.min(half - 1, Math.max(0, (i >> 1) + (i & 1 ? 1 : -1)))];
  for (let y = 0; y < size; y++) {
    const rows = both(y);
    for (let x = 0; x < size; x++) {
      if (!mask[y * size + x]) continue;
      const columns = both(x);
      for (const row of rows) for (const column of columns) read[row * half + column] = 1;
    }
  }
  return read;
}

/**
 * Rows at which the frame is cut into bands of about as many visible pixels each.
 * @param {{visible: Uint8Array, size: number}} frame
 * @param {number} count
 * @returns {number[]} count + 1 rows, fewer where there is nothing to share
 */
export function cutsOf({ visible, size }, count) {
  /** @param {number} y */
  const visibleIn = (y) => visible.subarray(y * size, (y + 1) * size).reduce((a, b) => a + b, 0);
  const rows = Array.from({ length: size }, (_, y) => visibleIn(y));
  const all = rows.reduce((a, b) => a + b, 0);
  const cuts = [0];
  let sum = 0;
  rows.forEach((pixels, y) => {
    sum += pixels;
    if (cuts.length < count && y % 2 && sum >= (all * cuts.length) / count && sum < all) cuts.push(y + 1);
  });
  return [...cuts, size];
}

/**
 * The order in which groups are computed: each level's just before the next one reads them, so that they are in cache.
 * @param {Int32Array[]} quads of each level
 * @param {number[]} blocks groups that each level takes at a time
 */
export function scheduleOf(quads, blocks) {
  /** @type {number[]} */
  const schedule = [];
  const done = quads.map(() => 0);
  /**
   * @param {number} level
   * @param {number} row the last one that is needed
   */
  const compute = (level, row) => {
    const groups = quads[level].length / 2;
    while (done[level] < groups && quads[level][2 * done[level]] >> 16 <= row) {
      const count = Math.min(blocks[level], groups - done[level]);
      if (level) {
        const y = quads[level][2 * (done[level] + count) - 1] >> 16;
        compute(level - 1, (y >> 1) + (y & 1));
      }
      schedule.push(level, done[level], count);
      done[level] += count;
    }
  };
  compute(quads.length - 1, Infinity);
  return Int32Array.from(schedule);
}

/**
 * The quads of each level that a band needs, from what the last level paints down to what doubling reads.
 * @param {Uint8Array} visible
 * @param {number[]} sizes of the levels
 * @param {number} top
 * @param {number} bottom
 */
export function quadsOfLevels(visible, sizes, top, bottom) {
  const last = sizes.length - 1;
  const size = sizes[last];
  const mask = visible.slice();
  mask.fill(0, 0, top * size);
  mask.fill(0, bottom * size);
  const masks = [mask];
  for (let i = last - 1; i >= 0; i--) masks.unshift(readByDoubling(masks[0], sizes[i]));
  // doubling takes runs from an even pixel on
  return masks.map((one, i) => quadsOf(one, sizes[i], i ? 2 : 1));
}

/** @param {Int32Array} quads */
export function rectangleOf(quads) {
  const [top, bottom] = [quads[0] >> 16, (quads[quads.length - 1] >> 16) + 1];
  let [left, right] = [Infinity, 0];
  for (const quad of quads) {
    left = Math.min(left, quad & 0xffff);
    right = Math.max(right, (quad & 0xffff) + QUAD);
  }
  return { top, left, width: right - left, height: bottom - top };
}

/**
 * Pixels of the rectangle that quads hold although they are not visible.
 * @param {Int32Array} quads
 * @param {Uint8Array} visible
 * @param {number} size
 * @param {{top: number, left: number, width: number}} rectangle
 */
export function outsideOf(quads, visible, size, { top, left, width }) {
  const found = [];
  for (const quad of quads) {
    const [y, x] = [quad >> 16, quad & 0xffff];
    for (let i = x; i < x + QUAD; i++) if (!visible[y * size + i]) found.push((y - top) * width + i - left);
  }
  return Int32Array.from(found);
}
