// Plan: which pixels a worker computes, in what order, and where everything lies in its memory.

import { IMAGE_SIZE } from '../character.js';
import { shiftOf } from '../fold.js';
import { even, packStage, SINES } from './wasm_pack.js';
import { cutsOf, outsideOf, QUAD, quadsOf, quadsOfLevels, rectangleOf, scheduleOf } from './wasm_region.js';

/**
 * @typedef {import('../character.js').Character} Character
 * @typedef {import('./wasm_pack.js').PackedStage} PackedStage
 * @typedef {import('./wasm_pack.js').Sines} Sines
 *
 * @typedef {Object} Face
 * @property {number} stage address of its stage
 * @property {number} results address
 * @property {number} quads how many they are
 * @property {number} block groups to compute at a time
 * @property {number} image address of the character's image, into which they go
 * @property {number} side of the image
 * @property {number} top where in the image
 * @property {number} left
 *
 * @typedef {Object} Plan what a worker needs for its band
 * @property {number} pages of 64 KiB that its memory has
 * @property {number} posedPages what its memory grows by where network space is wanted
 * @property {number} base where `bytes` go
 * @property {Uint8Array} bytes the memory's first content
 * @property {Face} face
 * @property {number[]} faceShares group at which each worker's share of the face starts, and the end
 * @property {number[]} levels addresses of the levels' stages
 * @property {number} shifts address of what the pose gives each first layer: the face, then the levels
 * @property {[number, number]} scratch
 * @property {Int32Array} schedule triples: level, first group, groups; what a level reads comes before it
 * @property {number} frame address of struct Frame
 * @property {number} rgba
 * @property {{top: number, left: number, width: number, height: number}} rectangle that the band's pixels lie in
 * @property {Int32Array} outside pixels of the rectangle that are computed with their neighbours, though never visible
 */

/** Where the face's 128x128 pixels go in the character's image. */
const FACE = { top: 80, left: 192, side: 128 };
const GROUP = 8;
const OUTPUTS = 7;
/** Bytes of activations of a block, of one layer: two of these and a block of weights stay in the nearest cache. */
const BLOCK_BYTES = 16384;
const PAGE = 65536;
/** Below this lie the kernels' stack and constants; test_kernels.py holds them to it. */
const BASE = PAGE;
const MOST_PAGES = 4096;
const LARGEST_SIZE = 4096;
/** Of struct Stage and struct Frame. */
const STAGE_FIELDS = 21;
const FRAME_FIELDS = 9;

/** @param {number} count channels of a plane */
const fourfold = (count) => (count + 3) & ~3;

/** Where the face's quads lie: all of it. */
const FACE_QUADS = quadsOf(new Uint8Array(FACE.side ** 2).fill(1), FACE.side);

/** The bytes of a memory, handed out from the front. */
class Layout {
  /** @type {[number, ArrayBufferView][]} */
  #content = [];
  end = BASE;

  /** @param {number} bytes */
  reserve(bytes) {
    const address = this.end;
    this.end = (address + bytes + 31) & ~15; // 16 bytes to spare: a whole vector may be read at the end
    if (this.end > MOST_PAGES * PAGE) throw new Error('the character is too large for this engine');
    return address;
  }

  /** @param {ArrayBufferView} array */
  put(array) {
    const address = this.reserve(array.byteLength);
    this.#content.push([address, array]);
    return address;
  }

  /**
   * The content from BASE on.
   * @param {number} end
   */
  bytes(end) {
    const bytes = new Uint8Array(end - BASE);
    for (const [address, array] of this.#content) {
      bytes.set(new Uint8Array(array.buffer, array.byteOffset, array.byteLength), address - BASE);
    }
    return bytes;
  }
}

/** 65,536 linear values in [0, 1] as 8-bit sRGB; the curve's steepest part moves 0.05 of a level a step. */
const SRGB = Uint8Array.from({ length: 65536 }, (_, i) => {
  const x = i / 65535;
  return Math.round(255 * (x <= 0.003130804953560372 ? x * 12.92 : 1.055 * x ** (1 / 2.4) - 0.055));
});

/**
 * What each worker needs for its band.
 * @param {Character} character
 * @param {number} workers
 * @returns {Plan[]} as many as there are bands, `workers` at most
 * @throws {Error} when the kernels cannot draw this character, as one readable line
 */
export function planBands(character, workers) {
  const { levels } = character;
  for (const { size } of levels) {
    if (size < QUAD || size % 2 || size > LARGEST_SIZE) throw new Error(`the character has a level of ${size} pixels`);
  }
  if (levels.at(-1)?.out.outputs !== OUTPUTS || character.face.out.outputs !== 4) {
    throw new Error('the character lacks the layers that paint it');
  }
  const stages = levels.map((stage, i) => packStage(stage, i < levels.length - 1 ? 'level' : 'last level'));
  const face = packStage(character.face, 'face');
  const cuts = cutsOf(character, workers);
  return cuts.slice(1).map((_, band) => planBand(character, face, stages, cuts, band));
}

/**
 * What a pose gives each first layer, as a plan's `shifts` hold it.
 * @param {import('../fold.js').First[]} firsts of the face, then of the levels
 * @param {Float32Array} pose
 */
export function shiftsOf(firsts, pose) {
  const shifts = new Float32Array(firsts.reduce((sum, { outputs }) => sum + even(outputs), 0));
  let at = 0;
  for (const first of firsts) {
    shiftOf(first, pose, shifts.subarray(at, at + first.outputs));
    at += even(first.outputs);
  }
  return shifts;
}

/** @param {PackedStage} stage */
function bytesOfGroup({ channels, layers }) {
  const widest = Math.max(channels, ...layers.map(({ rows, kind }) => rows * (kind === SINES ? 1 : 2)));
  return 2 * GROUP * widest;
}

/** @param {PackedStage} stage */
const groupsAtATime = (stage) => Math.max(1, Math.floor(BLOCK_BYTES / bytesOfGroup(stage)));

/**
 * A packed stage's arrays and layers into a memory.
 * @param {Layout} layout
 * @param {PackedStage} stage
 */
function putStage(layout, stage) {
  const fields = stage.layers.flatMap((layer) => {
    const [weights, bias] = [layout.put(layer.weights), layout.put(layer.bias)];
    return [
      layer.kind, layer.inputs, layer.rows >> 2, layer.rows & 3, layer.shift, weights, bias,
      ...putSines(layout, layer.sines),
    ];
  });
  const view = new DataView(new ArrayBuffer(4 * fields.length));
  fill(view, fields);
  return {
    byX: layout.put(stage.byX),
    byY: layout.put(stage.byY),
    sines: putSines(layout, stage.sines, true),
    layers: layout.put(view),
  };
}

/**
 * @param {Layout} layout
 * @param {Sines} sines
 * @param {boolean} [always] the gains even where all are 1
 */
function putSines(layout, { gains, lambda, alpha, beta }, always = false) {
  const needed = always || gains.some((gain) => gain !== gains[0]);
  return [needed ? layout.put(gains) : 0, { float: lambda }, { float: alpha }, { float: beta }];
}

/**
 * Fills a struct of 32-bit fields: whole numbers and addresses, or floats where they are wrapped so.
 * @param {DataView} view
 * @param {(number | {float: number})[]} fields
 */
function fill(view, fields) {
  fields.forEach((field, i) => {
    if (typeof field === 'number') view.setInt32(4 * i, field, true);
    else view.setFloat32(4 * i, field.float, true);
  });
}

/**
 * @param {Character} character
 * @param {PackedStage} face
 * @param {PackedStage[]} stages
 * @param {number[]} cuts
 * @param {number} band
 * @returns {Plan}
 */
function planBand(character, face, stages, cuts, band) {
  const { size, visible } = character;
  const last = stages.length - 1;
  const quads = quadsOfLevels(visible, stages.map((stage) => stage.size), cuts[band], cuts[band + 1]);
  const blocks = stages.map(groupsAtATime);
  const rectangle = rectangleOf(quads[last]);
  const area = rectangle.width * rectangle.height;

  // what the memory holds from the beginning
  const layout = new Layout();
  const all = [face, ...stages];
  const views = all.map(() => new DataView(new ArrayBuffer(4 * STAGE_FIELDS)));
  const structs = views.map((view) => layout.put(view));
  const frameView = new DataView(new ArrayBuffer(4 * FRAME_FIELDS));
  const frame = layout.put(frameView);
  const parts = all.map((stage) => putStage(layout, stage));
  const quadsAt = [FACE_QUADS, ...quads].map((list) => layout.put(list));
  const image = layout.put(character.image);
  const srgb = layout.put(SRGB);
  const used = layout.end;

  // what is written at each frame
  const channels = all.map((stage) => stage.channels);
  const shifts = layout.reserve(4 * channels.reduce((a, b) => a + b));
  const shiftsAt = channels.map((_, i) => shifts + 4 * channels.slice(0, i).reduce((a, b) => a + b, 0));
  const faceResults = layout.reserve(4 * QUAD * 4 * FACE_QUADS.length);
  const results = layout.reserve(4 * QUAD * OUTPUTS * quads[last].length);
  const rgba = layout.reserve(4 * area);
  // with four rows to spare, as planes take channels four at a time
  const widest = 128 + Math.max(...all.map((stage) => bytesOfGroup(stage) * groupsAtATime(stage)));
  const scratch = /** @type {[number, number]} */ ([layout.reserve(widest), layout.reserve(widest)]);
  const planes = stages.slice(0, last).map((stage, i) => {
    // a row and a column more on either side
    const [top, bottom] = [(quads[i][0] >> 16) - 1, (quads[i][quads[i].length - 1] >> 16) + 1];
    return { top, address: layout.reserve(4 * (bottom - top + 1) * (stage.size + 2) * fourfold(channels[i + 2])) };
  });

  all.forEach((stage, i) => {
    const [below, own] = [planes[i - 2], i ? planes[i - 1] : undefined];
    const above = own ? i + 1 : null;
    fill(views[i], [
      stage.size, stage.channels, parts[i].byX, parts[i].byY, shiftsAt[i], ...parts[i].sines,
      stage.layers.length, parts[i].layers, quadsAt[i],
      below?.address ?? 0, below?.top ?? 0,
      ...(above ? [channels[above], parts[above].byX, parts[above].byY, shiftsAt[above]] : [i ? OUTPUTS : 4, 0, 0, 0]),
      own?.address ?? 0, own?.top ?? 0,
      i ? results : faceResults,
    ]);
  });
  fill(frameView, [image, IMAGE_SIZE, srgb, rectangle.top, rectangle.left, rectangle.width, rgba, 0, area]);
  const [faceStruct, ...levels] = structs;
  const faceGroups = FACE_QUADS.length / 2;
  return {
    pages: Math.ceil(layout.end / PAGE),
    posedPages: Math.ceil((4 * 4 * area) / PAGE) + 1,
    base: BASE,
    bytes: layout.bytes(used),
    face: {
      stage: faceStruct,
      results: faceResults,
      quads: FACE_QUADS.length,
      block: groupsAtATime(face),
      image,
      side: IMAGE_SIZE,
      top: FACE.top,
      left: FACE.left,
    },
    faceShares: cuts.map((_, i) => Math.round((faceGroups * i) / (cuts.length - 1))),
    levels,
    shifts,
    scratch,
    schedule: scheduleOf(quads, blocks),
    frame,
    rgba,
    rectangle,
    outside: outsideOf(quads[last], visible, size, rectangle),
  };
}
