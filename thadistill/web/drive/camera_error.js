// Camera errors: why the webcam does not work, as a code (for translations) and one readable line.

const LINES = Object.freeze({
  insecure: 'browsers give pages the camera only over https, or from 127.0.0.1: open this one by such an address',
  disk: "the webcam doesn't work from a file: open the character with 'thadistill serve', or from a web server",
  none: 'no camera was found: connect one and try again',
  refused: "the camera was refused: allow it in the browser's address bar (or in the system's settings) and try again",
  busy: 'the camera is in use, or cannot be started: close the other program that uses it and try again',
  unplugged: 'the camera was unplugged: connect it again, or choose another',
  files: "the face tracker's files are missing: run 'thadistill assets pull=facetracking', then serve or export again",
  tracker: "the face tracker doesn't run in this browser",
  failed: 'the camera failed',
});

/** @typedef {keyof typeof LINES} CameraErrorCode */

/** A reason why there is no picture or no tracking; `message` is one readable line in English. */
export class CameraError extends Error {
  /**
   * @param {CameraErrorCode} code
   * @param {string} [detail] what the browser said, for reports
   */
  constructor(code, detail = '') {
    super(detail ? `${LINES[code]} (${detail})` : LINES[code]);
    this.name = 'CameraError';
    this.code = code;
  }
}

/** @type {Record<string, CameraErrorCode>} what getUserMedia rejects with */
const CODES = {
  NotAllowedError: 'refused',
  PermissionDeniedError: 'refused',
  SecurityError: 'refused',
  NotFoundError: 'none',
  DevicesNotFoundError: 'none',
  OverconstrainedError: 'none',
  NotReadableError: 'busy',
  TrackStartError: 'busy',
  AbortError: 'busy',
};

/**
 * Any error as a CameraError.
 * @param {unknown} error
 * @returns {CameraError}
 */
export function explain(error) {
  if (error instanceof CameraError) return error;
  const code = error instanceof Error ? CODES[error.name] : undefined;
  if (code) return new CameraError(code);
  return new CameraError('failed', error instanceof Error ? error.message : String(error));
}
