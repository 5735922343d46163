// State: how the page opens and what it remembers: the address first, then the browser's storage.

import { checked, fromNames, toNames } from './pose.js';

/**
 * @typedef {{kind: 'transparent'} | {kind: 'colour', colour: string} | {kind: 'picture', picture: ImageBitmap}}
 *   Background
 * @typedef {{zoom: number, x: number, y: number}} View zoom 1 fits the character; x and y are shares of the stage
 *
 * @typedef {Object} Address
 * @property {string | null} engine
 * @property {string | null} character
 * @property {boolean} clean
 * @property {Background | null} background
 * @property {Float32Array | null} pose
 * @property {string[] | null} motion which motions are on; null: the page's default
 * @property {View | null} view
 * @property {boolean} camera whether the webcam starts by itself
 * @property {string[]} problems a readable line for each part that was left out
 */

export const MOTIONS = /** @type {const} */ (['breathing', 'blinking', 'sway', 'follow']);
export const MOST_ZOOM = 8;
export const LEAST_ZOOM = 0.25;
const STORE = 'thadistill';

/**
 * A colour as the address has it, for CSS.
 * @param {string} text RRGGBB, with or without '#'
 */
export function colourOf(text) {
  const match = /^#?([0-9a-f]{6})$/i.exec(text);
  return match && `#${match[1].toLowerCase()}`;
}

/**
 * The pose that the part of an address after '#' holds, or null when it holds none.
 * @param {string} hash
 * @throws {Error} one readable line
 */
export function poseInHash(hash) {
  const match = /^#pose=(.*)$/s.exec(hash);
  return match && parsePose(safely(() => decodeURIComponent(match[1])) ?? match[1]);
}

/**
 * A pose from its text: an object of names and values, or a list of 45 numbers.
 * @param {string} text
 * @throws {Error} one readable line
 */
export function parsePose(text) {
  const values = safely(() => JSON.parse(text));
  if (values === null) throw new Error('the pose is not JSON; expected names and values, such as {"head_y": 0.5}');
  return Array.isArray(values) ? checked(values) : fromNames(values);
}

/**
 * @param {Location | URL} location
 * @returns {Address}
 */
export function readAddress(location) {
  const query = new URLSearchParams(location.search);
  /** @type {string[]} */
  const problems = [];
  /** @type {Address} */
  const address = {
    engine: query.get('engine'),
    character: query.get('character'),
    clean: query.get('view') === 'clean',
    background: null,
    pose: null,
    motion: null,
    view: null,
    camera: query.get('camera') === 'on',
    problems,
  };
  const background = query.get('background');
  if (background === 'transparent') address.background = { kind: 'transparent' };
  else if (background !== null) {
    const colour = colourOf(background);
    if (colour) address.background = { kind: 'colour', colour };
    else problems.push(`background=${background}: expected transparent, or a colour as RRGGBB`);
  }
  try {
    address.pose = poseInHash(location.hash);
  } catch (error) {
    problems.push(error instanceof Error ? error.message : String(error));
  }
  const motion = query.get('motion');
  if (motion !== null) address.motion = MOTIONS.filter((name) => motion.split(',').includes(name));
  if (['zoom', 'x', 'y'].some((key) => query.has(key))) {
    const [zoom, x, y] = ['zoom', 'x', 'y'].map((key) => Number(query.get(key) ?? (key === 'zoom' ? 1 : 0)));
    if ([zoom, x, y].every(Number.isFinite)) address.view = { zoom: limited(zoom), x, y };
    else problems.push('zoom, x and y in the address are not numbers');
  }
  return address;
}

/** @param {number} zoom */
export const limited = (zoom) => Math.min(MOST_ZOOM, Math.max(LEAST_ZOOM, zoom));

/**
 * The address of the clean view that shows what the page shows now, for OBS's browser source.
 * @param {Location | URL} location
 * @param {{character: string | null, background: Background, view: View, motions: string[], pose: Float32Array,
 *   engine: string | null}} now
 */
export function cleanAddress(location, now) {
  const url = new URL(location.href.split(/[?#]/)[0]);
  const { background, view } = now;
  if (now.engine) url.searchParams.set('engine', now.engine);
  if (now.character) url.searchParams.set('character', now.character);
  url.searchParams.set('view', 'clean');
  url.searchParams.set('background', background.kind === 'colour' ? background.colour.slice(1) : 'transparent');
  url.searchParams.set('motion', now.motions.join(',') || 'none');
  if (view.zoom !== 1 || view.x || view.y) {
    for (const [key, value] of Object.entries(view)) url.searchParams.set(key, String(+value.toFixed(3)));
  }
  const pose = toNames(now.pose);
  // commas and colons may stand as they are: an address that can be read can be edited
  const hash = Object.keys(pose).length ? `#pose=${encodeURIComponent(JSON.stringify(pose))}` : '';
  return url.href.replaceAll('%2C', ',') + hash.replaceAll('%2C', ',').replaceAll('%3A', ':');
}

/**
 * Changes one part of the address without leaving the page.
 * @param {string} key
 * @param {string | null} value
 */
export function rememberInAddress(key, value) {
  const url = new URL(window.location.href);
  if (value === null) url.searchParams.delete(key);
  else url.searchParams.set(key, value);
  safely(() => history.replaceState(null, '', url)); // browsers refuse it to a page from disk
}

/** What the page remembers between visits; in a browser that keeps nothing, between clicks. */
export class Memory {
  /** @type {Record<string, unknown>} */
  #values;

  /** @param {boolean} lasting false: neither reads nor writes the browser's storage */
  constructor(lasting) {
    this.lasting = lasting;
    const stored = lasting ? safely(() => JSON.parse(localStorage.getItem(STORE) ?? '{}')) : null;
    this.#values = typeof stored === 'object' && stored !== null ? stored : {};
  }

  /**
   * @template T
   * @param {string} key
   * @param {T} otherwise also says the type that a stored value must have
   * @returns {T}
   */
  get(key, otherwise) {
    const value = this.#values[key];
    return typeof value === typeof otherwise && value !== null ? /** @type {T} */ (value) : otherwise;
  }

  /**
   * @param {string} key
   * @param {unknown} value
   */
  set(key, value) {
    this.#values[key] = value;
    if (this.lasting) safely(() => localStorage.setItem(STORE, JSON.stringify(this.#values)));
  }
}

/**
 * @template T
 * @param {() => T} action
 * @returns {T | null} null when it throws
 */
function safely(action) {
  try {
    return action();
  } catch {
    return null;
  }
}
