// WebAssembly: frames from SIMD kernels on the CPU, a band of rows in each of a few workers.

import { FACIAL_SIZE } from '../pose.js';
import { bytesOf, workerOf } from '../resources.js';
import { planBands, shiftsOf } from './wasm_plan.js';

/**
 * @typedef {import('../character.js').Character} Character
 * @typedef {import('./engine.js').Engine} Engine
 * @typedef {import('./engine.js').EngineKind} EngineKind
 * @typedef {import('./engine.js').Pixels} Pixels
 *
 * @typedef {Object} Band what a worker answers
 * @property {number} id
 * @property {number} index
 * @property {{top: number, left: number, width: number, height: number}} rectangle
 * @property {ArrayBuffer} pixels RGBA of the rectangle
 * @property {Float32Array | null} posed [4][height][width]
 *
 * @typedef {Object} Frame one that is being computed
 * @property {Band[]} bands those that have come
 * @property {() => void} nearly called when the first worker is about to be idle
 * @property {(bands: Band[]) => void} done
 * @property {(error: Error) => void} failed
 */

/** More would heat the machine, and compute the rows between bands ever more often. */
const MOST_WORKERS = 4;
/** A module that holds one vector operation: valid only where SIMD is. */
const SIMD = Uint8Array.of(
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
);

/** @type {EngineKind & {create: (character: Character, options?: {workers?: number}) => Promise<WasmEngine>}} */
export const wasm = {
  name: 'wasm',

  async obstacle() {
    if (typeof WebAssembly !== 'object') return 'this browser has no WebAssembly';
    if (typeof Worker !== 'function' || typeof OffscreenCanvas !== 'function') return 'this browser is too old';
    return WebAssembly.validate(SIMD) ? null : "this browser's WebAssembly has no SIMD";
  },

  async create(character, { workers = Math.min(navigator.hardwareConcurrency || 1, MOST_WORKERS) } = {}) {
    const plans = planBands(character, workers);
    const module = await WebAssembly.compile(await bytesOf('engines/kernels.wasm'));
    const crew = new Crew(plans, module);
    try {
      await crew.ready;
    } catch (error) {
      crew.dismiss();
      throw error;
    }
    return new WasmEngine(character, crew);
  },
};

/** The workers: poses out, bands in. */
class Crew {
  /** @type {Worker[]} */
  #workers = [];
  /** @type {Map<number, Frame>} */
  #frames = new Map();
  /** @type {ArrayBuffer[][]} pixels of each band that have been painted, to be filled again */
  #spare;
  #asked = 0;
  /** @type {Error | null} */
  #broken = null;
  /** @type {(error: Error) => void} */
  #refuse = () => {};

  /**
   * @param {import('./wasm_plan.js').Plan[]} plans
   * @param {WebAssembly.Module} module
   */
  constructor(plans, module) {
    this.#spare = plans.map(() => []);
    const ports = portsBetween(plans.length);
    /** @type {Promise<void>} */
    this.ready = new Promise((resolve, reject) => {
      let absent = plans.length;
      this.#refuse = reject;
      plans.forEach((plan, index) => {
        const worker = workerOf('engines/wasm_worker.js');
        this.#workers.push(worker);
        worker.onerror = (event) => this.#fail(event.message || 'it cannot be started');
        worker.onmessage = ({ data }) => {
          if (data.error) this.#fail(data.error);
          else if (data.ready) {
            absent--;
            if (!absent) resolve();
          } else if (data.pixels) this.#receive(data);
          else this.#frames.get(data.nearly)?.nearly();
        };
        worker.postMessage({ module, plan, index, ports: ports[index] }, [...ports[index], plan.bytes.buffer]);
      });
    });
    this.ready.catch(() => {}); // whoever awaits it gets the error
  }

  get size() {
    return this.#workers.length;
  }

  /**
   * Asks for a frame.
   * @param {Float32Array} shifts what the pose gives each first layer
   * @param {boolean} faceMoves
   * @param {boolean} [wantsPosed]
   * @returns {{nearly: Promise<void>, done: Promise<Band[]>}} when a worker is about to be idle, and when all are
   */
  ask(shifts, faceMoves, wantsPosed = false) {
    const id = this.#asked++;
    const frame = /** @type {Frame} */ (/** @type {unknown} */ ({ bands: [] }));
    const done = new Promise((/** @type {(bands: Band[]) => void} */ resolve, reject) => {
      frame.done = resolve;
      frame.failed = reject;
    });
    const nearly = new Promise((/** @type {(value: void) => void} */ resolve, reject) => {
      frame.nearly = resolve;
      done.then(() => resolve(), reject);
    });
    if (this.#broken) frame.failed(this.#broken);
    else {
      this.#frames.set(id, frame);
      this.#workers.forEach((worker, index) => {
        const buffer = this.#spare[index].pop() ?? null;
        worker.postMessage({ id, shifts, faceMoves, wantsPosed, buffer }, buffer ? [buffer] : []);
      });
    }
    nearly.catch(() => {}); // not everybody awaits it
    return { nearly, done };
  }

  /**
   * Takes pixels back that are no longer needed.
   * @param {Band[]} bands
   */
  reuse(bands) {
    for (const { index, pixels } of bands) this.#spare[index].push(pixels);
  }

  dismiss() {
    for (const worker of this.#workers) worker.terminate();
    this.#broken ??= new Error('the engine was closed');
    this.#failAll(this.#broken);
  }

  /** @param {Band} band */
  #receive(band) {
    const frame = this.#frames.get(band.id);
    if (!frame) return;
    frame.bands.push(band);
    if (frame.bands.length < this.size) return;
    this.#frames.delete(band.id);
    frame.done(frame.bands);
  }

  /** @param {string} reason */
  #fail(reason) {
    this.#broken ??= new Error(`a WebAssembly worker has failed: ${reason}`);
    this.#failAll(this.#broken);
  }

  /** @param {Error} error */
  #failAll(error) {
    this.#refuse(error);
    for (const { failed } of this.#frames.values()) failed(error);
    this.#frames.clear();
  }
}

/**
 * A channel between each two workers.
 * @param {number} count
 * @returns {MessagePort[][]} of each worker, to all others
 */
function portsBetween(count) {
  /** @type {MessagePort[][]} */
  const ports = Array.from({ length: count }, () => []);
  for (let i = 0; i < count; i++) {
    for (let j = 0; j < i; j++) {
      const { port1, port2 } = new MessageChannel();
      ports[i].push(port1);
      ports[j].push(port2);
    }
  }
  return ports;
}

/** @implements {Engine} */
class WasmEngine {
  name = /** @type {const} */ ('wasm');

  /**
   * @param {Character} character
   * @param {Crew} crew
   */
  constructor({ face, levels, size }, crew) {
    this.detail = crew.size === 1 ? '1 worker' : `${crew.size} workers`;
    this.size = size;
    this.crew = crew;
    this.firsts = [face, ...levels].map(({ first }) => first);
    this.canvas = new OffscreenCanvas(size, size);
    this.context = /** @type {OffscreenCanvasRenderingContext2D} */ (this.canvas.getContext('2d'));
    /** @type {Float32Array | null} the values that the workers' face shows */
    this.facial = null;
    /** @type {Promise<void>} the newest frame's painting */
    this.painted = Promise.resolve();
  }

  /**
   * Resolves when a worker is about to be idle and only this frame is unpainted, so that no worker waits for the page.
   * @param {Float32Array} pose
   * @param {(source: CanvasImageSource) => void} paint
   */
  async render(pose, paint) {
    const { nearly, done } = this.#ask(pose);
    const older = this.painted;
    this.painted = Promise.all([done, older.catch(() => {})]).then(([bands]) => {
      for (const { rectangle, pixels } of bands) {
        const image = new ImageData(new Uint8ClampedArray(pixels), rectangle.width, rectangle.height);
        this.context.putImageData(image, rectangle.left, rectangle.top);
      }
      this.crew.reuse(bands);
      paint(this.canvas);
    });
    this.painted.catch(() => {}); // the next call reports it
    await Promise.all([nearly, older]);
  }

  /**
   * @param {Float32Array} pose
   * @returns {Promise<Pixels>}
   */
  async pixels(pose) {
    const bands = await this.#ask(pose).done;
    const { size } = this;
    const data = new Uint8ClampedArray(size * size * 4);
    for (const { rectangle: { top, left, width, height }, pixels } of bands) {
      for (let y = 0; y < height; y++) {
        data.set(new Uint8Array(pixels, y * width * 4, width * 4), ((top + y) * size + left) * 4);
      }
    }
    this.crew.reuse(bands);
    return { width: size, height: size, data };
  }

  /**
   * The frame before it becomes 8 bits, for comparisons.
   * @param {Float32Array} pose
   * @returns {Promise<Float32Array>} [4][size][size], network space: linear, premultiplied, transparent is -1
   */
  async posed(pose) {
    const bands = await this.#ask(pose, true).done;
    const area = this.size ** 2;
    const result = new Float32Array(4 * area).fill(-1);
    for (const { rectangle: { top, left, width, height }, posed } of bands) {
      if (!posed) continue;
      for (let k = 0; k < 4; k++) {
        for (let y = 0; y < height; y++) {
          const from = (k * height + y) * width;
          result.set(posed.subarray(from, from + width), k * area + (top + y) * this.size + left);
        }
      }
    }
    this.crew.reuse(bands);
    return result;
  }

  destroy() {
    this.crew.dismiss();
  }

  /**
   * @param {Float32Array} pose
   * @param {boolean} [wantsPosed]
   */
  #ask(pose, wantsPosed) {
    const facial = pose.slice(0, FACIAL_SIZE);
    const faceMoves = !this.facial || facial.some((value, i) => value !== this.facial?.[i]);
    this.facial = facial;
    return this.crew.ask(shiftsOf(this.firsts, pose), faceMoves, wantsPosed);
  }
}
