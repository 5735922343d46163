// WebM: gives a recording its length. MediaRecorder writes files as if live, without one, and players then cannot seek.

/** Identifiers of EBML elements. */
const SEGMENT = 0x18538067;
const INFO = 0x1549a966;
const DURATION = 0x4489;
const HEAD = 4096; // the information comes first

/**
 * A number of EBML: its first byte's leading zeros say how many bytes it has.
 * @param {Uint8Array} bytes
 * @param {number} at
 * @param {boolean} whole whether the marker bit is part of it, as in identifiers
 */
function readNumber(bytes, at, whole) {
  const length = Math.clz32(bytes[at]) - 23;
  if (!(length >= 1 && length <= 8) || at + length > bytes.length) return null;
  let value = whole ? bytes[at] : bytes[at] & (0xff >> length);
  for (let i = 1; i < length; i++) value = value * 256 + bytes[at + i];
  return { value, length };
}

/**
 * The same recording with its duration, or as it came where it has one or is not laid out as expected.
 * @param {Blob} blob
 * @param {number} milliseconds
 * @returns {Promise<Blob>}
 */
export async function withDuration(blob, milliseconds) {
  const bytes = new Uint8Array(await blob.slice(0, HEAD).arrayBuffer());
  for (let at = 0; at < bytes.length; ) {
    const id = readNumber(bytes, at, true);
    const size = id && readNumber(bytes, at + id.length, false);
    if (!id || !size) break;
    const body = at + id.length + size.length;
    if (id.value === SEGMENT) at = body; // goes on inside
    else if (id.value === INFO) {
      const info = bytes.subarray(body, body + size.value);
      if (body + size.value > bytes.length || has(info, DURATION)) break;
      const duration = new Uint8Array([DURATION >> 8, DURATION & 0xff, 0x88, ...new Uint8Array(8)]);
      new DataView(duration.buffer).setFloat64(3, milliseconds); // in the file's unit, which is a millisecond
      const length = new Uint8Array(8);
      new DataView(length.buffer).setBigUint64(0, BigInt(size.value + duration.length) | (1n << 56n));
      const parts = [bytes.slice(0, at + id.length), length, info.slice(), duration, blob.slice(body + size.value)];
      return new Blob(parts, { type: blob.type });
    } else at = body + size.value;
  }
  return blob;
}

/**
 * @param {Uint8Array} elements
 * @param {number} wanted
 */
function has(elements, wanted) {
  for (let at = 0; at < elements.length; ) {
    const id = readNumber(elements, at, true);
    const size = id && readNumber(elements, at + id.length, false);
    if (!id || !size) return false;
    if (id.value === wanted) return true;
    at += id.length + size.length + size.value;
  }
  return false;
}
