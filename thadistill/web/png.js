// PNG: a character's picture with its colours as they are stored. A canvas would premultiply them to 8 bits and lose them.

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
const CHANNELS = /** @type {Record<number, number>} */ ({ 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 });
const MOST_PIXELS = 1 << 24;

/**
 * Reads an 8-bit PNG that is not interlaced, as every character file has it.
 * @param {Uint8Array} file
 * @returns {Promise<{width: number, height: number, data: Uint8Array}>} straight RGBA
 * @throws {Error} one readable line for anything else
 */
export async function readPng(file) {
  if (!SIGNATURE.every((byte, i) => file[i] === byte)) throw new Error('the picture is not a PNG');
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  /** @type {{width: number, height: number, kind: number} | null} */
  let header = null;
  /** @type {Uint8Array | null} */
  let palette = null;
  /** @type {Uint8Array | null} */
  let transparency = null;
  const parts = [];
  for (let at = 8; at + 12 <= file.length; ) {
    const length = view.getUint32(at);
    const type = String.fromCharCode(...file.subarray(at + 4, at + 8));
    if (at + 12 + length > file.length) throw new Error('the picture is cut short');
    const body = file.subarray(at + 8, at + 8 + length);
    if (type === 'IHDR' && length === 13) {
      header = { width: view.getUint32(at + 8), height: view.getUint32(at + 12), kind: body[9] };
      if (body[8] !== 8 || body[12] !== 0 || !(body[9] in CHANNELS)) {
        throw new Error('the picture is not an 8-bit PNG without interlacing');
      }
    } else if (type === 'PLTE') palette = body;
    else if (type === 'tRNS') transparency = body;
    else if (type === 'IDAT') parts.push(body);
    else if (type === 'IEND') break;
    at += 12 + length;
  }
  if (!header || !parts.length) throw new Error('the picture is cut short');
  const { width, height, kind } = header;
  if (!width || !height || width * height > MOST_PIXELS) throw new Error(`the picture is ${width}x${height}`);
  const channels = CHANNELS[kind];
  const stride = width * channels;
  const raw = await inflate(parts, (stride + 1) * height);
  unfilter(raw, height, stride, channels);
  const data = new Uint8Array(width * height * 4);
  for (let y = 0, to = 0; y < height; y++) {
    for (let x = 0, from = y * (stride + 1) + 1; x < width; x++, from += channels, to += 4) {
      if (kind === 3) {
        const index = raw[from];
        for (let c = 0; c < 3; c++) data[to + c] = palette?.[3 * index + c] ?? 0;
        data[to + 3] = transparency?.[index] ?? 255;
      } else {
        for (let c = 0; c < 3; c++) data[to + c] = raw[from + (channels > 2 ? c : 0)];
        data[to + 3] = channels % 2 === 0 ? raw[from + channels - 1] : 255;
      }
    }
  }
  return { width, height, data };
}

/**
 * @param {Uint8Array[]} parts
 * @param {number} size of the result
 */
async function inflate(parts, size) {
  const result = new Uint8Array(size);
  let at = 0;
  try {
    const stream = new Blob(/** @type {BlobPart[]} */ (parts)).stream().pipeThrough(new DecompressionStream('deflate'));
    const reader = stream.getReader();
    for (let step = await reader.read(); !step.done; step = await reader.read()) {
      if (at + step.value.length > size) throw new Error('too long');
      result.set(step.value, at);
      at += step.value.length;
    }
  } catch {
    throw new Error('the picture is damaged');
  }
  if (at !== size) throw new Error('the picture is cut short');
  return result;
}

/**
 * Undoes the rows' filters in place.
 * @param {Uint8Array} raw rows, each after the byte that names its filter
 * @param {number} height
 * @param {number} stride
 * @param {number} channels
 */
function unfilter(raw, height, stride, channels) {
  for (let y = 0; y < height; y++) {
    const row = y * (stride + 1) + 1;
    const filter = raw[row - 1];
    if (filter > 4) throw new Error('the picture is damaged');
    for (let i = 0; i < stride; i++) {
      const left = i >= channels ? raw[row + i - channels] : 0;
      const up = y ? raw[row + i - stride - 1] : 0;
      const corner = y && i >= channels ? raw[row + i - stride - 1 - channels] : 0;
      let guess = 0;
      if (filter === 1) guess = left;
      else if (filter === 2) guess = up;
      else if (filter === 3) guess = (left + up) >> 1;
      else if (filter === 4) {
        const p = left + up - corner;
        const [a, b, c] = [Math.abs(p - left), Math.abs(p - up), Math.abs(p - corner)];
        guess = a <= b && a <= c ? left : b <= c ? up : corner;
      }
      raw[row + i] += guess;
    }
  }
}
