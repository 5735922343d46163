// Character: one student with its picture, read from an exported character file or from the authors' web characters.

import { foldBody, foldFace } from './fold.js';
import { readPng } from './png.js';

/**
 * @typedef {import('./fold.js').Stage} Stage
 * @typedef {import('./fold.js').Tensors} Tensors
 *
 * @typedef {Object} Character
 * @property {string} name
 * @property {Float32Array} image the picture, pixel by pixel RGBA, linear premultiplied in [-1, 1]: [512 * 512 * 4]
 * @property {Uint8Array} picture the same as straight sRGB RGBA, 8 bits
 * @property {Uint8Array} visible 1 where the character is ever painted, else 0, a pixel of the frame each
 * @property {number} size side of the frame: 512, or what the rotator's last level has
 * @property {Stage} face
 * @property {Stage[]} levels
 * @property {string | null} address where it was fetched from, which the native engine asks the server for
 */

export const IMAGE_SIZE = 512;
const FORMAT = 'thadistill.character';
const VERSION = '1';
const SUFFIX = '.safetensors';
const OMEGA = 30; // of the published students, whose files do not say
const SIZES = [128, 256, 512];
const MOST_BYTES = 64e6;
const MOST_HEADER = 1e6;
/** The files of one of the authors' web characters. */
const PUBLISHED = [
  'face_morpher.json', 'face_morpher.weights.bin', 'body_morpher.json', 'body_morpher.weights.bin', 'character.png',
];

/**
 * Reads a character from an address: a character file, or the folder of one of the authors' web characters.
 * @param {string} address
 * @returns {Promise<Character>}
 * @throws {Error} one readable line
 */
export async function fetchCharacter(address) {
  const url = new URL(address, document.baseURI);
  if (url.pathname.endsWith(SUFFIX)) {
    return { ...(await readCharacterFile(await bytesAt(url))), address: url.href };
  }
  const folder = new URL(url.pathname.endsWith('/') ? url : `${url}/`);
  const files = await Promise.all(PUBLISHED.map((name) => bytesAt(new URL(name, folder))));
  const name = decodeURIComponent(folder.pathname.split('/').at(-2) ?? '') || 'character';
  return { ...(await readPublished(files, name)), address: folder.href };
}

/**
 * Reads a character from files that somebody dropped or chose: one character file, or the authors' five.
 * @param {File[]} files
 * @returns {Promise<Character>}
 * @throws {Error} one readable line
 */
export async function openCharacter(files) {
  const single = files.find((file) => file.name.endsWith(SUFFIX));
  if (single) return readCharacterFile(await bytesOf(single));
  const found = PUBLISHED.map((name) => files.find((file) => file.name === name));
  const missing = PUBLISHED.filter((_, i) => !found[i]);
  if (missing.length) {
    const came = files.map((file) => file.name).join(', ') || 'nothing';
    throw new Error(`${came}: expected a character file (NAME${SUFFIX}), or all of ${PUBLISHED.join(', ')}`);
  }
  return readPublished(await Promise.all(found.map((file) => bytesOf(/** @type {File} */ (file)))), 'character');
}

/** @param {URL} url */
async function bytesAt(url) {
  let response;
  try {
    response = await fetch(url);
  } catch {
    throw new Error(`${url.pathname} cannot be reached: is the server still running?`);
  }
  if (!response.ok) throw new Error(`${url.pathname} cannot be fetched (${response.status} ${response.statusText})`);
  if (Number(response.headers.get('content-length')) > MOST_BYTES) throw new Error(`${url.pathname} is too large`);
  return new Uint8Array(await response.arrayBuffer());
}

/** @param {File} file */
async function bytesOf(file) {
  if (file.size > MOST_BYTES) throw new Error(`${file.name} has ${Math.round(file.size / 1e6)} MB; expected a few`);
  return new Uint8Array(await file.arrayBuffer());
}

/**
 * @param {Uint8Array} bytes
 * @param {string} what
 * @returns {any}
 */
function parseJson(bytes, what) {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    throw new Error(`${what} is damaged, or not JSON`);
  }
}

/**
 * The numbers of a float32 tensor, wherever they lie.
 * @param {Uint8Array} bytes
 * @param {number} start
 * @param {number} count
 */
function floatsAt(bytes, start, count) {
  const values = new Float32Array(bytes.slice(start, start + 4 * count).buffer);
  if (!values.every(Number.isFinite)) throw new Error('the character has weights that are not finite');
  return values;
}

/**
 * @param {unknown} shape
 * @returns {number} how many values a tensor of that shape has
 */
function countOf(shape) {
  if (!Array.isArray(shape) || shape.length > 4 || !shape.every((side) => Number.isInteger(side) && side > 0)) {
    throw new Error(`the character has a tensor of shape ${JSON.stringify(shape)}`);
  }
  return shape.reduce((product, side) => product * side, 1);
}

/**
 * Reads a character file (thadistill/export/character_file.py).
 * @param {Uint8Array} bytes
 * @returns {Promise<Character>}
 * @throws {Error} one readable line
 */
export async function readCharacterFile(bytes) {
  if (bytes.length < 8) throw new Error('the character file is cut short');
  const length = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  if (length > MOST_HEADER || 8 + length > bytes.length) {
    throw new Error('the character file is cut short, or not a character file');
  }
  const header = parseJson(bytes.subarray(8, 8 + length), 'the character file');
  const about = header?.__metadata__ ?? {};
  if (about.format !== FORMAT) throw new Error('this is not a character file: export one with format=web');
  if (about.version !== VERSION) throw new Error(`the character file is of version ${about.version}; expected ${VERSION}`);
  const architecture = parseJson(new TextEncoder().encode(String(about.architecture)), "the character's architecture");
  /** @type {Record<string, Tensors>} */
  const networks = { face_morpher: Object.create(null), body_rotator: Object.create(null) }; // names come from the file
  /** @type {Record<string, Uint8Array>} */
  const raw = Object.create(null);
  for (const [name, entry] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    const [start, stop] = entry?.data_offsets ?? [];
    const count = countOf(entry?.shape);
    const size = count * (entry.dtype === 'F32' ? 4 : 1);
    if (!Number.isInteger(start) || start < 0 || stop - start !== size || 8 + length + stop > bytes.length) {
      throw new Error('the character file is cut short, or damaged');
    }
    const [part, ...rest] = name.split('.');
    if (entry.dtype === 'F32' && Object.hasOwn(networks, part)) {
      networks[part][rest.join('.')] = { shape: entry.shape, data: floatsAt(bytes, 8 + length + start, count) };
    } else if (entry.dtype === 'U8') raw[name] = bytes.subarray(8 + length + start, 8 + length + stop);
  }
  if (!raw.picture || !raw.visible) throw new Error('the character file lacks its picture');
  const sizes = architecture?.body_rotator?.sizes;
  if (!Array.isArray(sizes) || countOf(sizes) > 2 ** 32) throw new Error("the character's levels are not named");
  const side = sizes[sizes.length - 1];
  if (raw.visible.length * 8 !== side * side) throw new Error(`the character's frame is not ${side}x${side}`);
  const visible = Uint8Array.from({ length: side * side }, (_, i) => (raw.visible[i >> 3] >> (7 - (i & 7))) & 1);
  return build(String(about.name ?? 'character'), networks.face_morpher, networks.body_rotator, raw.picture, {
    sizes,
    visible,
    faceOmega: positive(architecture?.face_morpher?.omega),
    bodyOmega: positive(architecture?.body_rotator?.omega),
  });
}

/** @param {unknown} value */
function positive(value) {
  if (typeof value === 'number' && value > 0 && value < 1e6) return value;
  throw new Error(`the character's omega is ${value}; expected a number above 0`);
}

/**
 * Reads one of the authors' web characters (TF.js layers models).
 * @param {Uint8Array[]} files in the order of PUBLISHED
 * @param {string} name
 */
async function readPublished([faceJson, faceBin, bodyJson, bodyBin, picture], name) {
  const face = readLayersModel(parseJson(faceJson, PUBLISHED[0]), faceBin, PUBLISHED[0]);
  const body = readLayersModel(parseJson(bodyJson, PUBLISHED[2]), bodyBin, PUBLISHED[2]);
  const visible = new Uint8Array(IMAGE_SIZE * IMAGE_SIZE).fill(1); // nothing says which pixels are never painted
  return build(name, face, body, picture, { sizes: SIZES, visible, faceOmega: OMEGA, bodyOmega: OMEGA });
}

/**
 * @param {any} model
 * @param {Uint8Array} bytes
 * @param {string} what
 * @returns {Tensors} with kernels as PyTorch has them, [out, in, 1, 1]
 */
function readLayersModel(model, bytes, what) {
  const entries = model?.weightsManifest?.flatMap?.((/** @type {any} */ group) => group?.weights ?? []);
  if (model?.format !== 'layers-model' || !Array.isArray(entries)) throw new Error(`${what} is not a TF.js layers model`);
  /** @type {Tensors} */
  const tensors = {};
  let at = 0;
  for (const entry of entries) {
    if (entry?.dtype !== 'float32' || entry.quantization) throw new Error(`${what} holds quantised weights`);
    const count = countOf(entry.shape);
    if (at + 4 * count > bytes.length) throw new Error(`the weights of ${what} are cut short`);
    const data = floatsAt(bytes, at, count);
    at += 4 * count;
    const [layer, kind] = String(entry.name).split('/');
    if (kind === 'kernel') {
      const [inputs, outputs] = entry.shape.slice(-2);
      const turned = new Float32Array(count);
      for (let i = 0; i < inputs; i++) for (let o = 0; o < outputs; o++) turned[o * inputs + i] = data[i * outputs + o];
      tensors[`${layer}.weight`] = { shape: [outputs, inputs, 1, 1], data: turned };
    } else tensors[`${layer}.bias`] = { shape: entry.shape, data };
  }
  if (at !== bytes.length) throw new Error(`the weights of ${what} have ${bytes.length - at} bytes too many`);
  return tensors;
}

/**
 * @param {string} name
 * @param {Tensors} face
 * @param {Tensors} body
 * @param {Uint8Array} picture a PNG file
 * @param {{sizes: number[], visible: Uint8Array, faceOmega: number, bodyOmega: number}} about
 * @returns {Promise<Character>}
 */
async function build(name, face, body, picture, about) {
  const { width, height, data } = await readPng(picture);
  if (width !== IMAGE_SIZE || height !== IMAGE_SIZE) {
    throw new Error(`the character's picture is ${width}x${height}; expected ${IMAGE_SIZE}x${IMAGE_SIZE}`);
  }
  return {
    name,
    image: toNetworkSpace(data),
    picture: data,
    visible: about.visible,
    size: about.sizes[about.sizes.length - 1],
    face: foldFace(face, about.faceOmega),
    levels: foldBody(body, about.bodyOmega, about.sizes),
    address: null,
  };
}

const LINEAR = Float32Array.from({ length: 256 }, (_, i) => {
  const x = i / 255;
  return x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4;
});

/**
 * Straight 8-bit sRGB RGBA to linear premultiplied values in [-1, 1].
 * @param {Uint8Array} rgba
 */
export function toNetworkSpace(rgba) {
  const image = new Float32Array(rgba.length);
  for (let i = 0; i < rgba.length; i += 4) {
    const alpha = rgba[i + 3] / 255;
    for (let c = 0; c < 3; c++) image[i + c] = LINEAR[rgba[i + c]] * alpha * 2 - 1;
    image[i + 3] = alpha * 2 - 1;
  }
  return image;
}
