// Pose panel: expressions, what moves by itself, the sliders, and the pose as text.

import { randomPose } from '../motion.js';
import { rest, toNames } from '../pose.js';
import { MOTIONS, parsePose } from '../state.js';
import { byId, make, makeSwitch, messageOf } from './dom.js';
import { icon } from './icons.js';
import { PRESETS, presetPose } from './presets.js';
import { makeSliders } from './sliders.js';
import { asSentence, t } from './texts.js';

/**
 * @typedef {import('../poser.js').Poser} Poser
 * @typedef {import('../state.js').Memory} Memory
 * @typedef {import('./notices.js').Notices} Notices
 * @typedef {import('./presets.js').Preset} Preset
 */

const IDLE = /** @type {const} */ (['breathing', 'blinking', 'sway']);

export class PosePanel {
  /** @type {Preset | null} the expression that the hand's values are */
  #preset = 'neutral';
  #setting = false;
  /** @type {Map<Preset, HTMLButtonElement>} */
  #chips = new Map();
  /** @type {Map<import('../motion.js').Kind, HTMLInputElement>} */
  #switches = new Map();

  /**
   * @param {Poser} poser
   * @param {Memory} memory
   * @param {Notices} notices
   */
  constructor(poser, memory, notices) {
    this.poser = poser;
    this.memory = memory;
    this.notices = notices;
    this.#fillPresets();
    this.#fillMotion();
    byId('sliders').append(...makeSliders(poser, memory));
    byId('copy-pose').addEventListener('click', () => this.copy());
    byId('paste-pose').addEventListener('click', () => this.paste());
    byId('reset-all').addEventListener('click', () => this.preset('neutral'));
    byId('paste-form').addEventListener('submit', (event) => this.#pasted(event));
    poser.addEventListener('pose', () => {
      if (!this.#setting) this.#mark(poser.base.some((value) => value) ? null : 'neutral');
    });
    poser.addEventListener('source', () => (byId('camera-moves').hidden = poser.source !== 'camera'));
  }

  #fillPresets() {
    const list = byId('presets');
    PRESETS.forEach((name, i) => {
      const attributes = { type: 'button', class: 'chip', 'data-preset': name, 'aria-keyshortcuts': String(i + 1) };
      const chip = make('button', { ...attributes, click: () => this.preset(name) }, make('span', { text: name }));
      this.#chips.set(name, chip);
      list.append(chip);
    });
    const random = make('button', { type: 'button', class: 'chip', id: 'random', click: () => this.random() });
    random.append(icon('dice'), make('span', { text: 'random' }));
    list.append(random);
    this.#mark('neutral');
  }

  #fillMotion() {
    for (const kind of MOTIONS) {
      const { label, input } = makeSwitch(kind, this.poser.moves(kind), (on) => this.move(kind, on));
      input.id = `motion-${kind}`;
      this.#switches.set(kind, input);
      byId('motions').append(label);
    }
    this.poser.addEventListener('motion', () => {
      for (const [kind, input] of this.#switches) input.checked = this.poser.moves(kind);
      if (MOTIONS.some((kind) => this.poser.moves(kind))) byId('motion-paused').hidden = true;
    });
  }

  /** Says that a script has ended what moves by itself. */
  sayPaused() {
    byId('motion-paused').hidden = false;
  }

  /**
   * Switches a motion on or off, and remembers it.
   * @param {import('../motion.js').Kind} kind
   * @param {boolean} on
   */
  move(kind, on) {
    this.poser.move(kind, on);
    this.memory.set('motions', MOTIONS.filter((each) => this.poser.moves(each)).join(','));
  }

  /** Switches breathing, blinking and swaying off together, or on where all are off. */
  toggleIdle() {
    const on = !IDLE.some((kind) => this.poser.moves(kind));
    for (const kind of IDLE) this.move(kind, on);
  }

  /** @param {Preset} name */
  preset(name) {
    this.#set(name === 'neutral' ? rest() : presetPose(name), name);
    this.notices.announce(t('presetDone', { name: t(name) }));
  }

  random() {
    this.#set(randomPose(), null);
  }

  async copy() {
    const text = JSON.stringify(toNames(this.poser.at(performance.now())), null, 1);
    if (await this.toClipboard(text)) this.notices.say(t('poseCopied'));
  }

  /**
   * @param {string} text
   * @returns {Promise<boolean>}
   */
  async toClipboard(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      this.#openDialog(text, t('clipboardRefused'));
      return false;
    }
  }

  /** Takes the pose that the clipboard holds; asks for its text where the browser does not let the page look. */
  async paste() {
    let text;
    try {
      text = await navigator.clipboard.readText();
      parsePose(text);
    } catch {
      return this.#openDialog('', '');
    }
    this.take(text);
  }

  /**
   * Takes a pose from its text.
   * @param {string} text
   * @throws {Error} one readable line
   */
  take(text) {
    this.#set(parsePose(text), null);
    this.notices.say(t('posePasted'));
  }

  /**
   * @param {string} text
   * @param {string} problem
   */
  #openDialog(text, problem) {
    /** @type {HTMLTextAreaElement} */ (byId('paste-text')).value = text;
    byId('paste-problem').textContent = problem;
    /** @type {HTMLDialogElement} */ (byId('paste-dialog')).showModal();
    byId('paste-text').focus();
  }

  /** @param {Event} event */
  #pasted(event) {
    event.preventDefault();
    try {
      this.take(/** @type {HTMLTextAreaElement} */ (byId('paste-text')).value);
      /** @type {HTMLDialogElement} */ (byId('paste-dialog')).close();
    } catch (error) {
      byId('paste-problem').textContent = asSentence(messageOf(error));
    }
  }

  /**
   * @param {Float32Array} pose
   * @param {Preset | null} name
   */
  #set(pose, name) {
    this.poser.move('talking', name === 'talking');
    this.#setting = true; // the event that follows is this one's own
    try {
      this.poser.set(pose, { ease: true });
    } finally {
      this.#setting = false;
    }
    this.#mark(name ?? (pose.some((value) => value) ? null : 'neutral'));
  }

  /** @param {Preset | null} name */
  #mark(name) {
    if (this.#preset === 'talking' && name !== 'talking') this.poser.move('talking', false);
    this.#preset = name;
    for (const [each, chip] of this.#chips) chip.setAttribute('aria-pressed', String(each === name));
  }
}
