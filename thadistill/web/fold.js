// Fold: a student's networks without their redundancies, exactly equal but for rounding.
//
// Pose and position are constant planes, so their products are a bias for each frame and a linear map of x and y; a level's
// first matrix commutes with the bilinear doubling, so it is applied below it. Phases are in half-turns: a sine layer is
// sin(pi t) with omega / pi already in its matrix and bias.

/**
 * @typedef {Object} Layer a matrix, row-major [outputs][inputs], and its bias
 * @property {number} inputs
 * @property {number} outputs
 * @property {Float32Array} weight
 * @property {Float32Array} bias zeros where there is none
 *
 * @typedef {Object} First the phases that position and pose give: t[c] = byX[c] x + byY[c] y + byPose[c] . pose + bias[c]
 * @property {number} outputs
 * @property {number} poseSize 39 for the face, else 45
 * @property {Float32Array} byX
 * @property {Float32Array} byY
 * @property {Float32Array} byPose row-major [outputs][poseSize]
 * @property {Float32Array} bias
 *
 * @typedef {Object} Stage the face morpher, or a level of the body rotator
 * @property {number} size image side; pixel i of an axis lies at (2 i + 1) / size - 1
 * @property {First} first to which a level adds the bilinearly doubled output of the level below, then sin(pi t)
 * @property {Layer[]} hidden each followed by sin(pi t)
 * @property {Layer} out not followed by a sine: the phases it adds to the next level, or the last linear layer, whose
 *   outputs are red, green, blue, alpha for the face, and grid change x, y, alpha, colour change 4 for the last level
 *
 * @typedef {{shape: number[], data: Float32Array}} Tensor
 * @typedef {Record<string, Tensor>} Tensors by the names of the published files
 */

import { FACIAL_SIZE, POSE_SIZE } from './pose.js';

/**
 * @param {Tensors} tensors
 * @param {string} name without `.weight`
 * @returns {Layer}
 */
function layerOf(tensors, name) {
  const weight = tensors[`${name}.weight`];
  const bias = tensors[`${name}.bias`];
  if (!weight || !bias) throw new Error(`the character has no layer ${name}`);
  const [outputs, inputs] = weight.shape;
  if (weight.data.length !== outputs * inputs || bias.data.length !== outputs) {
    throw new Error(`the character's layer ${name} has shapes [${weight.shape}] and [${bias.shape}]`);
  }
  return { outputs, inputs, weight: weight.data, bias: bias.data };
}

/**
 * @param {Float32Array} values
 * @param {number} factor
 */
const scaled = (values, factor) => Float32Array.from(values, (value) => value * factor);

/**
 * Columns of a matrix, times a factor.
 * @param {Layer} layer
 * @param {number} start
 * @param {number} stop
 * @param {number} factor
 */
function columns(layer, start, stop, factor) {
  const width = stop - start;
  const result = new Float32Array(layer.outputs * width);
  for (let row = 0; row < layer.outputs; row++) {
    for (let k = 0; k < width; k++) result[row * width + k] = layer.weight[row * layer.inputs + start + k] * factor;
  }
  return result;
}

/**
 * @param {Layer} layer a network's or a level's first, over [features, x, y, pose]
 * @param {number} features
 * @param {number} poseSize
 * @param {number} factor
 * @returns {First}
 */
function firstOf(layer, features, poseSize, factor) {
  if (layer.inputs !== features + 2 + poseSize) {
    throw new Error(`a first layer has ${layer.inputs} inputs; expected ${features + 2 + poseSize}`);
  }
  return {
    outputs: layer.outputs,
    poseSize,
    byX: columns(layer, features, features + 1, factor),
    byY: columns(layer, features + 1, features + 2, factor),
    byPose: columns(layer, features + 2, layer.inputs, factor),
    bias: scaled(layer.bias, factor),
  };
}

/**
 * @param {Layer[]} layers
 * @param {number} inputs
 * @param {number} factor
 */
function sines(layers, inputs, factor) {
  return layers.map((layer) => {
    if (layer.inputs !== inputs) throw new Error(`a layer has ${layer.inputs} inputs; expected ${inputs}`);
    inputs = layer.outputs;
    return { ...layer, weight: scaled(layer.weight, factor), bias: scaled(layer.bias, factor) };
  });
}

/**
 * @param {Tensors} tensors
 * @param {string} prefix
 */
function chain(tensors, prefix) {
  const layers = [];
  while (`${prefix}${layers.length}.linear.weight` in tensors) {
    layers.push(layerOf(tensors, `${prefix}${layers.length}.linear`));
  }
  if (!layers.length) throw new Error(`the character has no layers ${prefix}*`);
  return layers;
}

/**
 * @param {Tensors} tensors
 * @param {string} name
 * @param {number} inputs
 * @param {number} outputs
 */
function lastLinear(tensors, name, inputs, outputs) {
  const layer = layerOf(tensors, name);
  if (layer.inputs !== inputs || layer.outputs !== outputs) {
    throw new Error(`${name} is ${layer.inputs} -> ${layer.outputs}; expected ${inputs} -> ${outputs}`);
  }
  return layer;
}

/**
 * The face morpher at 128x128.
 * @param {Tensors} tensors
 * @param {number} omega
 * @returns {Stage}
 */
export function foldFace(tensors, omega) {
  const factor = omega / Math.PI;
  const [first, ...rest] = chain(tensors, 'siren.sine_layers.');
  const hidden = sines(rest, first.outputs, factor);
  const width = hidden.at(-1)?.outputs ?? first.outputs;
  return {
    size: 128,
    first: firstOf(first, 0, FACIAL_SIZE, factor),
    hidden,
    out: lastLinear(tensors, 'siren.last_linear', width, 4),
  };
}

/**
 * The body rotator, a stage a level, each twice the size of the one before.
 * @param {Tensors} tensors
 * @param {number} omega
 * @param {number[]} sizes
 * @returns {Stage[]}
 */
export function foldBody(tensors, omega, sizes) {
  const factor = omega / Math.PI;
  const levels = sizes.map((_, level) => chain(tensors, `siren_layers.${level}.`));
  let features = 0;
  return levels.map(([first, ...rest], level) => {
    if (level && sizes[level] !== 2 * sizes[level - 1]) throw new Error(`levels of ${sizes} pixels; expected doubling`);
    const hidden = sines(rest, first.outputs, factor);
    const width = hidden.at(-1)?.outputs ?? first.outputs;
    const above = levels[level + 1]?.[0];
    const out = above
      ? {
          inputs: width,
          outputs: above.outputs,
          weight: columns(above, 0, width, factor),
          bias: new Float32Array(above.outputs), // the bias joins after the doubling
        }
      : lastLinear(tensors, 'last_linear', width, 7);
    const stage = { size: sizes[level], first: firstOf(first, features, POSE_SIZE, factor), hidden, out };
    features = width;
    return stage;
  });
}

/**
 * The phases that a pose gives a stage's first layer, its bias included.
 * @param {First} first
 * @param {Float32Array} pose 45 values
 * @param {Float32Array} [into] at least `first.outputs` long
 */
export function shiftOf(first, pose, into = new Float32Array(first.outputs)) {
  const { outputs, poseSize, byPose, bias } = first;
  for (let c = 0; c < outputs; c++) {
    let sum = bias[c];
    for (let k = 0, at = c * poseSize; k < poseSize; k++) sum += byPose[at + k] * pose[k];
    into[c] = sum;
  }
  return into;
}
