// Follower: poses at the tracker's rate, with gaps, to a pose at any moment: eased between, held, then let go to rest.

import { rest } from '../pose.js';
import { PoseFilter } from './one_euro.js';

const HOLD_S = 1; // a face that a hand or a blur hides for this long is not lost; as drive/follower.py has it
const RELEASE_S = 0.5; // time constant of the way to rest
const RETURN_S = 0.6; // after a lost face is found again, it is approached gently for this long
const RETURN_EASE_S = 0.2; // time constant at the beginning of that
const LONGEST_STEP_S = 0.5; // between two tracked poses of a slow tracker
const LONGEST_GLIDE_S = 0.1; // which is shown in jerks rather than later still

/** Follows tracked poses. All times are in seconds on one clock. */
export class PoseFollower {
  #filter = new PoseFilter();
  #target = rest();
  #current = rest();
  #seen = -Infinity;
  #found = -Infinity;
  #drawn = -Infinity;
  #arrival = -Infinity; // when the target is to be reached
  #step = 1 / 30; // between tracked poses, lately

  /**
   * Takes a tracked pose.
   * @param {Float32Array} pose
   * @param {number} time when its image was taken
   * @param {number} smoothing 0 (none) to 1 (strong)
   */
  track(pose, time, smoothing) {
    if (!(time > this.#seen)) return;
    if (this.isLost(time)) {
      this.#filter.reset();
      this.#found = time;
    } else {
      this.#step += 0.2 * (Math.min(time - this.#seen, LONGEST_STEP_S) - this.#step);
    }
    this.#target = this.#filter.next(pose, time, smoothing);
    // a line to the next pose, which comes one step later
    this.#arrival = this.#drawn + Math.min(this.#step, LONGEST_GLIDE_S) * Math.min(1, 2 * smoothing);
    this.#seen = time;
  }

  /**
   * Whether the last tracked pose is so old that the character goes to rest. Slow trackers are given more time.
   * @param {number} time
   */
  isLost(time) {
    return time - this.#seen > Math.max(HOLD_S, 3 * this.#step);
  }

  /**
   * The pose to show; breathing is left to the caller. Times of successive calls must not decrease.
   * @param {number} time
   * @returns {Float32Array}
   */
  at(time) {
    const step = Math.min(time - this.#drawn, 1);
    const left = this.#arrival - this.#drawn;
    this.#drawn = time;
    const lost = this.isLost(time);
    const target = lost ? rest() : this.#target;
    const glide = left > step ? step / left : 1;
    const share = lost ? 1 - Math.exp(-step / RELEASE_S) : Math.min(glide, this.#welcome(time, step));
    for (let i = 0; i < target.length; i++) this.#current[i] += share * (target[i] - this.#current[i]);
    return this.#current.slice();
  }

  /**
   * The most of the way to a face found again that is made in a step: little at first, then all.
   * @param {number} time
   * @param {number} step
   */
  #welcome(time, step) {
    const constant = Math.max(0, 1 - (time - this.#found) / RETURN_S) * RETURN_EASE_S;
    return constant > 0 ? 1 - Math.exp(-step / constant) : 1;
  }
}
