// Motion: what moves by itself: breathing, blinking, swaying, talking, and looking at the pointer; laid over a pose.

import { FACIAL_SIZE, LOW, POSE_SIZE, indexOf } from './pose.js';

const BREATHS_PER_MINUTE = 20;
/** Milliseconds: how a blink closes, stays closed, and opens. */
const [CLOSING, CLOSED, OPENING] = [60, 40, 120]; // as drive/motion.py has them
/** Milliseconds in which a motion that was switched on or off gets (1 - 1/e) of the way. */
const EASE = 250;
/** The same for looking at the pointer: eyes are faster than heads. */
const EYES = 90;
const HEAD = 260;
const LIPS = 45;
const SMALL = 1e-3;

const AT = Object.freeze({
  wink: ['eye_wink_left', 'eye_wink_right'].map(indexOf),
  happyWink: ['eye_happy_wink_left', 'eye_happy_wink_right'].map(indexOf),
  vowels: ['mouth_aaa', 'mouth_iii', 'mouth_uuu', 'mouth_eee', 'mouth_ooo'].map(indexOf),
  irisX: indexOf('iris_rotation_x'),
  irisY: indexOf('iris_rotation_y'),
  headX: indexOf('head_x'),
  headY: indexOf('head_y'),
  neckZ: indexOf('neck_z'),
  bodyY: indexOf('body_y'),
  bodyZ: indexOf('body_z'),
  breathing: indexOf('breathing'),
});

/** @typedef {'breathing' | 'blinking' | 'sway' | 'follow' | 'talking'} Kind */

/** The motions that are on, and where each of them stands. */
export class Motion {
  /** @type {Record<Kind, boolean>} */
  on = { breathing: false, blinking: false, sway: false, follow: false, talking: false };
  /** @type {{x: number, y: number} | null} where to look: -1 is left or below, 1 is right or above; null: ahead */
  target = null;

  /** @type {Record<Kind, number>} */
  #strength = { breathing: 0, blinking: 0, sway: 0, follow: 0, talking: 0 };
  #eyes = { x: 0, y: 0 };
  #head = { x: 0, y: 0 };
  #lips = AT.vowels.map(() => 0);
  #syllable = { vowel: 0, amount: 0, until: 0 };
  #blink = 0; // when the next one begins
  #before = 0;

  /** Ends all of them at once, without easing. */
  stop() {
    for (const kind of /** @type {Kind[]} */ (Object.keys(this.on))) {
      this.on[kind] = false;
      this.#strength[kind] = 0;
    }
    this.target = null;
    this.#eyes = { x: 0, y: 0 };
    this.#head = { x: 0, y: 0 };
    this.#lips.fill(0);
  }

  /**
   * Adds the motions to a pose, in place.
   * @param {Float32Array} pose
   * @param {number} now milliseconds
   */
  apply(pose, now) {
    const passed = Math.min(200, Math.max(0, now - this.#before)); // after a pause nothing jumps
    this.#before = now;
    for (const kind of /** @type {Kind[]} */ (Object.keys(this.on))) {
      this.#strength[kind] = approach(this.#strength[kind], this.on[kind] ? 1 : 0, passed / EASE);
    }
    const { breathing, blinking, sway, talking } = this.#strength;
    const seconds = now / 1000;
    if (breathing) {
      const breath = 0.5 - 0.5 * Math.cos((2 * Math.PI * seconds * BREATHS_PER_MINUTE) / 60);
      pose[AT.breathing] = Math.max(pose[AT.breathing], breathing * breath);
    }
    if (sway) this.#sway(pose, seconds, sway);
    this.#look(pose, passed);
    if (talking || this.on.talking) this.#talk(pose, now, passed, talking);
    if (blinking) {
      const closed = blinking * this.#lid(now);
      AT.wink.forEach((at, side) => {
        pose[at] = Math.max(pose[at], closed * (1 - pose[AT.happyWink[side]]));
      });
    }
    for (let i = 0; i < POSE_SIZE; i++) pose[i] = Math.min(1, Math.max(LOW[i], pose[i]));
  }

  /**
   * Slow waves whose periods have no common multiple that anybody would wait for.
   * @param {Float32Array} pose
   * @param {number} t seconds
   * @param {number} strength
   */
  #sway(pose, t, strength) {
    /** @param {number} period @param {number} phase */
    const wave = (period, phase) => strength * Math.sin((2 * Math.PI * t) / period + phase);
    const turn = 0.6 * wave(7.3, 0) + 0.4 * wave(11.9, 1);
    pose[AT.headY] += 0.24 * turn;
    pose[AT.bodyY] += 0.2 * (0.7 * wave(7.3, -0.9) + 0.3 * wave(17.1, 2));
    pose[AT.headX] += 0.13 * (0.5 * wave(5.7, 2) + 0.5 * wave(9.1, 0.5));
    pose[AT.neckZ] += 0.2 * (0.6 * wave(8.9, 3) + 0.4 * wave(13.7, 0.2));
    pose[AT.bodyZ] += 0.16 * wave(10.3, 1.4);
    pose[AT.irisY] += 0.12 * turn;
  }

  /**
   * @param {Float32Array} pose
   * @param {number} passed milliseconds
   */
  #look(pose, passed) {
    const { x, y } = (this.on.follow && this.target) || { x: 0, y: 0 };
    for (const [gaze, pace] of /** @type {const} */ ([[this.#eyes, EYES], [this.#head, HEAD]])) {
      gaze.x = approach(gaze.x, x, passed / pace);
      gaze.y = approach(gaze.y, y, passed / pace);
    }
    // positive turns are to the left of the picture
    pose[AT.irisY] -= 0.85 * this.#eyes.x;
    pose[AT.irisX] += 0.7 * this.#eyes.y;
    pose[AT.headY] -= 0.9 * this.#head.x;
    pose[AT.headX] += 0.8 * this.#head.y;
    pose[AT.bodyY] -= 0.5 * this.#head.x;
    pose[AT.neckZ] -= 0.15 * this.#head.x;
  }

  /**
   * How far the lids are closed.
   * @param {number} now milliseconds
   */
  #lid(now) {
    if (!this.#blink || now - this.#blink > 10_000) this.#blink = now + 1200;
    const t = now - this.#blink;
    if (t < 0) return 0;
    if (t < CLOSING) return t / CLOSING;
    if (t < CLOSING + CLOSED) return 1;
    if (t < CLOSING + CLOSED + OPENING) return 1 - (t - CLOSING - CLOSED) / OPENING;
    this.#blink = now + (Math.random() < 0.15 ? 120 : 1800 + 3600 * Math.random()); // now and then two in a row
    return 0;
  }

  /**
   * @param {Float32Array} pose
   * @param {number} now
   * @param {number} passed
   * @param {number} strength
   */
  #talk(pose, now, passed, strength) {
    if (now > this.#syllable.until) {
      const pause = Math.random() < 0.14;
      this.#syllable = {
        vowel: Math.floor(Math.random() * AT.vowels.length),
        amount: pause ? 0 : 0.45 + 0.55 * Math.random(),
        until: now + (pause ? 220 + 300 * Math.random() : 90 + 90 * Math.random()),
      };
    }
    AT.vowels.forEach((at, vowel) => {
      const wanted = vowel === this.#syllable.vowel ? this.#syllable.amount : 0;
      this.#lips[vowel] = approach(this.#lips[vowel], wanted, passed / LIPS);
      pose[at] = Math.max(pose[at], strength * this.#lips[vowel]);
    });
    pose[AT.headX] += strength * 0.1 * Math.sin(now / 310) * Math.sin(now / 1270);
  }
}

/**
 * @param {number} value
 * @param {number} wanted
 * @param {number} steps time passed, in time constants
 */
function approach(value, wanted, steps) {
  const next = wanted + (value - wanted) * Math.exp(-steps);
  return Math.abs(next - wanted) < SMALL ? wanted : next;
}

/**
 * A pose that somebody could have: a head, a look, and one shape each of brows, eyes and mouth.
 * @returns {Float32Array}
 */
export function randomPose() {
  const pose = new Float32Array(POSE_SIZE);
  /** @param {number} most */
  const signed = (most) => most * (2 * Math.random() - 1);
  /** @param {number} first @param {number} count of pairs */
  const pair = (first, count) => {
    const at = first + 2 * Math.floor(Math.random() * count);
    pose[at] = pose[at + 1] = 0.3 + 0.7 * Math.random();
  };
  for (let i = FACIAL_SIZE; i < POSE_SIZE - 1; i++) pose[i] = signed(0.9);
  pose[AT.irisX] = signed(0.6);
  pose[AT.irisY] = signed(0.8);
  pair(0, 6);
  if (Math.random() < 0.6) pair(indexOf('eye_wink_left'), 6);
  if (Math.random() < 0.25) pose[AT.wink[Math.floor(2 * Math.random())]] = 1;
  const mouth = indexOf('mouth_aaa') + Math.floor(6 * Math.random());
  if (Math.random() < 0.6) pose[mouth] = 0.3 + 0.7 * Math.random();
  pair(indexOf('mouth_lowered_corner_left'), 2);
  return pose;
}
