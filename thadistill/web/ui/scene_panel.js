// Scene panel: background, view, which part pictures and videos show, and the address for OBS.

import { LEAST_ZOOM, MOST_ZOOM, colourOf } from '../state.js';
import { byId, make, makeChoice, makeSwitch } from './dom.js';
import { languageChanged, t } from './texts.js';

/**
 * @typedef {import('../recorder.js').Extent} Extent
 * @typedef {import('../stage.js').Stage} Stage
 * @typedef {import('../state.js').Background} Background
 * @typedef {import('../state.js').Memory} Memory
 * @typedef {import('./notices.js').Notices} Notices
 */

const SWATCHES = ['#00b140', '#ffffff', '#1b1c22', '#8fb8de', '#e8c7d0', '#f3e3c3'];
const COLOUR = SWATCHES[0];
const MOST_PICTURE = 64e6; // bytes

export class ScenePanel {
  #kinds;
  #shown = 0; // the zoom that the slider has
  #zoom = /** @type {HTMLInputElement} */ (byId('zoom'));
  #colour = /** @type {HTMLInputElement} */ (byId('colour'));
  /** @type {ImageBitmap | null} */
  #picture = null;

  /**
   * @param {Stage} stage
   * @param {Memory} memory
   * @param {Notices} notices
   * @param {{cleanAddress: () => string, copy: (text: string) => Promise<boolean>}} page
   */
  constructor(stage, memory, notices, page) {
    this.stage = stage;
    this.memory = memory;
    this.notices = notices;
    this.#colour.value = colourOf(memory.get('colour', COLOUR)) ?? COLOUR;
    const kinds = /** @type {const} */ ([
      { value: 'transparent', key: 'backgroundTransparent' },
      { value: 'colour', key: 'backgroundColour' },
      { value: 'picture', key: 'backgroundPicture' },
    ]);
    this.#kinds = makeChoice('background', 'background', [...kinds], 'transparent', (kind) => this.#choose(kind));
    byId('background').prepend(this.#kinds.field);
    // the picture's button opens the file chooser again, although it is chosen already
    const again = this.#kinds.field.querySelector('input[value=picture]');
    again?.addEventListener('click', () => this.#picture && byId('picture-file').click());
    this.#fillSwatches();
    this.#colour.addEventListener('input', () => this.setColour(this.#colour.value));
    byId('picture-file').addEventListener('change', (event) => {
      const input = /** @type {HTMLInputElement} */ (event.target);
      const file = input.files?.[0];
      input.value = '';
      if (file) this.openPicture(file);
      else this.#showKind();
    });
    byId('picture-file').addEventListener('cancel', () => this.#showKind());
    this.#fillView();
    const extents = /** @type {const} */ ([
      { value: 'frame', key: 'extent_frame' },
      { value: 'screen', key: 'extent_screen' },
    ]);
    const saved = makeChoice('extent', 'save', [...extents], this.extent, (value) => memory.set('extent', value));
    saved.field.classList.add('stacked');
    const poses = makeSwitch('recordPoses', this.keepsPoses, (on) => memory.set('recordPoses', on));
    poses.label.title = t('recordPosesHint');
    languageChanged.addEventListener('change', () => (poses.label.title = t('recordPosesHint')));
    byId('save-extent').append(saved.field, poses.label);
    byId('copy-obs').addEventListener('click', async () => {
      if (await page.copy(page.cleanAddress())) notices.say(t('obsCopied'));
    });
    byId('open-obs').addEventListener('click', () => window.open(page.cleanAddress(), '_blank', 'noopener'));
    if (String(memory.get('background', 'transparent')) === 'colour') this.setColour(this.#colour.value);
  }

  /** What pictures and videos show. @returns {Extent} */
  get extent() {
    return String(this.memory.get('extent', 'frame')) === 'screen' ? 'screen' : 'frame';
  }

  /** Whether a recording keeps the poses, too. */
  get keepsPoses() {
    return this.memory.get('recordPoses', false);
  }

  #fillSwatches() {
    for (const colour of SWATCHES) {
      const swatch = make('button', { type: 'button', class: 'swatch', click: () => this.setColour(colour) });
      swatch.style.setProperty('--swatch', colour);
      const name = () => swatch.setAttribute('aria-label', `${t('colour')} ${colour}`);
      name();
      languageChanged.addEventListener('change', name);
      byId('swatches').append(swatch);
    }
  }

  #fillView() {
    // the slider is in doublings, so that each step looks alike
    Object.assign(this.#zoom, { min: Math.log2(LEAST_ZOOM), max: Math.log2(MOST_ZOOM), step: 0.02 });
    this.#zoom.addEventListener('input', () => {
      this.stage.zoom(2 ** Number(this.#zoom.value) / this.stage.view.zoom);
    });
    byId('view-reset').addEventListener('click', () => this.stage.reset());
    this.showView();
  }

  /** Brings the zoom slider to what the stage has. */
  showView() {
    if (this.#shown === this.stage.view.zoom) return; // it is called for every frame
    this.#shown = this.stage.view.zoom;
    const value = Math.log2(this.#shown);
    const { min, max } = this.#zoom;
    const share = (/** @type {number} */ v) => `${(100 * (v - Number(min))) / (Number(max) - Number(min))}%`;
    this.#zoom.value = String(value);
    this.#zoom.style.setProperty('--from', share(Math.min(0, value)));
    this.#zoom.style.setProperty('--to', share(Math.max(0, value)));
    byId('zoom-value').textContent = `${Math.round(100 * this.#shown)} %`;
  }

  /** @param {string} kind */
  #choose(kind) {
    if (kind === 'picture' && !this.#picture) byId('picture-file').click();
    else if (kind === 'picture') this.#use({ kind: 'picture', picture: /** @type {ImageBitmap} */ (this.#picture) });
    else if (kind === 'colour') this.setColour(this.#colour.value);
    else this.#use({ kind: 'transparent' });
  }

  /** @param {string} colour '#rrggbb' */
  setColour(colour) {
    this.#colour.value = colour;
    this.memory.set('colour', colour);
    this.#use({ kind: 'colour', colour });
  }

  /**
   * Takes a picture for the background.
   * @param {Blob} file
   */
  async openPicture(file) {
    try {
      if (file.size > MOST_PICTURE) throw new Error(`${Math.round(file.size / 1e6)} MB`);
      this.#picture = await createImageBitmap(file);
      this.#use({ kind: 'picture', picture: this.#picture });
    } catch {
      this.notices.complain('brokenPicture', file instanceof File ? file.name : '');
      this.#showKind();
    }
  }

  /** @param {Background} background */
  #use(background) {
    this.stage.background = background;
    this.memory.set('background', background.kind);
    this.#showKind();
    this.stage.draw();
  }

  #showKind() {
    const { kind } = this.stage.background;
    this.#kinds.set(kind);
    byId('colours').hidden = kind !== 'colour';
  }
}
