// Packing: folded stages as the kernels read them, in integers where the kernels multiply integers.

/**
 * @typedef {import('../fold.js').Stage} Stage
 * @typedef {import('../fold.js').Layer} Layer
 *
 * @typedef {Object} Scales how a matrix is multiplied in integers
 * @property {Float64Array} ones what 1 becomes, of each input
 * @property {number} shift that brings sums of products to units of 2^-31 half-turns
 * @property {number} error root mean square of what rounding adds to an output
 *
 * @typedef {{gains: Float32Array, lambda: number, alpha: number, beta: number}} Sines how phases become int16
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
const SCALED = 3;
const FLOATS = 4;

/** Rows of a matrix that the kernels take at a time. */
const BLOCK = 4;
/** Largest int16, of weights and activations. */
const LARGEST = 32767;
/** Sums of products are in units of 2^(shift - 31) half-turns; these shifts have kernels. */
const SHIFTS = [0, 1, 2, 4];
/** A plane's unit is 16 of the sums': doubling weighs by sixteenths. */
const PLANE_SHIFT = 4;
/**
 * What rounding may add, root mean square. `phase`: half-turns, above which each input gets a scale of its own;
 * `plane`: half-turns, above which a level hands on what float32 products give; `shown`: of colour and alpha; `grid`:
 * of grid change, of which 2 is the image's side. Above the last two the last layer is of float32 products.
 */
const LIMITS = {
  level: { phase: 3e-5, plane: 1e-4, shown: 6e-5, grid: 1e-5 },
  face: { phase: 1e-4, plane: 0, shown: 1e-4, grid: Infinity }, // no grid change multiplies its errors
};
/** sin(pi t) = c p ((|p| + a)^2 + b) with p = t (1 - |t|), to 8e-6; see Sine of kernels.cpp. */
const [SINE_C, SINE_A, SINE_B] = [1.21780254, 1.28368742, 0.93238195];

/** @param {number} count */
export const even = (count) => count + (count % 2);

/**
 * The integers that inputs of 1 become, where the roundings of weights and of activations weigh the same, as far as
 * int16 lets it; and by how much a phase is off then, in half-turns.
 * @param {Layer} layer
 * @param {number} shift
 * @param {boolean} shared whether all inputs have the same
 * @returns {Scales | null} null where weights do not reach with this shift
 */
function scalesOf({ inputs, outputs, weight }, shift, shared) {
  const unit = 2 ** (31 - shift);
  const [largest, squares] = [new Float64Array(inputs), new Float64Array(inputs)];
  weight.forEach((value, i) => {
    const k = i % inputs;
    largest[k] = Math.max(largest[k], Math.abs(value));
    squares[k] += (value * value) / outputs;
  });
  if (shared) {
    largest.fill(largest.reduce((a, b) => Math.max(a, b)));
    squares.fill(squares.reduce((a, b) => a + b) / inputs);
  }
  const ones = new Float64Array(even(inputs)).fill(1);
  let error = 0;
  for (let k = 0; k < inputs; k++) {
    const least = (largest[k] * unit) / (LARGEST - 1);
    if (least > LARGEST) return null;
    const balanced = Math.sqrt(unit * Math.sqrt(2 * squares[k]));
    ones[k] = Math.max(1, Math.min(LARGEST, Math.max(least, balanced)));
    error += squares[k] / ones[k] ** 2 / 12 + (ones[k] / unit) ** 2 / 24;
  }
  if (shared) ones.fill(ones[0]);
  return { ones, shift, error: Math.sqrt(error) };
}

/**
 * The same for the last linear layer, whose outputs are no phases: sums must not wrap, so each row has its own unit.
 * @param {Layer} layer
 * @param {typeof LIMITS.level} limits
 * @returns {(Scales & {units: Float64Array}) | null} null where rounding would show
 */
function lastScalesOf({ inputs, outputs, weight, bias }, limits) {
  const rows = Array.from({ length: outputs }, (_, o) => weight.subarray(o * inputs, (o + 1) * inputs));
  const units = Float64Array.from(rows, (row, o) => {
    const most = row.reduce((sum, value) => sum + Math.abs(value), Math.abs(bias[o]));
    return Math.max(most, 1e-9) / (2 ** 31 - 2 ** 22);
  });
  const squares = rows.map((row) => row.reduce((sum, value) => sum + value * value, 0));
  const needs = rows.map((row, o) => row.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0) / units[o]);
  const balanced = Math.max(...units.map((unit, o) => Math.sqrt(Math.sqrt((2 * squares[o]) / inputs) / unit)));
  const least = Math.max(...needs) / (LARGEST - 1);
  const one = Math.max(1, Math.min(LARGEST, Math.max(least, balanced)));
  if (least > LARGEST) return null;
  const errors = rows.map((_, o) => Math.sqrt(squares[o] / one ** 2 / 12 + (inputs * (one * units[o]) ** 2) / 24));
  if (errors.some((error, o) => error > (limits === LIMITS.level && o < 2 ? limits.grid : limits.shown))) return null;
  return { ones: new Float64Array(even(inputs)).fill(one), shift: 0, error: Math.max(...errors), units };
}

/**
 * Integer weights [block][pair of inputs][row][2] and biases.
 * @param {Layer} layer
 * @param {Float64Array} ones
 * @param {(row: number) => number} unit of the sums of products
 */
function integersOf({ inputs, outputs, weight, bias }, ones, unit) {
  const rows = even(outputs);
  const words = even(inputs) / 2;
  const weights = new Int16Array(rows * words * 2);
  for (let row = 0; row < rows; row += BLOCK) {
    const height = Math.min(BLOCK, rows - row); // the last block may be of two
    for (let r = 0; r < height && row + r < outputs; r++) {
      for (let k = 0; k < inputs; k++) {
        const at = (row * words + (k >> 1) * height + r) * 2 + (k & 1);
        weights[at] = Math.round(weight[(row + r) * inputs + k] / unit(row + r) / ones[k]);
      }
    }
  }
  const integers = new Int32Array(rows);
  bias.forEach((value, row) => {
    integers[row] = Math.round(value / unit(row)) | 0; // modulo 2^32, as whole turns are nothing
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
 * @param {typeof LIMITS.level} limits
 */
function bestScales(layer, limits) {
  for (const shift of SHIFTS) {
    const shared = scalesOf(layer, shift, true);
    if (shared) return shared.error < limits.phase ? shared : scalesOf(layer, shift, false) ?? shared;
  }
  throw new Error("the character's weights are too large for this engine's 16-bit products");
}

/**
 * @param {Stage} stage
 * @param {'face' | 'level' | 'last level'} role a level hands phases to the next one
 * @returns {PackedStage}
 */
export function packStage(stage, role) {
  const limits = role === 'face' ? LIMITS.face : LIMITS.level;
  const scales = stage.hidden.map((layer) => bestScales(layer, limits));
  const out = packOut(stage, role === 'level', limits);
  if (out.scales) scales.push(out.scales);
  else if (!scales.length) throw new Error('the character has a level of one layer; expected two or more');
  const layers = stage.hidden.map((layer, i) => ({
    kind: i < scales.length - 1 ? SINES : FLOAT_SINES,
    shift: scales[i].shift,
    ...integersOf(layer, scales[i].ones, () => 2 ** (scales[i].shift - 31)),
    sines: sinesOf(scales[i + 1]?.ones),
  }));
  const channels = even(stage.first.outputs);
  return {
    size: stage.size,
    channels,
    sines: sinesOf(scales[0].ones),
    byX: padded(stage.first.byX, channels),
    byY: padded(stage.first.byY, channels),
    layers: [...layers, out.layer],
  };
}

/**
 * What a stage hands on, or shows: from int16 where that is exact enough, else from floats.
 * @param {Stage} stage
 * @param {boolean} hands
 * @param {typeof LIMITS.level} limits
 * @returns {{layer: PackedLayer, scales: Scales | null}}
 */
function packOut({ out }, hands, limits) {
  const sums = hands ? scalesOf(out, PLANE_SHIFT, true) : null;
  if (sums && sums.error < limits.plane) {
    const integers = integersOf(out, sums.ones, () => 2 ** (PLANE_SHIFT - 31));
    return { layer: { kind: SUMS, shift: 0, ...integers, sines: sinesOf() }, scales: sums };
  }
  const last = hands ? null : lastScalesOf(out, limits);
  if (last) {
    const integers = integersOf(out, last.ones, (row) => last.units[row]);
    const sines = { ...sinesOf(), gains: padded(Float32Array.from(last.units), integers.rows) };
    return { layer: { kind: SCALED, shift: 0, ...integers, sines }, scales: last };
  }
  const rows = hands ? even(out.outputs) : out.outputs; // the next level reads pairs
  return { layer: { kind: FLOATS, shift: 0, ...floatsOf(out, rows), sines: sinesOf() }, scales: null };
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
