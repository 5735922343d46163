// Resources: the player's own files, fetched from this one's folder, or taken from the page itself where it is one file.

/**
 * What `format=web single=true` puts into the page: file name -> base64 of its bytes.
 * @type {Record<string, string> | undefined}
 */
const inlined = /** @type {any} */ (globalThis).THADISTILL_FILES;

/** Whether the page carries its files in itself (and so may be open from disk, where nothing can be fetched). */
export const isSingleFile = inlined !== undefined;

/**
 * The address of one of the player's files.
 * @param {string} path relative to the player's folder, such as 'engines/kernels.wasm'
 * @param {string} type MIME type
 * @returns {string}
 */
export function addressOf(path, type) {
  if (!inlined) return new URL(path, import.meta.url).href;
  if (!(path in inlined)) throw new Error(`${path} is not part of this page`);
  const bytes = Uint8Array.from(atob(inlined[path]), (c) => c.charCodeAt(0));
  return URL.createObjectURL(new Blob([bytes], { type }));
}

/**
 * The bytes of one of the player's files.
 * @param {string} path
 * @returns {Promise<ArrayBuffer>}
 * @throws {Error} one readable line when it cannot be had
 */
export async function bytesOf(path) {
  if (inlined) {
    if (!(path in inlined)) throw new Error(`${path} is not part of this page`);
    return Uint8Array.from(atob(inlined[path]), (c) => c.charCodeAt(0)).buffer;
  }
  const response = await fetch(addressOf(path, ''));
  if (!response.ok) throw new Error(`${path} cannot be fetched (${response.status})`);
  return response.arrayBuffer();
}

/**
 * A classic worker from one of the player's files, which must not import anything.
 * @param {string} path
 * @returns {Worker}
 */
export const workerOf = (path) => new Worker(addressOf(path, 'text/javascript'));
