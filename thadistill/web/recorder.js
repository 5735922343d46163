// Recorder: what the stage shows as a file: WebM with its transparency, its poses as a track, or a PNG of the moment.

import { withDuration } from './webm.js';

/**
 * @typedef {import('./stage.js').Stage} Stage
 * @typedef {'frame' | 'screen'} Extent the character's whole frame, or what the stage shows
 */

/** In the order of preference; of these only WebM keeps transparency. */
const TYPES = ['video/webm;codecs=vp9', 'video/webm;codecs=vp8', 'video/webm', 'video/mp4'];
const FRAME = 512;
const BITS_PER_PIXEL = 24; // a second: 6 Mbit/s for a frame of the character
/** Milliseconds between drawings while nothing moves: a video needs frames to have a length. */
const KEEP_ALIVE = 100;

/**
 * The size of a picture or video of the stage.
 * @param {Stage} stage
 * @param {Extent} extent
 */
function sizeOf(stage, extent) {
  if (extent === 'frame') return { width: FRAME, height: FRAME };
  const even = (/** @type {number} */ side) => Math.max(2, side - (side % 2)); // video codecs halve the colour planes
  return { width: even(stage.canvas.width), height: even(stage.canvas.height) };
}

/**
 * @param {Stage} stage
 * @param {Extent} extent
 * @returns {Promise<Blob>} a PNG
 */
export async function photograph(stage, extent) {
  const { width, height } = sizeOf(stage, extent);
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext('2d');
  if (!context) throw new Error('this browser has no canvas to draw on');
  stage.compose(context, width, height, extent === 'frame');
  return canvas.convertToBlob({ type: 'image/png' });
}

/** Poses over time, as `thadistill animate poses=FILE.json` reads them. */
class Track {
  /** @type {string[]} */
  #lines = [];
  #last = -1;

  /**
   * @param {number} seconds since the recording began; what is not later than the last is left out
   * @param {Float32Array} pose
   */
  add(seconds, pose) {
    const time = Number(seconds.toFixed(4));
    if (time <= this.#last) return;
    this.#last = time;
    this.#lines.push(JSON.stringify({ time, pose: Array.from(pose, (value) => Number(value.toFixed(4))) }));
  }

  /** @returns {Blob} */
  file() {
    return new Blob([`{"poses": [\n${this.#lines.join(',\n')}\n]}\n`], { type: 'application/json' });
  }
}

/** One recording at a time. */
export class Recorder {
  /** @type {MediaRecorder | null} */
  #media = null;
  /** @type {Blob[]} */
  #parts = [];
  #started = 0;
  #timer = 0;
  #draw = () => {};
  /** @type {Track | null} */
  #track = null;

  /**
   * @param {Stage} stage
   * @param {() => Float32Array | null} poseOf the pose that the stage shows
   */
  constructor(stage, poseOf) {
    this.stage = stage;
    this.poseOf = poseOf;
  }

  get recording() {
    return this.#media !== null;
  }

  /** How long it has been going on. */
  get seconds() {
    return this.recording ? (performance.now() - this.#started) / 1000 : 0;
  }

  /**
   * @param {Extent} extent
   * @param {boolean} poses whether the poses are kept, too
   * @throws {Error} one readable line when this browser cannot record
   */
  start(extent, poses) {
    if (this.#media) return;
    const can = typeof MediaRecorder !== 'undefined';
    const type = can ? TYPES.find((each) => MediaRecorder.isTypeSupported(each)) : null;
    const canvas = document.createElement('canvas');
    const context = canvas.getContext('2d');
    if (!type || !context || !canvas.captureStream) throw new Error('this browser cannot record');
    Object.assign(canvas, sizeOf(this.stage, extent));
    this.#draw = () => {
      this.stage.compose(context, canvas.width, canvas.height, extent === 'frame');
      const pose = this.poseOf();
      if (pose) this.#track?.add(this.seconds, pose);
    };
    this.#track = poses ? new Track() : null;
    this.#draw();
    const media = new MediaRecorder(canvas.captureStream(), {
      mimeType: type,
      videoBitsPerSecond: canvas.width * canvas.height * BITS_PER_PIXEL,
    });
    /** @type {Blob[]} */
    const parts = []; // its own: the last one may still be stopping
    media.ondataavailable = ({ data }) => data.size && parts.push(data);
    media.start(1000);
    this.#media = media;
    this.#parts = parts;
    this.#started = performance.now();
    this.#timer = setInterval(this.#draw, KEEP_ALIVE);
  }

  /** To be called whenever the stage has changed. */
  drawn() {
    if (this.#media) this.#draw();
  }

  /**
   * @returns {Promise<{blob: Blob, ending: string, poses: Blob | null}>}
   * @throws {Error} when nothing is being recorded
   */
  async stop() {
    const [media, parts] = [this.#media, this.#parts];
    if (!media) throw new Error('nothing is being recorded');
    this.#draw(); // the last pose lasts until now
    const { seconds } = this;
    const poses = this.#track?.file() ?? null;
    this.#media = null;
    this.#track = null;
    clearInterval(this.#timer);
    if (media.state !== 'inactive') {
      const stopped = new Promise((resolve) => media.addEventListener('stop', resolve, { once: true }));
      media.stop();
      await stopped;
    }
    for (const track of media.stream.getTracks()) track.stop();
    const type = media.mimeType.split(';')[0];
    const blob = new Blob(parts, { type });
    const isWebm = type === 'video/webm';
    return { blob: isWebm ? await withDuration(blob, 1000 * seconds) : blob, ending: isWebm ? 'webm' : 'mp4', poses };
  }
}

/**
 * Offers a file to the user.
 * @param {Blob} blob
 * @param {string} name
 */
export function download(blob, name) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = name.replace(/[^\p{L}\p{N}._-]+/gu, '_');
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/**
 * A name for a file of this moment.
 * @param {string} character
 * @param {string} ending
 */
export function fileName(character, ending) {
  const now = new Date();
  const two = (/** @type {number} */ value) => String(value).padStart(2, '0');
  const day = [now.getFullYear(), two(now.getMonth() + 1), two(now.getDate())].join('-');
  return `${character}_${day}_${[now.getHours(), now.getMinutes(), now.getSeconds()].map(two).join('')}.${ending}`;
}
