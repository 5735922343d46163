// Shaders: WGSL of the WebGPU engine's kernels, generated with their sizes as constants.
//
// Activations lie as [block][channel], each entry the channel's values at the block's 8 pixels: one 16-byte load in
// half precision. Phases between levels lie as [pixel][channel], since doubling reads single pixels. A thread computes
// 8 pixels x 4 outputs: two loads and 32 multiply-adds for each input. All threads of a workgroup read the same few
// weights at about the same time, so the caches serve them; copies in workgroup memory would only add barriers.

import { BLOCK } from './webgpu_blocks.js';
import { painting } from './webgpu_paint.js';
import { FACE, OUTPUTS, PICTURE, THREADS, workgroupShape } from './webgpu_plan.js';
import { fusedOffsets } from './webgpu_weights.js';

/** @typedef {import('./webgpu_plan.js').Kernel} Kernel */

/**
 * The 8 values of a channel in a block, two rows of four, as they are stored: `opened` and `closed` in general;
 * `openedLast` and `closedLast` for the last sines before what is painted, see Kernel.last.
 */
const EIGHT = {
  half: `
alias Eight = vec4u;
fn opened(v: Eight) -> mat2x4f {
  return mat2x4f(
    vec4f(unpack2x16float(v.x), unpack2x16float(v.y)), vec4f(unpack2x16float(v.z), unpack2x16float(v.w)));
}
fn closed(top: vec4f, bottom: vec4f) -> Eight {
  return vec4u(
    pack2x16float(top.xy), pack2x16float(top.zw), pack2x16float(bottom.xy), pack2x16float(bottom.zw));
}
fn openedLast(v: Eight) -> mat2x4f {
  return mat2x4f(
    vec4f(unpack2x16snorm(v.x), unpack2x16snorm(v.y)), vec4f(unpack2x16snorm(v.z), unpack2x16snorm(v.w)));
}
fn closedLast(top: vec4f, bottom: vec4f) -> Eight {
  return vec4u(
    pack2x16snorm(top.xy), pack2x16snorm(top.zw), pack2x16snorm(bottom.xy), pack2x16snorm(bottom.zw));
}`,
  float32: `
alias Eight = mat2x4f;
fn opened(v: Eight) -> mat2x4f { return v; }
fn closed(top: vec4f, bottom: vec4f) -> Eight { return mat2x4f(top, bottom); }
fn openedLast(v: Eight) -> mat2x4f { return v; }
fn closedLast(top: vec4f, bottom: vec4f) -> Eight { return mat2x4f(top, bottom); }`,
};

/** One pixel's last sine of a channel, in workgroup memory. */
const ONE = {
  half: `
fn one(entry: u32, pixel: u32) -> f32 { return unpack2x16snorm(held[entry][pixel >> 1u])[pixel & 1u]; }`,
  float32: `
fn one(entry: u32, pixel: u32) -> f32 { return held[entry][pixel >> 2u][pixel & 3u]; }`,
};

/**
 * sin(pi t): t is brought into [-1, 1], where the sine is t (1 - t^2) times a polynomial in t^2 (minimax; greatest
 * error 3e-7 in float32). WGSL promises 2^-11 of its own sine, and nothing outside [-pi, pi].
 */
const SINE = `
fn sine(t: vec4f) -> vec4f {
  let u = fma(vec4f(-2.0), round(0.5 * t), t);
  let q = u * u;
  let p = fma(q, fma(q, fma(q, fma(q, vec4f(0.0059732916), vec4f(-0.074459367)), vec4f(0.52378047)), vec4f(-2.0260837)),
    vec4f(3.1415913));
  return u * (1.0 - q) * p;
}`;

/**
 * Declares storage buffers in the order of their bindings.
 * @param {[name: string, type: string, length: number, access?: string][]} buffers
 */
const storage = (buffers) =>
  buffers
    .map(
      ([name, type, length, access = 'read'], i) =>
        `@group(0) @binding(${i}) var<storage, ${access}> ${name}: array<${type}, ${length}>;`,
    )
    .join('\n');

/**
 * @param {number} count
 * @param {(i: number) => string} line
 */
const lines = (count, line) => Array.from({ length: count }, (_, i) => line(i)).join('\n');

/**
 * A thread's sums a0..a3 of the upper four pixels and b0..b3 of the lower, each for one of its four outputs.
 * @param {number} inputs
 * @param {number} tiles outputs in fours
 * @param {string} weights where the matrix begins in `w`
 * @param {(k: string) => string} read the values of a channel
 */
const sums = (inputs, tiles, weights, read) => `
    let bias = w[${weights} + ${inputs * tiles}u + tile];
${lines(4, (j) => `    var a${j} = vec4f(bias[${j}]); var b${j} = a${j};`)}
    for (var k = 0u; k < ${inputs}u; k += 4u) {
${lines(
  4,
  (i) => `      {
        let v = ${read(`(k + ${i}u)`)};
        let m = w[${weights} + (k + ${i}u) * ${tiles}u + tile];
${lines(4, (j) => `        a${j} = fma(vec4f(m[${j}]), v[0], a${j}); b${j} = fma(vec4f(m[${j}]), v[1], b${j});`)}
      }`,
)}
    }`;

/**
 * A thread's first sines of a block: `top` and `bottom`, its two rows, hold four pixels for each of four channels. `tile`
 * and `block` are given.
 * @param {Kernel} kernel
 */
function firstSines({ size, outputs, below }) {
  const tiles = outputs / OUTPUTS;
  const column = (/** @type {number} */ c) => `
    let near${c} = 0.75 * below[taps[1][${c}] * ${tiles}u + tile];
    let top${c} = fma(vec4f(0.25), below[taps[0][${c}] * ${tiles}u + tile], near${c});
    let bottom${c} = fma(vec4f(0.25), below[taps[2][${c}] * ${tiles}u + tile], near${c});`;
  const rows = [0, 1, 2].map((row) => `places[block * 4u + ${row}u]`);
  // pixel 0 of a row lies between the columns 0 and 1, a quarter from 1; and so on
  const DOUBLED = [[0, 1], [2, 1], [1, 2], [3, 2]];
  const doubled = (/** @type {string} */ row, /** @type {number} */ i) =>
    below ? ` + 0.25 * ${row}${DOUBLED[i][0]} + 0.75 * ${row}${DOUBLED[i][1]}` : '';
  return `
    let place = places[block * 4u + 3u];
${below ? `    let taps = array(${rows.join(', ')});${lines(4, column)}` : ''}
    let ax = (vec4f(f32(2u * place.x + 1u)) + vec4f(0.0, 2.0, 4.0, 6.0)) / ${size}.0 - 1.0;
    let ay = (f32(2u * place.y + 1u) + vec2f(0.0, 2.0)) / ${size}.0 - 1.0;
    let upper = fma(vec4f(ay.x), w[${tiles}u + tile], shift[tile]);
    let lower = fma(vec4f(ay.y), w[${tiles}u + tile], shift[tile]);
    let along = w[tile];
    let top = transpose(mat4x4f(
${lines(4, (i) => `      sine(fma(vec4f(ax[${i}]), along, upper)${doubled('top', i)})${i < 3 ? ',' : '));'}`)}
    let bottom = transpose(mat4x4f(
${lines(4, (i) => `      sine(fma(vec4f(ax[${i}]), along, lower)${doubled('bottom', i)})${i < 3 ? ',' : '));'}`)}`;
}

/** @param {Kernel} kernel */
const firstBuffers = ({ outputs, below }) => /** @type {[string, string, number][]} */ (
  below ? [['below', 'vec4f', (below * outputs) / 4]] : []
);

/**
 * Which outputs a thread of single layers computes, if any.
 * @param {Kernel} kernel
 */
const guarded = ({ blocks, outputs }) => `
    let tile = id.x;
    let block = id.y;
    if (tile >= ${outputs / OUTPUTS}u || block >= ${blocks}u) { return; }`;

/** @param {Kernel} kernel */
function first(kernel) {
  const { blocks, outputs, last } = kernel;
  return `
${storage([
  ['places', 'vec4u', blocks * 4],
  ['w', 'vec4f', outputs / 2],
  ['shift', 'vec4f', outputs / 4],
  ['y', 'Eight', blocks * outputs, 'read_write'],
  ...firstBuffers(kernel),
])}
@compute @workgroup_size(${workgroupShape(outputs)})
fn main(@builtin(global_invocation_id) id: vec3u) {${guarded(kernel)}${firstSines(kernel)}
    let at = block * ${outputs}u + tile * 4u;
${lines(4, (j) => `    y[at + ${j}u] = closed${last ? 'Last' : ''}(top[${j}], bottom[${j}]);`)}
}`;
}

/** @param {Kernel} kernel */
function sine(kernel) {
  const { blocks, inputs, outputs, last } = kernel;
  return `
${storage([
  ['x', 'Eight', blocks * inputs],
  ['w', 'vec4f', ((inputs + 1) * outputs) / 4],
  ['y', 'Eight', blocks * outputs, 'read_write'],
])}
@compute @workgroup_size(${workgroupShape(outputs)})
fn main(@builtin(global_invocation_id) id: vec3u) {${guarded(kernel)}
    let start = block * ${inputs}u;${sums(inputs, outputs / 4, '0u', (k) => `opened(x[start + ${k}])`)}
    let at = block * ${outputs}u + tile * 4u;
${lines(4, (j) => `    y[at + ${j}u] = closed${last ? 'Last' : ''}(sine(a${j}), sine(b${j}));`)}
}`;
}

/** @param {Kernel} kernel */
function linear(kernel) {
  const { blocks, inputs, outputs, last, toImage } = kernel;
  const opened = last ? 'openedLast' : 'opened';
  const length = toImage ? PICTURE * PICTURE : (blocks * BLOCK * outputs) / 4;
  const place = toImage
    ? `    let place = places[block * 4u + 3u];
    let at = (place.y + ${FACE.top}u) * ${PICTURE}u + place.x + ${FACE.left}u;`
    : `    let at = block * ${(BLOCK * outputs) / 4}u + tile;`;
  const index = (/** @type {number} */ row, /** @type {number} */ i) =>
    toImage ? `at + ${row * PICTURE + i}u` : `at + ${((row * 4 + i) * outputs) / 4}u`;
  const write = (/** @type {string} */ s, /** @type {number} */ row) =>
    lines(4, (i) => `    y[${index(row, i)}] = vec4f(${[0, 1, 2, 3].map((j) => `${s}${j}[${i}]`).join(', ')});`);
  return `
${storage([
  ['x', 'Eight', blocks * inputs],
  ['w', 'vec4f', ((inputs + 1) * outputs) / 4],
  ['y', 'vec4f', length, 'read_write'],
  .../** @type {[string, string, number][]} */ (toImage ? [['places', 'vec4u', blocks * 4]] : []),
])}
@compute @workgroup_size(${workgroupShape(outputs)})
fn main(@builtin(global_invocation_id) id: vec3u) {${guarded(kernel)}
    let start = block * ${inputs}u;${sums(inputs, outputs / 4, '0u', (k) => `${opened}(x[start + ${k}])`)}
${place}
${write('a', 0)}
${write('b', 1)}
}`;
}

/**
 * Paints a pixel, whose number within its block is `pixel`.
 * @param {string} motion
 * @param {string} rest
 */
const painted = (motion, rest) => `paint(place.x + (pixel & 3u), place.y + (pixel >> 2u), ${motion}, ${rest});`;

/** @param {Kernel} kernel */
function paint(kernel) {
  const { blocks, outputs, size } = kernel;
  return `
${storage([
  ['places', 'vec4u', blocks * 4],
  ['motion', 'vec4f', (blocks * BLOCK * outputs) / 4],
  ['image', 'vec4f', PICTURE * PICTURE],
  ['posed', 'vec4f', size * size, 'read_write'],
])}${painting(size)}
@compute @workgroup_size(${THREADS})
fn main(@builtin(global_invocation_id) id: vec3u) {
  let block = id.x / ${BLOCK}u;
  let pixel = id.x % ${BLOCK}u;
  if (block >= ${blocks}u) { return; }
  let place = places[block * 4u + 3u];
  if (((place.z >> pixel) & 1u) == 0u) { return; }
  ${painted('motion[id.x * 2u]', 'motion[id.x * 2u + 1u]')}
}`;
}

/**
 * The last level as one kernel: a workgroup takes a few blocks through all its layers, their activations in workgroup
 * memory, where each layer's take the place of those before. Then a thread paints a pixel: seven outputs are too few to
 * share out.
 * @param {Kernel} kernel
 */
function fused(kernel) {
  const { blocks, outputs: width, hidden, group, size } = kernel;
  const tiles = width / OUTPUTS;
  const offsets = fusedOffsets(width, hidden);
  const out = offsets[hidden];
  const closed = (/** @type {number} */ layer) => (layer === hidden ? 'closedLast' : 'closed');
  const store = (/** @type {(j: number) => string} */ value) =>
    lines(4, (j) => `    held[(tile * 4u + ${j}u) * ${group}u + row] = ${value(j)};`);
  return `
${storage([
  ['places', 'vec4u', blocks * 4],
  ['w', 'vec4f', out + (width + 1) * 2],
  ['shift', 'vec4f', tiles],
  ['image', 'vec4f', PICTURE * PICTURE],
  ['posed', 'vec4f', size * size, 'read_write'],
  ...firstBuffers(kernel),
])}
var<workgroup> held: array<Eight, ${width * group}>;${ONE[kernel.precision]}${painting(size)}
@compute @workgroup_size(${tiles}, ${group})
fn main(@builtin(local_invocation_id) id: vec3u, @builtin(local_invocation_index) thread: u32,
    @builtin(workgroup_id) workgroup: vec3u) {
  let tile = id.x;
  let row = id.y;
  {
    // beyond the last block it again: all threads must come to the barriers
    let block = min(workgroup.y * ${group}u + row, ${blocks - 1}u);
${firstSines(kernel)}
${store((j) => `${closed(0)}(top[${j}], bottom[${j}])`)}
  }
  workgroupBarrier();
${lines(
  hidden,
  (i) => `  {${sums(width, tiles, `${offsets[i]}u`, (k) => `opened(held[${k} * ${group}u + row])`)}
    workgroupBarrier();
${store((j) => `${closed(i + 1)}(sine(a${j}), sine(b${j}))`)}
  }
  workgroupBarrier();`,
)}
  for (var i = thread; i < ${BLOCK * group}u; i += ${tiles * group}u) {
    let block = workgroup.y * ${group}u + i / ${BLOCK}u;
    let pixel = i % ${BLOCK}u;
    if (block >= ${blocks}u) { break; }
    let place = places[block * 4u + 3u];
    if (((place.z >> pixel) & 1u) == 0u) { continue; }
    var motion = w[${out + width * 2}u];
    var rest = w[${out + width * 2 + 1}u];
    for (var k = 0u; k < ${width}u; k++) {
      let v = vec4f(one(k * ${group}u + i / ${BLOCK}u, pixel));
      motion = fma(w[${out}u + k * 2u], v, motion);
      rest = fma(w[${out + 1}u + k * 2u], v, rest);
    }
    ${painted('motion', 'rest')}
  }
}`;
}

const KINDS = { first, sine, linear, fused, paint };

/**
 * The shader of a dispatch.
 * @param {Kernel} kernel
 * @returns {string} WGSL with the entry point `main`
 */
export const shaderOf = (kernel) => `${EIGHT[kernel.precision]}${SINE}${KINDS[kernel.kind](kernel)}\n`;
