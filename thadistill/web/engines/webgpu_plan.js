// Plan: what the WebGPU engine computes for a frame: by which kernels, for which pixels, from and into which buffers.
// Plain arithmetic without a device, so that a frame's cost can be stated and tested anywhere.
//
// Channels are held in fours: widths are filled up with zero weights, whose sines are 0.

import { IMAGE_SIZE } from '../character.js';
import { BLOCK, blocksBelow, blocksOf } from './webgpu_blocks.js';
import { Weights, aligned, inFours } from './webgpu_weights.js';

/**
 * @typedef {import('../character.js').Character} Character
 * @typedef {import('../fold.js').First} First
 * @typedef {import('../fold.js').Stage} Stage
 * @typedef {import('./webgpu_blocks.js').Blocks} Blocks
 *
 * @typedef {import('./webgpu_weights.js').Binding} Binding
 *
 * @typedef {'float32' | 'half'} Precision how activations are stored; sums and phases are float32 in both
 *
 * @typedef {Object} Kernel what a shader is generated from; equal ones share a pipeline
 * @property {'first' | 'sine' | 'linear' | 'fused' | 'paint'} kind
 *   first: phases of position, pose and level below, and their sine. sine: a matrix and the sine of its phases.
 *   linear: a matrix alone. fused: all layers of the last level and the painting. paint: the painting alone
 * @property {Precision} precision
 * @property {number} blocks
 * @property {number} size side of the image
 * @property {number} inputs channels read, in fours; 0: none
 * @property {number} outputs channels written, in fours
 * @property {number} below how many pixels of the level below there are; 0: no level below
 * @property {number} hidden of a fused level: its sine layers after the first
 * @property {number} group of a fused level: blocks of a workgroup
 * @property {boolean} last whether it writes or reads the last sines before what is painted: 16-bit fixed point in half
 *   precision. They alone need more than float16 has: it would cost the paper's student all from 69 to 52 dB
 * @property {boolean} toImage whether a linear layer writes into the picture, where the face lies
 *
 * @typedef {Object} Step a dispatch
 * @property {string} name
 * @property {Kernel} kernel
 * @property {Binding[]} bindings in the order of the shader's
 * @property {[number, number]} workgroups
 * @property {number} multiplyAdds those that the network asks for, without the filling up to fours
 * @property {number} sines
 * @property {number} bytes read and written, each value once
 *
 * @typedef {Object} Plan
 * @property {number} size side of the frame
 * @property {Step[]} face needed when one of the pose's first 39 values has changed
 * @property {Step[]} body needed for every frame
 * @property {Map<string, number>} buffers their sizes in bytes
 * @property {Map<string, Float32Array | Uint32Array>} contents what stands in some of them from the start
 * @property {{first: First, offset: number}[]} shifts places in buffer 'shifts', in floats, of what the pose adds
 *
 * @typedef {Object} Cost
 * @property {number} dispatches
 * @property {number} multiplyAdds
 * @property {number} sines
 * @property {number} bytes of memory read and written, if every dispatch moves each value once
 */

/**
 * Outputs of a thread. 8 pixels x 4 outputs are 32 sums, which with operands fit the 64 registers of the smallest GPUs.
 */
export const OUTPUTS = 4;
/** Threads of a workgroup of single layers: at most 8 x 4 outputs, and then 128 pixels. */
export const THREADS = 128;
const MOST_TILES = 8;
/** Side of the picture that is warped, whatever the frame's. */
export const PICTURE = IMAGE_SIZE;
/** Where the face lies in it. */
export const FACE = Object.freeze({ top: 80, left: 192, size: 128 });
/** The last level's layers are fused while its activations fit the workgroup memory that every device has. */
const WORKGROUP_BYTES = 16384;
const WORKGROUP_THREADS = 256;
/** Fewer blocks a workgroup read the weights too often: 4 blocks, 32 pixels, cost as much traffic as layers apart. */
const FEWEST_FUSED = 4;
const MOST_FUSED = 16;

const bytesOfBlock = (/** @type {Precision} */ precision) => BLOCK * (precision === 'half' ? 2 : 4);

/**
 * A workgroup of single layers: fours of outputs, blocks. Of the paper's layer of 360 channels, at 6,500 pixels, 12
 * workgroups read each activation (56 MB in half precision), and 51 each weight (26 MB).
 * @param {number} outputs
 * @returns {[number, number]}
 */
export function workgroupShape(outputs) {
  const tiles = inFours(outputs) / OUTPUTS;
  const across = Math.ceil(tiles / Math.ceil(tiles / MOST_TILES));
  return [across, Math.floor(THREADS / across)];
}

/**
 * @param {number} blocks
 * @param {number} outputs
 * @returns {[number, number]} workgroups of a single layer
 */
function workgroupsOf(blocks, outputs) {
  const [across, down] = workgroupShape(outputs);
  return [Math.ceil(inFours(outputs) / OUTPUTS / across), Math.ceil(blocks / down)];
}

/**
 * How many blocks a workgroup of the fused last level takes; 0: it is too wide, or its widths differ.
 * @param {Stage} stage
 * @param {Precision} precision
 */
function fusedBlocks({ first, hidden }, precision) {
  const width = inFours(first.outputs);
  if (hidden.some((layer) => inFours(layer.outputs) !== width)) return 0;
  let blocks = MOST_FUSED;
  while (blocks * width * bytesOfBlock(precision) > WORKGROUP_BYTES || (blocks * width) / OUTPUTS > WORKGROUP_THREADS) {
    blocks /= 2;
  }
  return blocks < FEWEST_FUSED ? 0 : blocks;
}

/**
 * Plans a character's frames.
 * @param {Character} character
 * @param {Precision} precision
 * @returns {Plan}
 */
export function planOf(character, precision) {
  const { face, levels, size, visible, image } = character;
  /** @type {Blocks[]} */
  const blocks = [blocksOf(visible, size)];
  while (blocks.length < levels.length) blocks.unshift(blocksBelow(blocks[0]));
  const planner = new Planner(precision, size);
  planner.buffers.set('image', 4 * image.length);
  planner.contents.set('image', image);
  planner.buffers.set('posed', 16 * size * size);
  planner.contents.set('posed', new Float32Array(4 * size * size).fill(-1)); // transparent where nothing is painted
  const facePixels = new Uint8Array(face.size * face.size).fill(1);
  const faceSteps = planner.stage('face', face, blocksOf(facePixels, face.size), null, 'image');
  /** @type {Binding | null} */
  let below = null;
  const body = levels.flatMap((level, i) => {
    const name = `level ${i}`;
    if (i === levels.length - 1) return planner.lastLevel(name, level, blocks[i], below);
    const steps = planner.stage(name, level, blocks[i], below, 'phases');
    below = planner.whole(`${name} out`);
    return steps;
  });
  return planner.finish(faceSteps, body);
}

class Planner {
  /** @type {Map<string, number>} */
  buffers = new Map();
  /** @type {Map<string, Float32Array | Uint32Array>} */
  contents = new Map();
  #weights = new Weights();
  /** @type {{first: First, offset: number}[]} */
  #shifts = [];
  #shiftLength = 0;

  /**
   * @param {Precision} precision
   * @param {number} size side of the frame
   */
  constructor(precision, size) {
    this.precision = precision;
    this.size = size;
  }

  /**
   * A binding of all of a buffer.
   * @param {string} buffer
   * @returns {Binding}
   */
  whole(buffer) {
    return { buffer, offset: 0, size: /** @type {number} */ (this.buffers.get(buffer)) };
  }

  /**
   * A binding of the start of a buffer, which grows to hold it.
   * @param {string} buffer
   * @param {number} size in bytes
   * @returns {Binding}
   */
  #some(buffer, size) {
    this.buffers.set(buffer, Math.max(size, this.buffers.get(buffer) ?? 0));
    return { buffer, offset: 0, size };
  }

  /**
   * @param {string} name
   * @param {Blocks} blocks
   */
  #places(name, { places }) {
    this.contents.set(`${name} places`, places);
    return this.#some(`${name} places`, places.byteLength);
  }

  /**
   * @param {First} first
   * @returns {Binding} what the pose adds to a stage's first phases
   */
  #shift(first) {
    const offset = this.#shiftLength;
    this.#shifts.push({ first, offset });
    this.#shiftLength += aligned(inFours(first.outputs));
    return { buffer: 'shifts', offset: 4 * offset, size: 4 * inFours(first.outputs) };
  }

  /**
   * A dispatch; its bytes are those of its bindings.
   * @param {string} name
   * @param {Pick<Kernel, 'kind' | 'blocks' | 'size' | 'outputs'> & Partial<Kernel>} kernel
   * @param {Binding[]} bindings
   * @param {[number, number]} workgroups
   * @param {{multiplyAdds?: number, sines?: number, bytes?: number}} cost
   * @returns {Step}
   */
  #step(name, kernel, bindings, workgroups, { multiplyAdds = 0, sines = 0, bytes }) {
    const rest = { inputs: 0, below: 0, hidden: 0, group: 0, last: false, toImage: false, precision: this.precision };
    bytes ??= bindings.reduce((sum, binding) => sum + binding.size, 0);
    return { name, kernel: { ...rest, ...kernel }, bindings, workgroups, multiplyAdds, sines, bytes };
  }

  /**
   * A stage layer by layer; its result goes into the picture, or pixel by pixel into buffer `${name} out`.
   * @param {string} name
   * @param {Stage} stage
   * @param {Blocks} blocks
   * @param {Binding | null} below
   * @param {'image' | 'phases' | 'motion'} result the picture's face, the next level's phases, what is painted
   * @returns {Step[]}
   */
  stage(name, { size, first, hidden, out }, blocks, below, result) {
    const { count } = blocks;
    const pixels = count * BLOCK;
    const places = this.#places(name, blocks);
    const activations = (/** @type {number} */ i, /** @type {number} */ channels) =>
      this.#some(`activations ${i % 2}`, count * inFours(channels) * bytesOfBlock(this.precision));
    let held = activations(0, first.outputs);
    const shape = { blocks: count, size };
    /** @type {(layer: number) => boolean} */
    const isLast = (layer) => result === 'motion' && layer === hidden.length;
    const widths = { outputs: inFours(first.outputs), below: pixelsOf(below, first.outputs) };
    const steps = [
      this.#step(
        `${name} first`,
        { kind: 'first', ...shape, ...widths, last: isLast(0) },
        [places, this.#weights.first(first), this.#shift(first), held, ...(below ? [below] : [])],
        workgroupsOf(count, first.outputs),
        { sines: pixels * first.outputs },
      ),
    ];
    hidden.forEach((layer, i) => {
      const { inputs, outputs } = layer;
      const next = activations(i + 1, outputs);
      steps.push(
        this.#step(
          `${name} ${i + 1}`,
          { kind: 'sine', ...shape, inputs: inFours(inputs), outputs: inFours(outputs), last: isLast(i + 1) },
          [held, this.#weights.layer(layer), next],
          workgroupsOf(count, outputs),
          { multiplyAdds: pixels * inputs * outputs, sines: pixels * outputs },
        ),
      );
      held = next;
    });
    const { inputs, outputs } = out;
    const last = result === 'motion';
    const toImage = result === 'image';
    const written = pixels * inFours(outputs) * 4;
    const target = toImage ? this.whole('image') : this.#some(`${name} out`, written);
    const weights = this.#weights.layer(out);
    steps.push(
      this.#step(
        `${name} out`,
        { kind: 'linear', ...shape, inputs: inFours(inputs), outputs: inFours(outputs), last, toImage },
        [held, weights, target, ...(toImage ? [places] : [])],
        workgroupsOf(count, outputs),
        { multiplyAdds: pixels * inputs * outputs, bytes: held.size + weights.size + written },
      ),
    );
    return steps;
  }

  /**
   * The level whose result is painted: in one dispatch where it is narrow enough, as it is in the paper's student.
   * @param {string} name
   * @param {Stage} stage
   * @param {Blocks} blocks
   * @param {Binding | null} below
   * @returns {Step[]}
   */
  lastLevel(name, stage, blocks, below) {
    const { size, first, hidden, out } = stage;
    const { count } = blocks;
    const pixels = count * BLOCK;
    const image = this.whole('image');
    const posed = this.whole('posed');
    const painted = pixels * 32; // about one pixel of the picture read, one of the frame written
    const group = fusedBlocks(stage, this.precision);
    if (!group) {
      const steps = this.stage(name, stage, blocks, below, 'motion');
      const [places, motion] = [this.whole(`${name} places`), this.whole(`${name} out`)];
      const kernel = { kind: /** @type {const} */ ('paint'), blocks: count, size, outputs: inFours(out.outputs) };
      const bytes = places.size + motion.size + painted;
      const workgroups = /** @type {[number, number]} */ ([Math.ceil(pixels / THREADS), 1]);
      return [...steps, this.#step('paint', kernel, [places, motion, image, posed], workgroups, { bytes })];
    }
    const places = this.#places(name, blocks);
    const layers = [this.#weights.first(first), ...hidden.map((layer) => this.#weights.layer(layer))];
    const last = this.#weights.layer(out);
    const weights = { buffer: 'weights', offset: layers[0].offset, size: last.offset + last.size - layers[0].offset };
    const shift = this.#shift(first);
    const width = inFours(first.outputs);
    const kernel = {
      kind: /** @type {const} */ ('fused'),
      blocks: count,
      size,
      outputs: width,
      below: pixelsOf(below, first.outputs),
      hidden: hidden.length,
      group,
    };
    const bindings = [places, weights, shift, image, posed, ...(below ? [below] : [])];
    const products = [...hidden, out].reduce((sum, { inputs, outputs }) => sum + inputs * outputs, 0);
    const step = this.#step(name, kernel, bindings, [1, Math.ceil(count / group)], {
      multiplyAdds: pixels * products,
      sines: pixels * first.outputs * (1 + hidden.length),
      bytes: places.size + weights.size + shift.size + (below?.size ?? 0) + painted,
    });
    return [step];
  }

  /**
   * @param {Step[]} face
   * @param {Step[]} body
   * @returns {Plan}
   */
  finish(face, body) {
    const weights = this.#weights.all();
    this.buffers.set('weights', weights.byteLength);
    this.contents.set('weights', weights);
    this.buffers.set('shifts', 4 * this.#shiftLength);
    return { size: this.size, face, body, buffers: this.buffers, contents: this.contents, shifts: this.#shifts };
  }
}

/**
 * @param {Binding | null} below
 * @param {number} channels
 */
const pixelsOf = (below, channels) => (below ? below.size / (4 * inFours(channels)) : 0);

/** @param {Step[]} steps */
function costOf(steps) {
  const total = (/** @type {'multiplyAdds' | 'sines' | 'bytes'} */ what) =>
    steps.reduce((sum, step) => sum + step[what], 0);
  return {
    dispatches: steps.length,
    multiplyAdds: total('multiplyAdds'),
    sines: total('sines'),
    bytes: total('bytes'),
  };
}

/**
 * What a character's frames cost: one whose face is kept, and one whose face is new.
 * @param {Character} character
 * @param {Precision} [precision]
 * @returns {{faceKept: Cost, faceNew: Cost, memory: number, pixels: number}}
 *   with the bytes of all buffers, and the number of visible pixels
 */
export function cost(character, precision = 'half') {
  const { face, body, buffers } = planOf(character, precision);
  return {
    faceKept: costOf(body),
    faceNew: costOf([...face, ...body]),
    memory: [...buffers.values()].reduce((sum, bytes) => sum + bytes, 0),
    pixels: character.visible.reduce((sum, one) => sum + one, 0),
  };
}
