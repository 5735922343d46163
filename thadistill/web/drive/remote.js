// Remote: poses that `thadistill drive` sends over a WebSocket; thadistill/serve/poses.py is its other end.

import { POSE_SIZE, checked } from '../pose.js';

/** Bytes: the seconds at which the pose arrived there. */
const STAMP = 8;
const AGAIN_MS = 1000;

/** @typedef {'off' | 'waiting' | 'driven' | 'held' | 'resting' | 'failed' | 'away'} RemoteState 'away': not connected */

/** The address of the poses, which only `thadistill drive` writes into its page. @returns {string | null} */
export const driveAddress = () =>
  document.querySelector('meta[name="thadistill-drive"]')?.getAttribute('content') ?? null;

/**
 * Follows a running `thadistill drive`; comes back by itself after the connection was lost.
 *
 * Events: 'change' after `state` or `source` changed.
 */
export class RemoteDriver extends EventTarget {
  /** @type {RemoteState} */
  state = 'off';
  /** What drives the character there. */
  source = '';
  #onPose;
  /** @type {WebSocket | null} */
  #socket = null;
  /** @type {ArrayBuffer | null} the newest pose's */
  #stamp = null;
  /** @type {ArrayBuffer | null} that of the pose whose frame is being drawn */
  #asked = null;

  /** @param {(pose: Float32Array) => void} onPose is given each pose, in its ranges, and may keep it */
  constructor(onPose) {
    super();
    this.#onPose = onPose;
  }

  /** @param {string} address */
  start(address) {
    const url = new URL(address, document.baseURI);
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
    const socket = new WebSocket(url);
    socket.binaryType = 'arraybuffer';
    socket.onmessage = ({ data }) => (typeof data === 'string' ? this.#hear(data) : this.#take(data));
    socket.onclose = () => {
      this.#stamp = this.#asked = null;
      this.#show('away', this.source);
      setTimeout(() => this.start(address), AGAIN_MS);
    };
    this.#socket = socket;
  }

  /** A frame of the newest pose is begun. */
  asked() {
    this.#asked ??= this.#stamp;
    this.#stamp = null;
  }

  /** A frame is on the canvas: the other end measures how long that took. */
  drawn() {
    if (this.#asked && this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(this.#asked);
    this.#asked = null;
  }

  /** @param {string} text */
  #hear(text) {
    const { source, state } = JSON.parse(text);
    this.#show(state, String(source));
  }

  /** @param {ArrayBuffer} data */
  #take(data) {
    const pose = checked(new Float32Array(data, STAMP, POSE_SIZE));
    if (new Float64Array(data, 0, 1)[0] > 0) this.#stamp = data.slice(0, STAMP);
    this.#onPose(pose);
  }

  /** @param {RemoteState} state @param {string} source */
  #show(state, source) {
    if (state === this.state && source === this.source) return;
    this.state = state;
    this.source = source;
    this.dispatchEvent(new Event('change'));
  }
}
