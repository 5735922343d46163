// Tracker: the page's side of the tracking worker: loads it, gives it the newest image whenever it is free.

import { isSingleFile } from '../resources.js';
import { CameraError } from './camera_error.js';

/**
 * @typedef {import('./tracking_worker.js').Face} Face
 * @typedef {import('./tracking_worker.js').Answer} Answer
 */

const KEPT = 30; // detections that the figures are taken from

/** Tracks one face in a video. */
export class FaceTracker {
  /** @type {Worker | null} */
  #worker = null;
  /** @type {Promise<void> | null} */
  #loading = null;
  /** @type {HTMLVideoElement | null} */
  #video = null;
  #busy = false; // an image is with the worker
  #waiting = false; // a newer one came meanwhile
  #callback = 0;
  /** @type {{at: number, ms: number}[]} */
  #lately = [];
  #onFace;
  #onFailure;

  /** @type {number[][]} pairs of landmarks to connect in a drawing */
  outlines = [];

  /**
   * @param {(face: Face | null, time: number) => void} onFace what was seen in the image of a time (ms); null: no face
   * @param {(error: CameraError) => void} onFailure the tracker has ended; `load` may be tried again
   */
  constructor(onFace, onFailure) {
    this.#onFace = onFace;
    this.#onFailure = onFailure;
  }

  /**
   * Loads MediaPipe's files into a worker, once.
   * @returns {Promise<void>}
   * @throws {CameraError} when the files are missing or don't run here
   */
  load() {
    this.#loading ??= this.#start().catch((error) => {
      this.destroy();
      throw error;
    });
    return this.#loading;
  }

  async #start() {
    if (isSingleFile || location.protocol === 'file:') throw new CameraError('disk');
    const files = new URL('../facetracking/', import.meta.url).href;
    // Asked for first, so that nobody grants a camera to a page that can't use it.
    const model = await fetch(`${files}face_landmarker.task`, { method: 'HEAD' }).catch(() => null);
    if (!model?.ok) throw new CameraError('files');
    // A worker has the content security policy of the response it came in, which a static host does not give; only one
    // from a blob has the page's, which keeps images on this machine.
    const script = `import ${JSON.stringify(new URL('tracking_worker.js', import.meta.url).href)};`;
    const address = URL.createObjectURL(new Blob([script], { type: 'text/javascript' }));
    try {
      const worker = new Worker(address, { type: 'module', name: 'face tracking' });
      this.#worker = worker;
      const answer = await new Promise((/** @type {(answer: Answer) => void} */ resolve, reject) => {
        worker.onmessage = ({ data }) => resolve(data);
        worker.onerror = (event) => reject(new CameraError('tracker', event.message));
        worker.postMessage({ kind: 'load', files });
      });
      if (answer.kind === 'failed') throw new CameraError(answer.missing ? 'files' : 'tracker', answer.message);
      if (answer.kind === 'ready') this.outlines = answer.outlines;
      worker.onmessage = ({ data }) => this.#take(data);
      worker.onerror = (event) => this.#fail(event.message);
    } finally {
      URL.revokeObjectURL(address);
    }
  }

  /**
   * Follows a video's images from now on.
   * @param {HTMLVideoElement} video
   */
  follow(video) {
    this.unfollow();
    this.#video = video;
    this.#lately = [];
    this.#awaitImage();
  }

  /** Takes no more images. */
  unfollow() {
    if (this.#video) cancelImage(this.#video, this.#callback);
    this.#video = null;
    this.#waiting = false;
  }

  /** @returns {{ms: number, perSecond: number}} median time of a detection, and how many there were lately */
  stats() {
    const times = this.#lately.map(({ ms }) => ms).sort((a, b) => a - b);
    const span = (this.#lately.at(-1)?.at ?? 0) - (this.#lately[0]?.at ?? 0);
    return {
      ms: times[times.length >> 1] ?? 0,
      perSecond: span > 0 ? ((this.#lately.length - 1) * 1000) / span : 0,
    };
  }

  /** Gives back the worker. */
  destroy() {
    this.unfollow();
    this.#worker?.terminate();
    this.#worker = null;
    this.#loading = null;
    this.#busy = false;
  }

  #awaitImage() {
    const video = this.#video;
    if (!video) return;
    this.#callback = onImage(video, () => {
      this.#waiting = true;
      void this.#give();
      this.#awaitImage();
    });
  }

  /** Gives the worker the video's present image, if it is free and the image is new. */
  async #give() {
    const video = this.#video;
    if (!video || !this.#worker || this.#busy || !this.#waiting) return;
    this.#busy = true;
    this.#waiting = false;
    const time = performance.now();
    try {
      const image = await createImageBitmap(video);
      // stopped, or ended, while the image was copied
      if (this.#video === video && this.#worker) this.#worker.postMessage({ kind: 'image', image, time }, [image]);
      else {
        image.close();
        this.#busy = false;
        void this.#give();
      }
    } catch {
      this.#busy = false; // the video has no image at this moment; the next one will come
    }
  }

  /** @param {Answer} answer */
  #take(answer) {
    if (answer.kind === 'failed') this.#fail(answer.message);
    if (answer.kind !== 'tracked') return;
    this.#busy = false;
    void this.#give();
    this.#lately = [...this.#lately.slice(1 - KEPT), { at: performance.now(), ms: answer.ms }];
    if (this.#video) this.#onFace(answer.face, answer.time);
  }

  /** @param {string} message */
  #fail(message) {
    this.destroy();
    this.#onFailure(new CameraError('tracker', message));
  }
}

/**
 * Calls back once at the video's next image.
 * @param {HTMLVideoElement} video
 * @param {() => void} callback
 * @returns {number} for `cancelImage`
 */
function onImage(video, callback) {
  if ('requestVideoFrameCallback' in video) return video.requestVideoFrameCallback(callback);
  return requestAnimationFrame(callback); // older Firefox: some images come twice, which costs but does no harm
}

/**
 * @param {HTMLVideoElement} video
 * @param {number} callback
 */
function cancelImage(video, callback) {
  if ('cancelVideoFrameCallback' in video) video.cancelVideoFrameCallback(callback);
  else cancelAnimationFrame(callback);
}
