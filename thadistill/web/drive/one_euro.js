// One-Euro filter (Casiez, Roussel, Vogel, CHI 2012) by parts of the face: steady when it rests, quick when it moves.

import { POSE_PARAMETERS, POSE_SIZE } from '../pose.js';

/**
 * @typedef {Object} Response
 * @property {number} cutoff Hz at rest: lower is steadier
 * @property {number} speed Hz more for each unit a second that a value moves: higher is quicker
 */

const DERIVATIVE_CUTOFF = 1; // Hz, as the paper has it

/** Eyes must follow a blink of a tenth of a second; mouths read better when they flow; heads are in between. */
const RESPONSES = Object.freeze({
  eyes: { cutoff: 3, speed: 3 },
  head: { cutoff: 1.5, speed: 2 },
  mouth: { cutoff: 1.2, speed: 1 },
});

/**
 * The part of the face that a pose parameter belongs to. Brows move with the mouth's calm.
 * @param {string} name
 * @returns {keyof typeof RESPONSES}
 */
export function partOf(name) {
  if (/^(eye_|iris_)/.test(name)) return 'eyes';
  return /^(mouth_|eyebrow_)/.test(name) ? 'mouth' : 'head';
}

/** Smooths one value that comes at irregular times. */
export class OneEuroFilter {
  #value = NaN;
  #raw = NaN;
  #derivative = 0;
  #time = NaN;

  /**
   * @param {number} value one that is not finite counts as not seen
   * @param {number} time in seconds; one that is not later than the last counts as not seen
   * @param {Response} response
   * @returns {number} the smoothed value; not a number only before the first finite one
   */
  next(value, time, { cutoff, speed }) {
    if (!Number.isFinite(value) || !Number.isFinite(time)) return this.#value;
    if (Number.isNaN(this.#value)) this.#value = this.#raw = value;
    else {
      const step = time - this.#time;
      if (!(step > 0)) return this.#value;
      this.#derivative += share(DERIVATIVE_CUTOFF, step) * ((value - this.#raw) / step - this.#derivative);
      this.#value += share(cutoff + speed * Math.abs(this.#derivative), step) * (value - this.#value);
      this.#raw = value;
    }
    this.#time = time;
    return this.#value;
  }
}

/**
 * The share of a new value that a low-pass filter takes in.
 * @param {number} cutoff Hz
 * @param {number} step seconds
 */
function share(cutoff, step) {
  const turn = 2 * Math.PI * cutoff * step;
  return Number.isFinite(turn) ? turn / (turn + 1) : 1;
}

/** Smooths poses: a filter for each of the 45 values, by its part of the face. */
export class PoseFilter {
  #filters = POSE_PARAMETERS.map(() => new OneEuroFilter());

  /** Forgets all that was seen: the next pose is taken as it is. */
  reset() {
    this.#filters = POSE_PARAMETERS.map(() => new OneEuroFilter());
  }

  /**
   * @param {Float32Array} pose
   * @param {number} time in seconds
   * @param {number} smoothing 0 (none) to 1 (strong); 0.5 is what the responses were chosen for
   * @returns {Float32Array}
   */
  next(pose, time, smoothing) {
    // both numbers of a response together: twice the smoothing is a quarter of the bandwidth
    const scale = (0.5 / Math.min(1, Math.max(0, smoothing))) ** 2;
    const smooth = new Float32Array(POSE_SIZE);
    POSE_PARAMETERS.forEach((name, i) => {
      const { cutoff, speed } = RESPONSES[partOf(name)];
      const value = this.#filters[i].next(pose[i], time, { cutoff: cutoff * scale, speed: speed * scale });
      smooth[i] = Number.isNaN(value) ? 0 : value;
    });
    return smooth;
  }
}
