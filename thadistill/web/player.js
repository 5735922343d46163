// Player: poses to frames on the stage by an engine: the newest pose wins, and nothing is drawn while nothing changes.

import { chooseEngine } from './engines/choose.js';

/**
 * @typedef {import('./character.js').Character} Character
 * @typedef {import('./engines/choose.js').Choice} Choice
 * @typedef {import('./engines/engine.js').Engine} Engine
 * @typedef {import('./engines/engine.js').Pixels} Pixels
 * @typedef {import('./stage.js').Stage} Stage
 *
 * @typedef {Object} Stats of the frames drawn since the last call
 * @property {string} engine
 * @property {number} frames
 * @property {number | null} msMedian from asking for a frame until it is on the canvas; null: none was drawn
 * @property {number | null} msP95
 * @property {number} fps frames by the time since the last call
 */

/** Frames whose times are kept for `stats`. */
const MOST_TIMES = 10_000;
/** Milliseconds: what the read-out is about. */
const LATELY = 1500;
/** An engine that fails twice within this many milliseconds is given up. */
const PATIENCE = 10_000;

/**
 * Events: 'engine' after another engine or character draws; 'trouble' (a CustomEvent with a readable line) when an
 * engine failed and another took over, or none could.
 */
export class Player extends EventTarget {
  /** @type {Character | null} */
  character = null;
  /** @type {Engine | null} */
  engine = null;
  /** @type {{name: string, obstacle: string | null}[]} */
  engines = [];
  reason = '';
  /** @type {string | null} the engine that somebody asked for */
  wanted = null;
  /** Called when a frame is on the stage. */
  onframe = () => {};

  #stage;
  #poseAt;
  /** @type {Promise<unknown>} the loads, one after another */
  #loading = Promise.resolve();
  /** @type {Promise<unknown>} the engine's present work */
  #work = Promise.resolve();
  #busy = false;
  #due = false; // whether the display has shown the last frame
  /** @type {Float32Array | null} the pose of the last frame that was asked for */
  #drawn = null;
  #failed = -Infinity;
  #since = performance.now();
  #frames = 0;
  /** @type {number[]} */
  #times = [];
  /** @type {{at: number, ms: number}[]} */
  #lately = [];

  /**
   * @param {Stage} stage
   * @param {(now: number) => Float32Array} poseAt
   */
  constructor(stage, poseAt) {
    super();
    this.#stage = stage;
    this.#poseAt = poseAt;
    const tick = () => {
      requestAnimationFrame(tick); // browsers hold it back while the page is hidden
      this.#due = true;
      this.#next();
    };
    requestAnimationFrame(tick);
    document.addEventListener('visibilitychange', () => this.#next());
  }

  /**
   * Shows a character by the engine that is wanted, or the best one. What is shown stays until the new one has drawn.
   * @param {Character} character
   * @param {string | null} [wanted]
   * @returns {Promise<void>}
   * @throws {Error} when no engine can draw it
   */
  show(character, wanted = this.wanted) {
    const shown = this.#loading.then(() => this.#show(character, wanted));
    this.#loading = shown.catch(() => {}); // whoever asked for it gets the error
    return shown;
  }

  /**
   * @param {Character} character
   * @param {string | null} wanted
   */
  async #show(character, wanted) {
    if (!this.character) this.#stage.fit(character); // better than nothing until the first frame
    const { engine, engines, reason } = await chooseEngine(character, wanted);
    await this.#alone(async () => {
      const old = { engine: this.engine, character: this.character };
      this.engine = engine;
      try {
        if (old.character !== character) this.#stage.fit(character);
        await this.#draw(engine, this.#poseAt(performance.now()));
      } catch (error) {
        this.engine = old.engine;
        if (old.character) this.#stage.fit(old.character);
        engine.destroy();
        throw error;
      }
      old.engine?.destroy();
    });
    Object.assign(this, { character, engines, reason, wanted });
    this.stats(); // another engine's times are no part of this one's
    this.#lately = [];
    this.dispatchEvent(new Event('engine'));
  }

  /**
   * The frame of the pose of this moment.
   * @returns {Promise<Pixels>}
   */
  async frame() {
    await this.#loading;
    return this.#alone(() => {
      if (!this.engine) throw new Error('no character is shown');
      return this.engine.pixels(this.#poseAt(performance.now()));
    });
  }

  /** The pose that is shown; null before the first frame. @returns {Float32Array | null} */
  get pose() {
    return this.#drawn;
  }

  /** @returns {Stats} */
  stats() {
    const now = performance.now();
    const times = this.#times.sort((a, b) => a - b);
    const at = (/** @type {number} */ share) => (times.length ? times[Math.floor(share * (times.length - 1))] : null);
    const stats = {
      engine: this.engine?.name ?? 'none',
      frames: this.#frames,
      msMedian: at(0.5),
      msP95: at(0.95),
      fps: (1000 * this.#frames) / Math.max(1, now - this.#since),
    };
    this.#since = now;
    this.#frames = 0;
    this.#times = [];
    return stats;
  }

  /** The last second's frames, for the read-out. @returns {{ms: number, fps: number} | null} null: none was drawn */
  lately() {
    const now = performance.now();
    this.#lately = this.#lately.filter(({ at }) => now - at < LATELY);
    if (this.#lately.length < 2) return null;
    const times = this.#lately.map(({ ms }) => ms).sort((a, b) => a - b);
    const span = now - this.#lately[0].at;
    return { ms: times[times.length >> 1], fps: (1000 * this.#lately.length) / Math.max(span, 1) };
  }

  /**
   * Runs something while the engine does nothing else.
   * @template T
   * @param {() => Promise<T>} action
   * @returns {Promise<T>}
   */
  async #alone(action) {
    while (this.#busy) await this.#work;
    this.#busy = true;
    const result = (async () => action())(); // what it throws at once is a rejection, too
    this.#work = result.catch(() => {});
    try {
      return await result;
    } finally {
      this.#busy = false;
    }
  }

  /** Draws the pose of this moment, unless something stands against it. */
  async #next() {
    const { engine } = this;
    if (!this.#due || this.#busy || !engine || document.hidden) return;
    const pose = this.#poseAt(performance.now());
    if (this.#drawn && pose.every((value, i) => value === this.#drawn?.[i])) return;
    this.#due = false;
    try {
      await this.#alone(() => this.#draw(engine, pose));
    } catch (error) {
      await this.#recover(engine, error);
    }
    this.#next(); // a slow engine goes on at once, not at the display's next frame
  }

  /**
   * @param {Engine} engine
   * @param {Float32Array} pose
   */
  async #draw(engine, pose) {
    this.#drawn = pose;
    const started = performance.now();
    await engine.render(pose, (source) => {
      if (engine !== this.engine) return; // a late frame of one that was replaced
      this.#stage.take(source);
      this.#count(performance.now() - started);
      this.onframe();
    });
  }

  /** @param {number} ms */
  #count(ms) {
    this.#frames++;
    if (this.#times.length < MOST_TIMES) this.#times.push(ms);
    this.#lately.push({ at: performance.now(), ms });
    if (this.#lately.length > 400) this.#lately.shift();
  }

  /**
   * Goes on after an engine failed: the same kind once more, then the one that runs everywhere.
   * @param {Engine} engine
   * @param {unknown} error
   */
  async #recover(engine, error) {
    const { character } = this;
    if (engine !== this.engine || !character) return;
    const again = performance.now() - this.#failed < PATIENCE;
    this.#failed = performance.now();
    const why = error instanceof Error ? error.message : String(error);
    this.engine = null; // nothing more is asked of it
    engine.destroy();
    try {
      if (again && engine.name === 'wasm') throw new Error(why);
      await this.show(character, again ? 'wasm' : this.wanted);
      this.dispatchEvent(new CustomEvent('trouble', { detail: `${engine.name}: ${why}` }));
    } catch (last) {
      const detail = last instanceof Error ? last.message : String(last);
      this.dispatchEvent(new CustomEvent('trouble', { detail }));
    }
  }
}
