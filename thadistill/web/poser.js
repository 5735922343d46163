// Poser: the pose of this moment: the hand's values with motion laid over them, the webcam's, or those sent from elsewhere.

import { Motion } from './motion.js';
import { POSE_SIZE, checked, rest } from './pose.js';

/** Milliseconds that a preset takes to be reached. */
const EASE = 280;

/** @typedef {'hand' | 'camera' | 'remote'} PoseSource 'remote': `thadistill drive` */

/**
 * Events: 'pose' after the hand's values changed, 'source' after the source changed, 'motion' after a motion was
 * switched on or off.
 */
export class Poser extends EventTarget {
  /** The hand's values: where the sliders stand. */
  base = rest();
  /** @type {PoseSource} what moves the character */
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
    if (this.source !== 'hand') return this.#eased(now, this.#seen);
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
    this.#from = this.source === 'hand' ? this.#eased(now) : this.#seen.slice();
    this.#since = ease && this.easing ? now : -Infinity;
    this.base = pose;
    this.#use('hand');
    this.dispatchEvent(new Event('pose'));
  }

  /**
   * Changes some of the hand's values. Where something else moved the character, its pose stays as it was last seen.
   * @param {readonly number[]} places
   * @param {number} value
   */
  change(places, value) {
    const pose = this.source === 'hand' ? this.base.slice() : this.#seen.slice();
    for (const place of places) pose[place] = value;
    this.set(pose);
  }

  /**
   * Takes a pose of the webcam, or one sent from elsewhere; it is shown while that is the source.
   * @param {PoseSource} source
   * @param {Float32Array} pose
   */
  see(source, pose) {
    if (source === this.source) this.#seen = pose;
  }

  /**
   * Lets the webcam, or what sends poses, move the character; it goes over from the pose of this moment.
   * @param {'camera' | 'remote'} source
   */
  use(source) {
    if (source === this.source) return;
    const now = performance.now();
    this.#from = this.at(now);
    this.#seen = this.#from.slice();
    // the webcam's own poses begin gently
    this.#since = source === 'remote' && this.easing ? now : -Infinity;
    this.#use(source);
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

  /** @param {PoseSource} source */
  #use(source) {
    if (this.source === source) return;
    this.source = source;
    this.dispatchEvent(new Event('source'));
  }

  /**
   * @param {number} now
   * @param {Float32Array} [target]
   */
  #eased(now, target = this.base) {
    const share = Math.min(1, (now - this.#since) / EASE);
    const pose = target.slice();
    if (share >= 1) return pose;
    const weight = share * share * (3 - 2 * share);
    for (let i = 0; i < POSE_SIZE; i++) pose[i] = this.#from[i] + weight * (target[i] - this.#from[i]);
    return pose;
  }
}
