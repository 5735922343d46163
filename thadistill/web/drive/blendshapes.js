// Blendshapes: a tracked face (52 blendshapes, a head matrix) to the 45-value pose, as thadistill/drive/blendshapes.py.

import { LOW, POSE_PARAMETERS, indexOf, rest } from '../pose.js';

/** The morphs that lowered brows can be shown as. */
export const EYEBROW_DOWN = Object.freeze(/** @type {const} */ (['angry', 'troubled', 'serious', 'lowered']));
/** What a closed eye can be shown as. */
export const WINK = Object.freeze(/** @type {const} */ (['normal', 'relaxed']));

/**
 * @typedef {typeof EYEBROW_DOWN[number]} EyebrowDown
 * @typedef {typeof WINK[number]} Wink
 * @typedef {[number, number, number]} Angles about x (right), y (up), z (to the viewer), in degrees
 * @typedef {{eyebrowDown?: EyebrowDown, wink?: Wink, neutral?: Angles}} Mapping
 *   `neutral`: the head's angles when looking straight ahead
 */

/** What each vowel looks like in (open, lower lip down, funnel, pucker): aaa, iii, uuu, ooo. */
const VOWELS = [[1, 1, 0, 0], [0, 1, 0, 0], [0.5, 0.3, 0.25, 0.75], [1, 0.5, 0.5, 0.4]];
const SPARSITY = 0.01; // prefers one vowel to a mixture that looks the same
const FULL_TURN = [-15, -10, 15]; // degrees of x, y, z at which a pose value is 1
const SIDES = ['Left', 'Right'];

/**
 * The pose of one tracked face, within its ranges; breathing stays 0.
 * @param {Readonly<Record<string, number>>} blendshapes by ARKit's names, each in [0, 1]; absent ones count as 0
 * @param {ArrayLike<number> | null} matrix the head's 4x4 matrix, column by column; null for none
 * @param {Mapping} [mapping]
 * @returns {Float32Array}
 */
export function poseOf(blendshapes, matrix, { eyebrowDown = 'angry', wink = 'normal', neutral = [0, 0, 0] } = {}) {
  const b = (/** @type {string} */ name) => blendshapes[name] ?? 0;
  const pose = rest();
  const set = (/** @type {string} */ name, /** @type {number} */ value) => {
    const i = indexOf(name);
    pose[i] = Math.min(1, Math.max(LOW[i], value));
  };
  const smile = (b('mouthSmileLeft') + b('mouthSmileRight')) / 2 + b('mouthShrugUpper');
  const smiling = ramp(smile, 0.4, 0.6); // a smile closes eyes and lifts brows happily
  const closed = wink === 'normal' ? 'eye_wink' : 'eye_relaxed';
  for (const side of SIDES) {
    const end = `_${side.toLowerCase()}`;
    set(`eyebrow_raised${end}`, b('browInnerUp') + b(`browOuterUp${side}`));
    set(`eyebrow_${eyebrowDown}${end}`, (1 - smiling) * ramp(b(`browDown${side}`), 0, 0.4));
    set(`eyebrow_happy${end}`, ramp(smile, 0, 1) * smiling);
    set(`eye_surprised${end}`, b(`eyeWide${side}`) / 0.5);
    set(`${closed}${end}`, (1 - smiling) * ramp(b(`eyeBlink${side}`), 0, 0.8));
    set(`eye_happy_wink${end}`, smiling * ramp(b(`eyeBlink${side}`), 0, 0.8));
    set(`eye_raised_lower_eyelid${end}`, ramp(b(`cheekSquint${side}`), 0.1, 0.7));
    set(`mouth_raised_corner${end}`, smile);
  }
  const sideways = b('eyeLookInLeft') - b('eyeLookOutLeft') - b('eyeLookInRight') + b('eyeLookOutRight');
  const upwards = b('eyeLookUpLeft') + b('eyeLookUpRight') - b('eyeLookDownLeft') - b('eyeLookDownRight');
  set('iris_rotation_y', sideways / 2 / 0.75);
  set('iris_rotation_x', upwards / 2 / 0.75);
  const opened = ramp(b('jawOpen'), 0.1, 0.4);
  if (opened === 0) {
    const lowered = ramp(b('mouthFrownLeft') + b('mouthFrownRight'), 0, 0.6);
    for (const side of SIDES) set(`mouth_lowered_corner_${side.toLowerCase()}`, lowered);
  } else {
    const lips = ramp(b('mouthLowerDownLeft') + b('mouthLowerDownRight'), 0, 1);
    const [aaa, iii, uuu, ooo] = vowelsOf([opened, lips, b('mouthFunnel'), b('mouthPucker')]);
    const rounding = Math.min(1, uuu + ooo);
    const funnel = ramp(b('mouthFunnel'), 0.25, 0.5);
    set('mouth_aaa', aaa);
    set('mouth_iii', iii);
    set('mouth_uuu', rounding * (1 - funnel));
    set('mouth_ooo', rounding * funnel);
  }
  if (matrix) {
    const [x, y, z] = anglesOf(matrix).map((angle, i) => (angle - neutral[i]) / FULL_TURN[i]);
    set('head_x', x);
    set('head_y', y);
    set('body_y', y);
    set('neck_z', z);
    set('body_z', z);
  }
  return pose;
}

/**
 * A head's angles about the fixed axes x, y, z, in this order.
 * @param {ArrayLike<number>} matrix 4x4, column by column; a uniform scale does no harm
 * @returns {Angles}
 */
export function anglesOf(matrix) {
  const length = Math.hypot(matrix[0], matrix[1], matrix[2]) || 1;
  const degrees = 180 / Math.PI;
  return [
    Math.atan2(matrix[6], matrix[10]) * degrees,
    Math.asin(Math.min(1, Math.max(-1, -matrix[2] / length))) * degrees,
    Math.atan2(matrix[1], matrix[0]) * degrees,
  ];
}

/**
 * The breathing value at a time: 0 at the start of each breath, 1 in its middle.
 * @param {number} seconds
 * @param {number} [perMinute]
 */
export const breathing = (seconds, perMinute = 20) => (1 - Math.cos((2 * Math.PI * seconds * perMinute) / 60)) / 2;

const TURNED = new Set(['iris_rotation_y', 'head_y', 'neck_z', 'body_y', 'body_z']);
/** For each parameter: the one that takes its value in a mirror, and by which sign. */
const MIRROR = POSE_PARAMETERS.map((name) => {
  const other = name.replace(/_(left|right)$/, (_, side) => (side === 'left' ? '_right' : '_left'));
  return { from: indexOf(other), sign: TURNED.has(name) ? -1 : 1 };
});

/**
 * The pose as its mirror image: left and right change places.
 * @param {Float32Array} pose
 */
export const mirrored = (pose) => Float32Array.from(MIRROR, ({ from, sign }) => sign * pose[from]);

/**
 * 0 up to `low`, 1 from `high`, straight between.
 * @param {number} value
 * @param {number} low
 * @param {number} high
 */
const ramp = (value, low, high) => Math.min(1, Math.max(0, (value - low) / (high - low)));

/** For each set of vowels that are free (neither 0 nor 1), by its bits: their indices and their inverse Gram matrix. */
const FREE = Array.from({ length: 16 }, (_, bits) => {
  const free = [0, 1, 2, 3].filter((i) => bits & (1 << i));
  return { free, inverse: inverseOf(free.map((i) => free.map((j) => dot(VOWELS[i], VOWELS[j])))) };
});

/**
 * Weights d in [0, 1] of the vowels with the least |d VOWELS - shape| + SPARSITY * sum(d).
 *
 * The cost is convex, so its minimum is the best point among those that are stationary on their face of the cube of
 * weights. On a face (some weights fixed at 0 or 1, A the rows of the free ones, p what least squares leaves over) such
 * a point is known in closed form: least squares minus SPARSITY r G 1, where G = (A A')^-1 and r = |p| / sqrt(1 -
 * SPARSITY^2 1'G1) is the distance there. All 81 faces take a tenth of a millisecond, and nothing has to converge:
 * where the Python mapper's iterations stop at the kink of the cost, this one costs less.
 * @param {number[]} shape open, lower lip down, funnel, pucker
 * @returns {number[]} aaa, iii, uuu, ooo
 */
export function vowelsOf(shape) {
  let best = [0, 0, 0, 0];
  let least = Math.hypot(...shape);
  for (let face = 1; face < 81; face++) {
    const kinds = [face % 3, Math.floor(face / 3) % 3, Math.floor(face / 9) % 3, Math.floor(face / 27)]; // 2: free
    const { free, inverse } = FREE[kinds.reduce((bits, kind, i) => (kind === 2 ? bits | (1 << i) : bits), 0)];
    const weights = kinds.map((kind) => Number(kind === 1));
    const wanted = shape.map((value, c) => value - weights.reduce((sum, w, i) => sum + w * VOWELS[i][c], 0));
    const products = free.map((i) => dot(VOWELS[i], wanted));
    free.forEach((i, k) => (weights[i] = dot(inverse[k], products)));
    const left = distance(weights, shape);
    const spread = inverse.reduce((sum, row) => sum + row.reduce((a, b) => a + b, 0), 0);
    const r = left / Math.sqrt(1 - SPARSITY ** 2 * spread);
    free.forEach((i, k) => (weights[i] -= SPARSITY * r * inverse[k].reduce((a, b) => a + b, 0)));
    if (weights.some((w) => !(w >= -1e-9 && w <= 1 + 1e-9))) continue;
    const cost = distance(weights, shape) + SPARSITY * weights.reduce((a, b) => a + b, 0);
    if (cost < least - 1e-12) {
      least = cost;
      best = weights.map((w) => Math.min(1, Math.max(0, w)));
    }
  }
  return best;
}

/**
 * @param {number[]} weights
 * @param {number[]} shape
 */
function distance(weights, shape) {
  return Math.hypot(...shape.map((value, c) => weights.reduce((sum, w, i) => sum + w * VOWELS[i][c], 0) - value));
}

/**
 * @param {number[]} a
 * @param {number[]} b
 */
function dot(a, b) {
  return a.reduce((sum, value, i) => sum + value * b[i], 0);
}

/**
 * The inverse of a small positive definite matrix (Gauss-Jordan; no pivoting needed).
 * @param {number[][]} matrix
 */
function inverseOf(matrix) {
  const n = matrix.length;
  const rows = matrix.map((row, i) => [...row, ...row.map((_, j) => (i === j ? 1 : 0))]);
  for (let i = 0; i < n; i++) {
    rows[i] = rows[i].map((value) => value / rows[i][i]);
    for (let j = 0; j < n; j++) {
      if (j !== i) rows[j] = rows[j].map((value, c) => value - rows[j][i] * rows[i][c]);
    }
  }
  return rows.map((row) => row.slice(n));
}
