// Tracking worker: MediaPipe's FaceLandmarker away from the page's thread; one image at a time, on the CPU.
// A module worker with the package's `*_module_*` pair: its bundle tries importScripts, which every module worker
// refuses with a TypeError, and then imports the loader, which hands itself over as a global.

/**
 * @typedef {Object} Face
 * @property {Record<string, number>} blendshapes
 * @property {number[]} matrix 4x4, column by column
 * @property {Float32Array} landmarks x and y of each in [0, 1]
 *
 * @typedef {{kind: 'load', files: string} | {kind: 'image', image: ImageBitmap, time: number}} Request
 *   `files`: address of the folder of MediaPipe's files, ending in a slash; `time`: milliseconds on the page's clock
 *
 * @typedef {{kind: 'ready', outlines: number[][]}
 *   | {kind: 'tracked', face: Face | null, time: number, ms: number}
 *   | {kind: 'failed', message: string, missing: boolean}} Answer
 *   `outlines`: pairs of landmarks to connect in a drawing; `missing`: whether a file cannot be had
 */

const FILES = Object.freeze({
  bundle: 'vision_bundle.mjs',
  loader: 'vision_wasm_module_internal.js',
  binary: 'vision_wasm_module_internal.wasm',
  model: 'face_landmarker.task',
});

/** @type {any} MediaPipe's; its types are not part of this project */
let landmarker = null;
let last = 0;

/** @param {Answer} answer @param {Transferable[]} [transfer] */
const send = (answer, transfer = []) => postMessage(answer, { transfer });

addEventListener('message', async (/** @type {MessageEvent<Request>} */ { data }) => {
  try {
    if (data.kind === 'load') send({ kind: 'ready', outlines: await load(data.files) });
    else track(data.image, data.time);
  } catch (error) {
    const missing = data.kind === 'load' ? await missingOf(data.files) : [];
    const message = missing.join(', ') || (error instanceof Error ? error.message : String(error));
    send({ kind: 'failed', message, missing: missing.length > 0 });
  }
});

/**
 * @param {string} files
 * @returns {Promise<number[][]>} the outlines
 */
async function load(files) {
  const { FaceLandmarker } = await import(files + FILES.bundle);
  landmarker = await FaceLandmarker.createFromOptions(
    { wasmLoaderPath: files + FILES.loader, wasmBinaryPath: files + FILES.binary },
    {
      baseOptions: { modelAssetPath: files + FILES.model, delegate: 'CPU' }, // the GPU is the character's
      runningMode: 'VIDEO',
      numFaces: 1,
      outputFaceBlendshapes: true,
      outputFacialTransformationMatrixes: true,
    },
  );
  const lines = [...FaceLandmarker.FACE_LANDMARKS_CONTOURS, ...FaceLandmarker.FACE_LANDMARKS_LEFT_IRIS,
    ...FaceLandmarker.FACE_LANDMARKS_RIGHT_IRIS];
  return lines.map(({ start, end }) => [start, end]);
}

/**
 * @param {ImageBitmap} image
 * @param {number} time
 */
function track(image, time) {
  const began = performance.now();
  last = Math.max(time, last + 1); // MediaPipe ends for good at a time that does not increase
  let found;
  try {
    found = landmarker.detectForVideo(image, last);
  } finally {
    image.close();
  }
  const face = faceOf(found);
  const ms = performance.now() - began;
  send({ kind: 'tracked', face, time, ms }, face ? [face.landmarks.buffer] : []);
}

/**
 * @param {any} found
 * @returns {Face | null}
 */
function faceOf({ faceLandmarks, faceBlendshapes, facialTransformationMatrixes }) {
  if (!faceLandmarks.length || !faceBlendshapes.length || !facialTransformationMatrixes.length) return null;
  /** @type {{categoryName: string, score: number}[]} */
  const categories = faceBlendshapes[0].categories;
  /** @type {{x: number, y: number}[]} */
  const points = faceLandmarks[0];
  return {
    blendshapes: Object.fromEntries(categories.map(({ categoryName, score }) => [categoryName, score])),
    matrix: [...facialTransformationMatrixes[0].data],
    landmarks: Float32Array.from(points.flatMap(({ x, y }) => [x, y])),
  };
}

/**
 * Which of the files cannot be had: asked only after something failed, whose own message seldom says.
 * @param {string} files
 * @returns {Promise<string[]>}
 */
async function missingOf(files) {
  const answers = Object.values(FILES).map(async (name) => {
    const response = await fetch(files + name, { method: 'HEAD' }).catch(() => null);
    return response?.ok ? [] : [name];
  });
  return (await Promise.all(answers)).flat();
}

export {};
