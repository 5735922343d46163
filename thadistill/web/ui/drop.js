// Drop: files dropped anywhere on the page: a character, or a picture for the background.

import { byId } from './dom.js';

const PICTURE = /^image\/(png|jpeg|webp|avif|gif|bmp|svg\+xml)$/;
const MOST_FILES = 64;

/**
 * @param {{character: (files: File[]) => void, picture: (file: File) => void}} take
 */
export function listenToDrops(take) {
  const curtain = byId('drop-here');
  let depth = 0; // entering a child comes before leaving its parent
  const hasFiles = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes('Files') ?? false;
  /** @param {number} to */
  const show = (to) => {
    depth = Math.max(0, to);
    curtain.hidden = depth === 0;
  };
  addEventListener('dragenter', (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    show(depth + 1);
  });
  addEventListener('dragleave', (event) => {
    if (hasFiles(event)) show(depth - 1);
  });
  addEventListener('dragover', (event) => {
    if (hasFiles(event)) event.preventDefault();
  });
  addEventListener('drop', async (event) => {
    if (!event.dataTransfer || !hasFiles(event)) return;
    event.preventDefault(); // a browser would leave the page for the file
    show(0);
    const files = await filesOf(event.dataTransfer);
    if (files.length === 1 && PICTURE.test(files[0].type)) take.picture(files[0]);
    else if (files.length) take.character(files);
  });
}

/**
 * The files, and those of dropped folders, which is what the authors' characters are.
 * @param {DataTransfer} data
 * @returns {Promise<File[]>}
 */
async function filesOf(data) {
  const files = [...data.files];
  const folders = [...data.items].map((item) => item.webkitGetAsEntry?.()).filter((entry) => entry?.isDirectory);
  if (!folders.length) return files;
  const inside = await Promise.all(
    folders.map((folder) => list(/** @type {FileSystemDirectoryEntry} */ (folder)).catch(() => [])),
  );
  return inside.flat();
}

/**
 * @param {FileSystemDirectoryEntry} folder
 * @returns {Promise<File[]>}
 */
async function list(folder) {
  const reader = folder.createReader();
  /** @type {FileSystemEntry[]} */
  const entries = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
  const files = entries.filter((entry) => entry.isFile).slice(0, MOST_FILES);
  return Promise.all(
    files.map((file) => {
      return new Promise((resolve, reject) => /** @type {FileSystemFileEntry} */ (file).file(resolve, reject));
    }),
  );
}
