// Weights: the matrices of a character in one buffer, as the WebGPU engine's shaders read them.

/**
 * @typedef {import('../fold.js').First} First
 * @typedef {import('../fold.js').Layer} Layer
 *
 * @typedef {{buffer: string, offset: number, size: number}} Binding part of a buffer, in bytes
 */

/** Bindings begin at multiples of 256 bytes. */
const ALIGNMENT = 64;

/**
 * Channels filled up to fours, which is how shaders read them.
 * @param {number} channels
 */
export const inFours = (channels) => Math.ceil(channels / 4) * 4;

/**
 * Numbers filled up to where the next binding may begin.
 * @param {number} floats
 */
export const aligned = (floats) => Math.ceil(floats / ALIGNMENT) * ALIGNMENT;

/** Weights one after another, as shaders read them: [input][output] in fours, then the bias. */
export class Weights {
  /** @type {Float32Array[]} */
  #parts = [];
  #length = 0;

  /**
   * @param {number} floats
   * @returns {{part: Float32Array, binding: Binding}}
   */
  #take(floats) {
    const part = new Float32Array(aligned(floats));
    const binding = { buffer: 'weights', offset: 4 * this.#length, size: 4 * floats };
    this.#parts.push(part);
    this.#length += part.length;
    return { part, binding };
  }

  /**
   * @param {First} first
   * @returns {Binding}
   */
  first({ byX, byY, outputs }) {
    const { part, binding } = this.#take(2 * inFours(outputs));
    part.set(byX);
    part.set(byY, inFours(outputs));
    return binding;
  }

  /**
   * @param {Layer} layer
   * @returns {Binding}
   */
  layer({ inputs, outputs, weight, bias }) {
    const width = inFours(outputs);
    const { part, binding } = this.#take((inFours(inputs) + 1) * width);
    for (let o = 0; o < outputs; o++) {
      for (let i = 0; i < inputs; i++) part[i * width + o] = weight[o * inputs + i];
    }
    part.set(bias, inFours(inputs) * width);
    return binding;
  }

  /** @returns {Float32Array} */
  all() {
    const all = new Float32Array(this.#length);
    this.#parts.reduce((at, part) => (all.set(part, at), at + part.length), 0);
    return all;
  }
}

/**
 * Where a fused level's weights lie from the start of its binding, in vectors of four.
 * @param {number} width
 * @param {number} hidden
 */
export function fusedOffsets(width, hidden) {
  const first = aligned(2 * width) / 4;
  const layer = aligned((width + 1) * width) / 4;
  return Array.from({ length: hidden + 1 }, (_, i) => first + i * layer);
}
