// Packing: folded stages as the kernels read them, in integers where the kernels multiply integers.

/**
 * @typedef {import('../fold.js').Stage} Stage
 * @typedef {import('../fold.js').Layer} Layer
 *
 * @typedef {{gains: Float32Array, lambda: number, alpha: number, beta: number}} Sines the same as in kernels.cpp
 *
 * @typedef {Object} PackedLayer one matrix and what follows it, as struct Layer of kernels.cpp
 * @property {number} kind
 * @property {number} inputs words of a pixel
 * @property {number} rows padded to pairs
 * @property {number} shift
 * @property {Int16Array | Float32Array} weights
 * @property {Int32Array | Float32Array} bias
 * @property {Sines} sines that follow, where they are int16
 *
 * @typedef {Object} PackedStage
 * @property {number} size
 * @property {number} channels of the first sines, padded to pairs
 * @property {Sines} sines the first ones
 * @property {Float32Array} byX padded, as byY
 * @property {Float32Array} byY
 * @property {PackedLayer[]} layers
 */

/** Kinds of layers, as kernels.cpp has them. */
export const SINES = 0;
const FLOAT_SINES = 1;
const SUMS = 2;
const FLOATS = 3;

/** Rows of a matrix that the kernels take at a time. */
const BLOCK = 4;
/** Largest int16, of weights and activations. */
const LARGEST = 32767;
/** Sums of products are in units of 2^(shift - 31) half-turns; these shifts have kernels. */
const SHIFTS = [0, 1, 2, 4];
/** A plane's unit is 16 of the sums': doubling weighs by sixteenths. */
const PLANE_SHIFT = 4;
/** Half-turns that rounding may put phases off by; above it a level hands on what float32 products give. */
const LARGEST_ERROR = 1e-4;
/** sin(pi t) = c p ((|p| + a)^2 + b) with p = t (1 - |t|), to 8e-6; see rounded_sine. */
const [SINE_C, SINE_A, SINE_B] = [1.21780254, 1.28368742, 0.93238195];

/** @param {number} count */
const even = (count) => count + (count % 2);


/**
 * The integers that inputs of 1 become, where the roundings of weights and of activations weigh the same, as far as
 * int16 lets it; and by how much a phase is off then, in half-turns.
 * @param {Layer} layer
 * @param {number} shift
 * @returns {{ones: Float64Array, shift: number, error: number} | null} null where weights do not reach with this shift
 */
function scalesOf({ inputs, outputs, weight }, shift) {
  const unit = 2 ** (31 - shift);
  const ones = new Float64Array(even(inputs)).fill(1);
  let error = 0;
  for (let k = 0; k < inputs; k++) {
    let largest = 0;
    let squares = 0;
    for (let o = 0; o < outputs; o++) {
      const value = weight[o * inputs + k];
      largest = Math.max(largest, Math.abs(value));
      squares += value * value;
    }
    const least = (largest * unit) / (LARGEST - 1);
    if (least > LARGEST) return null;
    const balanced = Math.sqrt(unit * Math.sqrt((2 * squares) / outputs));
    ones[k] = Math.max(1, Math.min(LARGEST, Math.max(least, balanced)));
    error += squares / outputs / ones[k] ** 2 / 12 + (ones[k] / unit) ** 2 / 24;
  }
  return { ones, shift, error: Math.sqrt(error) };
}

/**
 * Integer weights [block][pair of inputs][row][2] and biases.
 * @param {Layer} layer
 * @param {Float64Array} ones
 * @param {number} shift
 */
function integersOf({ inputs, outputs, weight, bias }, ones, shift) {
  const rows = even(outputs);
  const words = even(inputs) / 2;
  const unit = 2 ** (31 - shift);
  const weights = new Int16Array(rows * words * 2);
  for (let row = 0; row < rows; row += BLOCK) {
    const height = Math.min(BLOCK, rows - row); // the last block may be of two
    for (let r = 0; r < height && row + r < outputs; r++) {
      for (let k = 0; k < inputs; k++) {
        const at = (row * words + (k >> 1) * height + r) * 2 + (k & 1);
        weights[at] = Math.round((weight[(row + r) * inputs + k] * unit) / ones[k]);
      }
    }
  }
  const integers = new Int32Array(rows);
  bias.forEach((value, i) => {
    integers[i] = Math.round(value * unit) | 0; // modulo 2^32, as whole turns are nothing
  });
  return { inputs: words, rows, weights, bias: integers };
}

/**
 * Float weights [block][input][row].
 * @param {Layer} layer
 * @param {number} rows
 */
function floatsOf({ inputs, outputs, weight, bias }, rows) {
  const columns = even(inputs);
  const weights = new Float32Array(rows * columns);
  for (let row = 0; row < outputs; row += BLOCK) {
    const height = Math.min(BLOCK, rows - row);
    for (let r = 0; r < height && row + r < outputs; r++) {
      for (let k = 0; k < inputs; k++) weights[row * columns + k * height + r] = weight[(row + r) * inputs + k];
    }
  }
  return { inputs: columns, rows, weights, bias: padded(bias, rows) };
}

/**
 * @param {Float32Array} values
 * @param {number} count
 */
function padded(values, count) {
  const result = new Float32Array(count);
  result.set(values);
  return result;
}

/**
 * @param {Layer} layer
 * @param {number[]} shifts
 */
function bestScales(layer, shifts) {
  for (const shift of shifts) {
    const scales = scalesOf(layer, shift);
    if (scales) return scales;
  }
  throw new Error("the character's weights are too large for this engine's 16-bit products");
}

/**
 * @param {Stage} stage
 * @param {boolean} hands whether it hands phases to a next level
 * @returns {PackedStage}
 */
export function packStage(stage, hands) {
  const sums = hands ? scalesOf(stage.out, PLANE_SHIFT) : null;
  const isExact = !sums || sums.error > LARGEST_ERROR;
  if (isExact && !stage.hidden.length) throw new Error('the character has a level of one layer; expected two or more');
  const scales = stage.hidden.map((layer) => bestScales(layer, SHIFTS));
  if (!isExact) scales.push(sums);
  const layers = stage.hidden.map((layer, i) => ({
    kind: i < scales.length - 1 ? SINES : FLOAT_SINES,
    shift: scales[i].shift,
    ...integersOf(layer, scales[i].ones, scales[i].shift),
    sines: sinesOf(scales[i + 1]?.ones),
  }));
  const rows = hands ? even(stage.out.outputs) : stage.out.outputs; // the next level reads pairs
  const out = isExact
    ? { kind: FLOATS, shift: 0, ...floatsOf(stage.out, rows), sines: sinesOf() }
    : { kind: SUMS, shift: 0, ...integersOf(stage.out, sums.ones, PLANE_SHIFT), sines: sinesOf() };
  const channels = even(stage.first.outputs);
  return {
    size: stage.size,
    channels,
    sines: sinesOf(scales[0].ones),
    byX: padded(stage.first.byX, channels),
    byY: padded(stage.first.byY, channels),
    layers: [...layers, out],
  };
}

/**
 * How phases become int16, for rounded sines.
 * @param {Float64Array} [ones] what 1 becomes, for each channel
 * @returns {Sines}
 */
function sinesOf(ones = Float64Array.of(1)) {
  const one = ones.reduce((a, b) => Math.max(a, b));
  const lambda = (SINE_C * one) ** (1 / 6);
  return {
    gains: Float32Array.from(ones, (value) => value / one),
    lambda,
    alpha: lambda ** 2 * SINE_A,
    beta: lambda ** 4 * SINE_B,
  };
}
