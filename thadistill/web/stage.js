// Stage: the canvas that people see: the background, and on it the newest frame at the zoom and place they chose.

import { IMAGE_SIZE } from './character.js';
import { limited } from './state.js';

/**
 * @typedef {import('./character.js').Character} Character
 * @typedef {import('./state.js').Background} Background
 * @typedef {import('./state.js').View} View
 * @typedef {CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D} Context
 * @typedef {{left: number, top: number, right: number, bottom: number}} Box shares of the frame's side
 */

/** Room for what moves out of the picture's own outline, a share of the frame's side. */
const MARGIN = 0.05;
/** Where a character's face is in the frame (the face crop's centre), for looking at the pointer. */
const FACE = { x: 0.5, y: 0.25 };
const WHOLE = Object.freeze({ left: 0, top: 0, right: 1, bottom: 1 });
const FITTED = Object.freeze({ zoom: 1, x: 0, y: 0 });

export class Stage {
  /** @type {Background} */
  background = { kind: 'transparent' };
  /** @type {View} */
  view = { ...FITTED };
  /** Called after each drawing. */
  ondraw = () => {};

  /** @type {Box} what of the frame the character fills */
  #box = WHOLE;
  #frame = new OffscreenCanvas(IMAGE_SIZE, IMAGE_SIZE);
  #frameContext = contextOf(this.#frame);
  #context;

  /** @param {HTMLCanvasElement} canvas sized by its style */
  constructor(canvas) {
    this.canvas = canvas;
    this.#context = contextOf(canvas);
    const observer = new ResizeObserver(([entry]) => this.#resize(entry));
    try {
      observer.observe(canvas, { box: 'device-pixel-content-box' }); // exact at fractional zooms
    } catch {
      observer.observe(canvas);
    }
  }

  /** @param {ResizeObserverEntry} entry */
  #resize(entry) {
    const exact = entry.devicePixelContentBoxSize?.[0];
    const [inline, block] = [entry.contentRect.width, entry.contentRect.height].map((side) => side * devicePixelRatio);
    this.canvas.width = Math.max(1, Math.round(exact?.inlineSize ?? inline));
    this.canvas.height = Math.max(1, Math.round(exact?.blockSize ?? block));
    this.draw();
  }

  /**
   * Fits another character, and shows its picture until its first frame.
   * @param {Character} character
   */
  fit({ picture }) {
    this.#box = outline(picture);
    this.#frame.width = this.#frame.height = IMAGE_SIZE;
    const image = new ImageData(new Uint8ClampedArray(picture), IMAGE_SIZE, IMAGE_SIZE);
    this.#frameContext.putImageData(image, 0, 0);
    this.draw();
  }

  /**
   * Takes a frame; the source may be gone afterwards.
   * @param {CanvasImageSource} source
   */
  take(source) {
    const { width, height } = /** @type {{width: number, height: number}} */ (source);
    if (this.#frame.width !== width || this.#frame.height !== height) Object.assign(this.#frame, { width, height });
    this.#frameContext.globalCompositeOperation = 'copy';
    this.#frameContext.drawImage(source, 0, 0);
    this.draw();
  }

  draw() {
    this.compose(this.#context, this.canvas.width, this.canvas.height);
    this.ondraw();
  }

  /**
   * Draws what the stage shows, or the whole frame over the whole canvas.
   * @param {Context} context
   * @param {number} width
   * @param {number} height
   * @param {boolean} [whole] the frame as it is, without zoom and place
   */
  compose(context, width, height, whole = false) {
    context.clearRect(0, 0, width, height);
    const { background } = this;
    if (background.kind === 'colour') {
      context.fillStyle = background.colour;
      context.fillRect(0, 0, width, height);
    } else if (background.kind === 'picture') cover(context, background.picture, width, height);
    const { left, top, side } = whole ? { left: 0, top: 0, side: width } : this.#place(width, height);
    context.imageSmoothingQuality = 'high';
    context.drawImage(this.#frame, left, top, side, side);
  }

  /**
   * Where the frame lies on a canvas. The character stands on the lower edge where its picture reaches that far down.
   * @param {number} width
   * @param {number} height
   */
  #place(width, height) {
    const { left, top, right, bottom } = this.#box;
    const fitted = Math.min(width / (right - left), height / (bottom - top));
    const side = fitted * this.view.zoom;
    const middle = width * (0.5 + this.view.x);
    const foot = bottom === 1 ? height : (height + (bottom - top) * fitted) / 2;
    // zooming keeps the middle of the stage where it is
    const y = height / 2 + (foot - bottom * fitted - height / 2) * this.view.zoom + height * this.view.y;
    return { left: middle - ((left + right) / 2) * side, top: y, side };
  }

  /**
   * Zooms about a point of the page.
   * @param {number} factor
   * @param {{clientX: number, clientY: number}} [about] without: the middle of the stage
   */
  zoom(factor, about) {
    const zoom = limited(this.view.zoom * factor);
    const actual = zoom / this.view.zoom;
    const bounds = this.canvas.getBoundingClientRect();
    const x = about ? (about.clientX - bounds.left) / bounds.width - 0.5 : 0;
    const y = about ? (about.clientY - bounds.top) / bounds.height - 0.5 : 0;
    this.view = { zoom, x: x + (this.view.x - x) * actual, y: y + (this.view.y - y) * actual };
    this.draw();
  }

  /**
   * Moves the character.
   * @param {number} dx CSS pixels
   * @param {number} dy
   */
  move(dx, dy) {
    const { width, height } = this.canvas.getBoundingClientRect();
    const { zoom, x, y } = this.view;
    const most = 0.5 + zoom; // so that it can be found again
    const within = (/** @type {number} */ value) => Math.min(most, Math.max(-most, value));
    this.view = { zoom, x: within(x + dx / width), y: within(y + dy / height) };
    this.draw();
  }

  /** Back to the fitted view. */
  reset() {
    this.view = { ...FITTED };
    this.draw();
  }

  /**
   * Where a point of the page lies from the character's face: 1 is half a window's smaller side to the right or above.
   * @param {number} clientX
   * @param {number} clientY
   */
  fromFace(clientX, clientY) {
    const bounds = this.canvas.getBoundingClientRect();
    const { left, top, side } = this.#place(bounds.width, bounds.height);
    const reach = Math.min(innerWidth, innerHeight) / 2;
    /** @param {number} value */
    const within = (value) => Math.max(-1, Math.min(1, value / reach));
    return {
      x: within(clientX - bounds.left - left - FACE.x * side),
      y: -within(clientY - bounds.top - top - FACE.y * side),
    };
  }
}

/**
 * @param {HTMLCanvasElement | OffscreenCanvas} canvas
 * @returns {Context}
 */
function contextOf(canvas) {
  const context = canvas.getContext('2d');
  if (!context) throw new Error('this browser has no canvas to draw on');
  return /** @type {Context} */ (context);
}

/**
 * Draws a picture so that it covers all, as CSS's background-size does.
 * @param {Context} context
 * @param {ImageBitmap} picture
 * @param {number} width
 * @param {number} height
 */
function cover(context, picture, width, height) {
  const scale = Math.max(width / picture.width, height / picture.height);
  const [w, h] = [picture.width * scale, picture.height * scale];
  context.imageSmoothingQuality = 'high';
  context.drawImage(picture, (width - w) / 2, (height - h) / 2, w, h);
}

/**
 * The part of the frame that a picture's figure fills, with a margin.
 * @param {Uint8Array} rgba
 * @returns {Box}
 */
function outline(rgba) {
  let [left, top, right, bottom] = [IMAGE_SIZE, IMAGE_SIZE, 0, 0];
  for (let y = 0, at = 3; y < IMAGE_SIZE; y++) {
    for (let x = 0; x < IMAGE_SIZE; x++, at += 4) {
      if (rgba[at] < 16) continue;
      if (x < left) left = x;
      if (x >= right) right = x + 1;
      if (y < top) top = y;
      bottom = y + 1;
    }
  }
  if (right <= left) return WHOLE;
  /** @param {number} value */
  const share = (value) => Math.min(1, Math.max(0, value));
  return {
    left: share(left / IMAGE_SIZE - MARGIN),
    top: share(top / IMAGE_SIZE - MARGIN),
    right: share(right / IMAGE_SIZE + MARGIN),
    bottom: share(bottom / IMAGE_SIZE + MARGIN),
  };
}
