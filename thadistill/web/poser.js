// Poser: the pose of this moment: the hand's values with motion laid over them, or the webcam's.

import { Motion } from './motion.js';
import { POSE_SIZE, checked, rest } from './pose.js';

/** Milliseconds that a preset takes to be reached. */
const EASE = 280;

/**
 * Events: 'pose' after the hand's values changed, 'source' after the source changed, 'motion' after a motion was
 * switched on or off.
 */
export class Poser extends EventTarget {
  /** The hand's values: where the sliders stand. */
  base = rest();
  /** @type {'hand' | 'camera'} what moves the character */
  source = 'hand';
  /** Whether changes of many values at once are eased. */
  easing = true;
  #motion = new Motion();
  #from = rest();
  #since = -Infinity;
  #seen = rest();

  /**
   * The pose to draw.
   * @param {number} now milliseconds
   * @returns {Float32Array} the caller's to keep
   */
  at(now) {
    if (this.source === 'camera') return this.#seen.slice();
    const pose = this.#eased(now);
    this.#motion.apply(pose, now);
    return pose;
  }

  /**
   * Sets the hand's values, which then move the character.
   * @param {ArrayLike<number>} values 45
   * @param {{ease?: boolean}} [how]
   * @throws {Error} when they are no pose
   */
  set(values, { ease = false } = {}) {
    const now = performance.now();
    const pose = checked(values);
    this.#from = this.source === 'camera' ? this.#seen.slice() : this.#eased(now);
    this.#since = ease && this.easing ? now : -Infinity;
    this.base = pose;
    this.#use('hand');
    this.dispatchEvent(new Event('pose'));
  }

  /**
   * Changes some of the hand's values. Where the webcam moved the character, its pose stays as it was last seen.
   * @param {readonly number[]} places
   * @param {number} value
   */
  change(places, value) {
    const pose = this.source === 'camera' ? this.#seen.slice() : this.base.slice();
    for (const place of places) pose[place] = value;
    this.set(pose);
  }

  /**
   * Takes a pose of the webcam; it is shown while the webcam is the source.
   * @param {Float32Array} pose
   */
  see(pose) {
    this.#seen = pose;
  }

  /** Lets the webcam move the character. */
  useCamera() {
    this.#seen = this.at(performance.now());
    this.#use('camera');
  }

  /** Lets the hand's values move it again. */
  useHand() {
    if (this.source === 'hand') return;
    this.#from = this.#seen.slice();
    this.#since = this.easing ? performance.now() : -Infinity;
    this.#use('hand');
  }

  /** @param {import('./motion.js').Kind} kind */
  moves(kind) {
    return this.#motion.on[kind];
  }

  /**
   * @param {import('./motion.js').Kind} kind
   * @param {boolean} on
   */
  move(kind, on) {
    if (this.#motion.on[kind] === on) return;
    this.#motion.on[kind] = on;
    this.dispatchEvent(new Event('motion'));
  }

  /** Ends every motion at once: a script wants its own pose, and no other. */
  still() {
    this.#motion.stop();
    this.dispatchEvent(new Event('motion'));
  }

  /** @param {{x: number, y: number} | null} target where the pointer is, from the face: see Motion */
  lookAt(target) {
    this.#motion.target = target;
  }

  /** @param {'hand' | 'camera'} source */
  #use(source) {
    if (this.source === source) return;
    this.source = source;
    this.dispatchEvent(new Event('source'));
  }

  /** @param {number} now */
  #eased(now) {
    const share = Math.min(1, (now - this.#since) / EASE);
    const pose = this.base.slice();
    if (share >= 1) return pose;
    const weight = share * share * (3 - 2 * share);
    for (let i = 0; i < POSE_SIZE; i++) pose[i] = this.#from[i] + weight * (this.base[i] - this.#from[i]);
    return pose;
  }
}
