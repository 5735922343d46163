// Native: frames from the Python runtime behind `thadistill serve`, raw over a WebSocket on this machine.

/**
 * @typedef {import('../character.js').Character} Character
 * @typedef {import('./engine.js').Engine} Engine
 * @typedef {import('./engine.js').EngineKind} EngineKind
 * @typedef {import('./engine.js').Pixels} Pixels
 *
 * @typedef {Object} Waiting
 * @property {(frame: ImageData) => void} arrived
 * @property {(error: Error) => void} failed
 */

/** Poses that may be under way: the server draws one while the other's frame travels and is painted. */
const IN_FLIGHT = 2;
/** A frame: its rectangle (top, left, height, width: four uint32), then that rectangle's pixels. */
const HEADER = 16;

/** `thadistill serve` names its address in the page; a static site has none. */
const addressHere = () => document.querySelector('meta[name="thadistill-native"]')?.getAttribute('content') ?? null;

/** @type {EngineKind} */
export const native = {
  name: 'native',

  async obstacle() {
    return addressHere() ? null : "the page does not come from 'thadistill serve', whose runtime it needs";
  },

  async create(character) {
    const address = addressHere();
    if (!address || !character.address) throw new Error('the server does not have this character');
    const url = new URL(address, document.baseURI);
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
    url.searchParams.set('character', /** @type {string} */ (new URL(character.address).pathname.split('/').pop()));
    const connection = new Connection(url, character.size);
    const about = await connection.opened;
    return new NativeEngine(connection, about);
  },
};

/** The socket: poses out, frames in, in the same order. */
class Connection {
  /** @type {Waiting[]} */
  #waiting = [];
  /** @type {Error | null} */
  #broken = null;
  #socket;

  /**
   * @param {URL} url
   * @param {number} size side of the frame
   */
  constructor(url, size) {
    this.size = size;
    this.#socket = new WebSocket(url);
    this.#socket.binaryType = 'arraybuffer';
    /** @type {Promise<string>} what the runtime is called, once the server has made it */
    this.opened = new Promise((resolve, reject) => {
      this.#socket.onmessage = ({ data }) => {
        if (typeof data !== 'string') return this.#receive(data);
        const { runtime, error } = JSON.parse(data);
        if (error) this.#fail(new Error(error));
        else resolve(runtime);
      };
      this.#socket.onclose = () => this.#fail(new Error('the server has closed the connection: is it still running?'));
      this.#refuse = reject;
    });
    this.opened.catch(() => {}); // whoever asked for it gets the error
  }

  /** @type {(error: Error) => void} */
  #refuse = () => {};

  /** Why nothing more comes; null as long as it does. @returns {Error | null} */
  get broken() {
    return this.#broken;
  }

  get inFlight() {
    return this.#waiting.length;
  }

  /**
   * Asks for the frame of a pose.
   * @param {Float32Array} pose
   * @returns {Promise<ImageData>} the rectangle that the character can reach; its place is `data.left`, `data.top`
   */
  ask(pose) {
    if (this.#broken) return Promise.reject(this.#broken);
    return new Promise((arrived, failed) => {
      this.#waiting.push({ arrived, failed });
      this.#socket.send(new Float32Array(pose));
    });
  }

  close() {
    this.#socket.onclose = null;
    this.#socket.close();
    this.#fail(new Error('the engine was closed'));
  }

  /** @param {ArrayBuffer} data */
  #receive(data) {
    const [top, left, height, width] = new Uint32Array(data, 0, 4);
    const image = new ImageData(new Uint8ClampedArray(data, HEADER, height * width * 4), width, height);
    this.#waiting.shift()?.arrived(Object.assign(image, { top, left }));
  }

  /** @param {Error} error */
  #fail(error) {
    this.#broken ??= error;
    this.#refuse(error);
    for (const { failed } of this.#waiting.splice(0)) failed(error);
  }
}

/** @implements {Engine} */
class NativeEngine {
  name = /** @type {const} */ ('native');

  /**
   * @param {Connection} connection
   * @param {string} runtime
   */
  constructor(connection, runtime) {
    this.detail = runtime;
    this.connection = connection;
    this.canvas = new OffscreenCanvas(connection.size, connection.size);
    this.context = /** @type {OffscreenCanvasRenderingContext2D} */ (this.canvas.getContext('2d'));
    /** @type {Promise<void>} the newest frame's painting */
    this.newest = Promise.resolve();
    /** @type {Promise<void>} the one before it */
    this.older = Promise.resolve();
  }

  /**
   * @param {Float32Array} pose
   * @param {(source: CanvasImageSource) => void} paint called when the frame is here, which may be after this resolves
   */
  async render(pose, paint) {
    if (this.connection.broken) throw this.connection.broken; // with too few under way to have been waited for
    this.older = this.newest;
    this.newest = this.connection.ask(pose).then((frame) => {
      this.#put(frame);
      paint(this.canvas);
    });
    this.newest.catch(() => {}); // the next call throws it
    await (this.connection.inFlight < IN_FLIGHT ? Promise.resolve() : this.older);
  }

  /**
   * @param {Float32Array} pose
   * @returns {Promise<Pixels>}
   */
  async pixels(pose) {
    await this.newest.catch(() => {});
    const frame = await this.connection.ask(pose);
    const { size } = this.connection;
    const data = new Uint8ClampedArray(size * size * 4);
    const { top, left } = /** @type {{top: number, left: number}} */ (/** @type {unknown} */ (frame));
    for (let y = 0; y < frame.height; y++) {
      const row = frame.data.subarray(y * frame.width * 4, (y + 1) * frame.width * 4);
      data.set(row, ((top + y) * size + left) * 4);
    }
    return { width: size, height: size, data };
  }

  destroy() {
    this.connection.close();
  }

  /** @param {ImageData} frame */
  #put(frame) {
    const { top, left } = /** @type {{top: number, left: number}} */ (/** @type {unknown} */ (frame));
    this.context.putImageData(frame, left, top);
  }
}
