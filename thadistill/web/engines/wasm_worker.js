// Worker: one band of the character's rows, frame by frame, on the kernels; a classic script that imports nothing.

/**
 * @typedef {import('./wasm_plan.js').Plan} Plan
 *
 * @typedef {Object} Start
 * @property {WebAssembly.Module} module
 * @property {Plan} plan
 * @property {number} index of this band
 * @property {MessagePort[]} ports to the other workers
 *
 * @typedef {Object} Ask a frame
 * @property {number} id
 * @property {Float32Array} shifts what the pose gives each first layer
 * @property {boolean} faceMoves whether the face differs from the last frame's
 * @property {boolean} wantsPosed whether network space is wanted as well
 * @property {ArrayBuffer | null} buffer to fill with pixels
 *
 * @typedef {{id: number, first: number, results: Float32Array}} FaceShare what another worker computed, from a quad on
 *
 * @typedef {Object} Kernels what kernels.cpp exports
 * @property {(stage: number, first: number, groups: number, a: number, b: number) => void} run
 * @property {(stage: number, quads: number, image: number, side: number, top: number, left: number) => void} place_face
 * @property {(stage: number, first: number, last: number, frame: number) => void} paint
 */

(() => {
  const PAGE = 65536;
  /** Where struct Frame holds the address of network space. */
  const POSED_FIELD = 7 * 4;
  /** Values of a quad of the face. */
  const FACE_QUAD = 16;
  /** How much of a frame is done when the next one may be asked for, so that it is here when this one ends. */
  const NEARLY = 0.85;
  const here = /** @type {any} */ (self);

  class Band {
    /** @type {Map<number, FaceShare[]>} by frame: others may be ahead */
    #shares = new Map();
    #shareCame = () => {};

    /** @param {Start} start */
    constructor({ module, plan, index, ports }) {
      this.plan = plan;
      this.index = index;
      this.ports = ports;
      this.memory = new WebAssembly.Memory({ initial: plan.pages, maximum: plan.pages + plan.posedPages });
      const instance = new WebAssembly.Instance(module, { env: { memory: this.memory } });
      this.kernels = /** @type {Kernels} */ (/** @type {unknown} */ (instance.exports));
      new Uint8Array(this.memory.buffer).set(plan.bytes, plan.base);
      plan.bytes = new Uint8Array(0); // which would be kept in addition to the memory
      for (const port of ports) {
        port.onmessage = ({ data }) => {
          this.#shares.set(data.id, [...(this.#shares.get(data.id) ?? []), data]);
          this.#shareCame();
        };
      }
    }

    /** @param {Ask} ask */
    async draw({ id, shifts, faceMoves, wantsPosed, buffer }) {
      const { plan } = this;
      const steps = plan.schedule.length / 3;
      new Float32Array(this.memory.buffer, plan.shifts, shifts.length).set(shifts);
      const posed = wantsPosed ? this.#beginPosed() : null;
      let done = 0;
      if (faceMoves) {
        this.#computeFace(id);
        if (this.ports.length) {
          done = steps >> 1; // meanwhile the others' shares come
          this.#compute(0, done);
          await this.#sharesOf(id);
        }
        this.#placeFace(id);
      }
      this.#paint(0, done);
      const nearly = Math.max(done, Math.floor(steps * NEARLY));
      this.#computeAndPaint(done, nearly);
      here.postMessage({ nearly: id });
      this.#computeAndPaint(nearly, steps);
      return {
        id,
        index: this.index,
        rectangle: plan.rectangle,
        pixels: this.#pixels(buffer),
        posed: posed && this.#endPosed(posed),
      };
    }

    /**
     * Steps of the schedule.
     * @param {number} from
     * @param {number} to
     */
    #compute(from, to) {
      const { schedule, levels, scratch } = this.plan;
      for (let i = 3 * from; i < 3 * to; i += 3) {
        this.kernels.run(levels[schedule[i]], schedule[i + 1], schedule[i + 2], scratch[0], scratch[1]);
      }
    }

    /**
     * Paints what steps of the schedule have computed.
     * @param {number} from
     * @param {number} to
     */
    #paint(from, to) {
      const { schedule, levels, frame } = this.plan;
      const last = levels.length - 1;
      for (let i = 3 * from; i < 3 * to; i += 3) {
        const [level, first, groups] = [schedule[i], schedule[i + 1], schedule[i + 2]];
        if (level === last) this.kernels.paint(levels[last], 2 * first, 2 * (first + groups), frame);
      }
    }

    /**
     * One by one, so that what is painted is still in cache.
     * @param {number} from
     * @param {number} to
     */
    #computeAndPaint(from, to) {
      for (let step = from; step < to; step++) {
        this.#compute(step, step + 1);
        this.#paint(step, step + 1);
      }
    }

    /** @param {number} id */
    #computeFace(id) {
      const { face, faceShares, scratch } = this.plan;
      const [first, end] = [faceShares[this.index], faceShares[this.index + 1]];
      for (let group = first; group < end; group += face.block) {
        this.kernels.run(face.stage, group, Math.min(face.block, end - group), scratch[0], scratch[1]);
      }
      const address = face.results + 2 * first * FACE_QUAD * 4;
      const share = new Float32Array(this.memory.buffer, address, 2 * (end - first) * FACE_QUAD);
      for (const port of this.ports) {
        const results = share.slice();
        port.postMessage({ id, first: 2 * first, results }, [results.buffer]);
      }
    }

    /** @param {number} id */
    async #sharesOf(id) {
      while ((this.#shares.get(id)?.length ?? 0) < this.ports.length) {
        await new Promise((resolve) => {
          this.#shareCame = () => resolve(undefined);
        });
      }
    }

    /** @param {number} id */
    #placeFace(id) {
      const { stage, results, image, side, top, left, quads } = this.plan.face;
      const values = new Float32Array(this.memory.buffer, results, quads * FACE_QUAD);
      for (const share of this.#shares.get(id) ?? []) values.set(share.results, share.first * FACE_QUAD);
      this.#shares.delete(id);
      this.kernels.place_face(stage, quads, image, side, top, left);
    }

    /** @param {ArrayBuffer | null} buffer */
    #pixels(buffer) {
      const { rectangle, rgba, outside } = this.plan;
      const area = rectangle.width * rectangle.height;
      const source = new Uint32Array(this.memory.buffer, rgba, area);
      for (const pixel of outside) source[pixel] = 0;
      const pixels = buffer?.byteLength === 4 * area ? buffer : new ArrayBuffer(4 * area);
      new Uint32Array(pixels).set(source);
      return pixels;
    }

    /** Room for network space, which only comparisons want, behind all else. */
    #beginPosed() {
      const { plan, memory } = this;
      const address = plan.pages * PAGE;
      if (memory.buffer.byteLength === address) memory.grow(plan.posedPages);
      new DataView(memory.buffer).setInt32(plan.frame + POSED_FIELD, address, true);
      return new Float32Array(memory.buffer, address, 4 * plan.rectangle.width * plan.rectangle.height).fill(-1);
    }

    /** @param {Float32Array} posed */
    #endPosed(posed) {
      const { frame, outside } = this.plan;
      new DataView(this.memory.buffer).setInt32(frame + POSED_FIELD, 0, true);
      for (const pixel of outside) for (let k = 0; k < 4; k++) posed[(k * posed.length) / 4 + pixel] = -1;
      return posed.slice();
    }
  }

  /** @type {Band | undefined} */
  let band;
  let queue = Promise.resolve();

  /** @param {Start | Ask} message */
  async function answer(message) {
    if ('module' in message) {
      band = new Band(message);
      here.postMessage({ ready: true });
    } else if (band) {
      const drawn = await band.draw(message);
      here.postMessage(drawn, [drawn.pixels, ...(drawn.posed ? [drawn.posed.buffer] : [])]);
    }
  }

  /** @param {MessageEvent<Start | Ask>} event */
  here.onmessage = ({ data }) => {
    queue = queue
      .then(() => answer(data))
      .catch((error) => here.postMessage({ error: error instanceof Error ? error.message : String(error) }));
  };
})();
