// Camera: a webcam's face to poses: devices, permission, tracker, smoothing, and what happens when something is lost.

import { indexOf } from '../pose.js';
import { anglesOf, breathing, mirrored, poseOf } from './blendshapes.js';
import { CameraError, explain } from './camera_error.js';
import { PoseFollower } from './follower.js';
import { FaceTracker } from './tracker.js';

/**
 * @typedef {import('./tracking_worker.js').Face} Face
 * @typedef {import('./camera_error.js').CameraErrorCode} CameraErrorCode
 *
 * @typedef {'off' | 'starting' | 'tracking' | 'lost' | 'error'} CameraState
 *   'starting': permission, tracker and first image are awaited (the browser may be asking the user); 'tracking': a
 *   face is followed; 'lost': the camera runs but no face is seen: the character goes to rest; 'error': see `error`,
 *   the camera is off.
 *
 * @typedef {Object} CameraSettings
 * @property {import('./blendshapes.js').EyebrowDown} eyebrowDown the morph that lowered brows are shown as
 * @property {import('./blendshapes.js').Wink} wink what a closed eye is shown as
 * @property {number} smoothing 0 (none) to 1 (strong)
 * @property {boolean} mirror whether the character moves as a mirror image does; the preview is turned with it
 * @property {number} breathing breaths a minute; 0: none
 *
 * @typedef {{deviceId: string, label: string}} Camera `label` is never empty: 'Camera 1' where the browser hides names
 */

/** @type {Readonly<CameraSettings>} as the authors' webcam program has them */
export const DEFAULTS = Object.freeze({
  eyebrowDown: 'angry', wink: 'normal', smoothing: 0.5, mirror: true, breathing: 20,
});

const FIRST_IMAGE_S = 10;
const CALIBRATED_OVER_MS = 500;
const BREATHING = indexOf('breathing');

/**
 * The webcam driver. One for a page; it loads nothing and asks for nothing until `start`.
 *
 * Events: 'change' after `state`, `error`, `calibrated`, `deviceId` or the list of `devices()` changed.
 *
 * @example
 * const camera = new CameraDriver((pose) => player.setPose(pose));
 * camera.addEventListener('change', () => show(camera.state, camera.error));
 * preview.append(camera.video);            // plays by itself once started; style it as you like
 * await camera.start();                    // rejects with a readable CameraError, whose message is also `camera.error`
 * camera.configure({ wink: 'relaxed' });   // at any time
 */
export class CameraDriver extends EventTarget {
  /** @type {CameraState} */
  state = 'off';
  /** @type {string | null} one readable line while the state is 'error', else null */
  error = null;
  /** @type {CameraErrorCode | null} which error, for translations; null when there is none */
  errorCode = null;
  /** @type {string | null} the camera in use */
  deviceId = null;
  /** Whether `calibrate` has set what counts as looking straight ahead. */
  calibrated = false;
  /** @type {CameraSettings} as they stand; change them by `configure` */
  settings;
  /** @type {HTMLVideoElement} what the camera sees, muted; turned by style when `mirror` is on */
  video = document.createElement('video');

  #onPose;
  #follower = new PoseFollower();
  #tracker = new FaceTracker((face, time) => this.#track(face, time), (error) => this.#fail(error));
  #run = 0; // counts starts and stops, so that what was begun before the last one is dropped
  #drawing = 0;
  /** @type {MediaStream | null} */
  #stream = null;
  /** @type {Face | null} */
  #face = null;
  /** @type {{time: number, angles: import('./blendshapes.js').Angles}[]} */
  #heads = [];
  /** @type {import('./blendshapes.js').Angles} */
  #neutral = [0, 0, 0];
  #changed = () => void this.dispatchEvent(new Event('change'));

  /**
   * @param {(pose: Float32Array) => void} onPose is given a pose, in its ranges, on every frame of the display while
   *   the state is 'tracking' or 'lost'; the array is the receiver's to keep
   * @param {Partial<CameraSettings>} [settings]
   */
  constructor(onPose, settings = {}) {
    super();
    this.#onPose = onPose;
    this.settings = { ...DEFAULTS };
    this.video.muted = true;
    this.video.playsInline = true; // else iPhones show it full screen
    this.configure(settings);
    globalThis.navigator.mediaDevices?.addEventListener('devicechange', this.#changed);
  }

  /**
   * Starts the camera, or changes over to another one. Resolves when images are being tracked (state 'lost' or
   * 'tracking'), or when `stop` or `start` was called meanwhile.
   * @param {string} [deviceId] of `devices()`; without: the browser's choice
   * @returns {Promise<void>}
   * @throws {CameraError} one readable line: no camera, refused, in use, an insecure page, the tracker's files missing
   */
  async start(deviceId) {
    this.#release();
    const run = this.#run;
    this.#show('starting');
    try {
      if (!navigator.mediaDevices?.getUserMedia) throw new CameraError('insecure');
      const loading = this.#tracker.load();
      loading.catch(() => {}); // it is awaited below, maybe after another error
      // missing files are reported before the browser asks for a camera
      await Promise.race([loading, new Promise((resolve) => setTimeout(resolve, 300))]);
      if (run !== this.#run) return;
      const stream = await navigator.mediaDevices.getUserMedia({
        audio: false,
        video: {
          ...(deviceId ? { deviceId: { exact: deviceId } } : { facingMode: 'user' }),
          width: { ideal: 640 },
          height: { ideal: 480 },
          frameRate: { ideal: 30 },
        },
      });
      if (run !== this.#run) {
        stream.getTracks().forEach((track) => track.stop());
        return;
      }
      this.#stream = stream;
      const [track] = stream.getVideoTracks();
      track.addEventListener('ended', () => this.#stream === stream && this.#fail(new CameraError('unplugged')));
      this.deviceId = track.getSettings().deviceId ?? deviceId ?? null;
      await this.#play(stream);
      await loading;
      if (run !== this.#run) return;
    } catch (error) {
      if (run !== this.#run) return;
      const readable = explain(error);
      this.#fail(readable);
      throw readable;
    }
    this.#follower = new PoseFollower();
    this.#tracker.follow(this.video);
    this.#show('lost');
    this.#draw();
  }

  /** Stops the camera at once (its light goes out); the tracker stays loaded for the next start. */
  stop() {
    this.#release();
    this.#show('off');
  }

  /** The head's present direction counts as straight ahead from now on. @returns {boolean} false: no face is seen */
  calibrate() {
    if (this.state !== 'tracking' || !this.#heads.length) return false;
    const mean = (/** @type {number} */ axis) => {
      return this.#heads.reduce((sum, { angles }) => sum + angles[axis], 0) / this.#heads.length;
    };
    this.#neutral = [mean(0), mean(1), mean(2)];
    this.calibrated = true;
    this.#changed();
    return true;
  }

  /** Forgets the calibration. */
  resetCalibration() {
    this.#neutral = [0, 0, 0];
    this.calibrated = false;
    this.#changed();
  }

  /**
   * Changes some settings; takes effect at once.
   * @param {Partial<CameraSettings>} settings
   */
  configure(settings) {
    Object.assign(this.settings, settings);
    this.video.style.transform = this.settings.mirror ? 'scaleX(-1)' : '';
  }

  /**
   * The cameras there are. Browsers name them only once a camera was allowed.
   * @returns {Promise<Camera[]>}
   */
  async devices() {
    const all = (await navigator.mediaDevices?.enumerateDevices?.()) ?? [];
    const cameras = all.filter(({ kind }) => kind === 'videoinput');
    return cameras.map(({ deviceId, label }, i) => ({ deviceId, label: label || `Camera ${i + 1}` }));
  }

  /**
   * Figures for the read-out.
   * @returns {{trackerMs: number, trackedPerSecond: number}} median time of a detection; detections a second, lately
   */
  stats() {
    const { ms, perSecond } = this.#tracker.stats();
    return { trackerMs: ms, trackedPerSecond: perSecond };
  }

  /**
   * Draws the outlines of the face last seen in the canvas's text colour; the canvas is cleared first. Lay it over
   * `video` at the same size and place. Turned with `mirror` by itself.
   * @param {HTMLCanvasElement} canvas its pixel size is set to the video's
   */
  drawPreview(canvas) {
    const { videoWidth: width, videoHeight: height } = this.video;
    if (canvas.width !== width) canvas.width = width;
    if (canvas.height !== height) canvas.height = height;
    const context = canvas.getContext('2d');
    if (!context) return;
    context.clearRect(0, 0, width, height);
    if (this.state !== 'tracking' || !this.#face) return;
    const { landmarks } = this.#face;
    const across = (/** @type {number} */ x) => (this.settings.mirror ? 1 - x : x) * width;
    context.strokeStyle = getComputedStyle(canvas).color;
    context.lineWidth = Math.max(1, width / 320);
    context.beginPath();
    for (const [from, to] of this.#tracker.outlines) {
      context.moveTo(across(landmarks[2 * from]), landmarks[2 * from + 1] * height);
      context.lineTo(across(landmarks[2 * to]), landmarks[2 * to + 1] * height);
    }
    context.stroke();
  }

  /** Stops, and gives back the tracker's worker. */
  destroy() {
    this.stop();
    this.#tracker.destroy();
    navigator.mediaDevices?.removeEventListener('devicechange', this.#changed);
  }

  /**
   * Plays the stream; resolves at the first image.
   * @param {MediaStream} stream
   */
  async #play(stream) {
    this.video.srcObject = stream;
    const late = new Promise((_, reject) => setTimeout(() => reject(new CameraError('busy')), FIRST_IMAGE_S * 1000));
    const loaded = new Promise((resolve) => this.video.addEventListener('loadeddata', resolve, { once: true }));
    await Promise.race([Promise.all([this.video.play(), loaded]), late]);
  }

  /**
   * @param {Face | null} face
   * @param {number} time in milliseconds
   */
  #track(face, time) {
    this.#face = face;
    if (!face) return;
    const { eyebrowDown, wink, mirror, smoothing } = this.settings;
    const pose = poseOf(face.blendshapes, face.matrix, { eyebrowDown, wink, neutral: this.#neutral });
    this.#follower.track(mirror ? mirrored(pose) : pose, time / 1000, smoothing);
    this.#heads = this.#heads.filter((head) => time - head.time < CALIBRATED_OVER_MS);
    this.#heads.push({ time, angles: anglesOf(face.matrix) });
  }

  #draw() {
    this.#drawing = requestAnimationFrame(() => {
      this.#draw();
      const seconds = performance.now() / 1000;
      this.#show(this.#follower.isLost(seconds) ? 'lost' : 'tracking');
      const pose = this.#follower.at(seconds);
      pose[BREATHING] = breathing(seconds, this.settings.breathing);
      this.#onPose(pose);
    });
  }

  /** Stops the camera and whatever is being started. */
  #release() {
    this.#run++;
    cancelAnimationFrame(this.#drawing);
    this.#tracker.unfollow();
    this.#stream?.getTracks().forEach((track) => track.stop());
    this.#stream = null;
    this.video.srcObject = null;
    this.#face = null;
    this.#heads = [];
    this.deviceId = null;
  }

  /** @param {CameraError} error */
  #fail(error) {
    this.#release();
    this.#show('error', error);
  }

  /**
   * @param {CameraState} state
   * @param {CameraError | null} [error]
   */
  #show(state, error = null) {
    if (state === this.state && (error?.message ?? null) === this.error) return;
    this.state = state;
    this.error = error?.message ?? null;
    this.errorCode = error?.code ?? null;
    this.#changed();
  }
}
