// Remote panel: says above the stage what `thadistill drive` moves the character by, and lets it take over again.

import { RemoteDriver, driveAddress } from '../drive/remote.js';
import { byId, make } from './dom.js';
import { languageChanged, t } from './texts.js';

/**
 * @typedef {import('../poser.js').Poser} Poser
 * @typedef {import('./notices.js').Notices} Notices
 * @typedef {import('./texts.js').Key} Key
 */

const SOURCES = ['webcam', 'ifacialmocap', 'vmc', 'openseeface', 'audio', 'file'];

/**
 * What people call a source, or several merged.
 * @param {string} source
 */
function named(source) {
  const names = source.split(' + ');
  return names.map((name) => (SOURCES.includes(name) ? t(/** @type {Key} */ (`source_${name}`)) : name)).join(' + ');
}

export class RemotePanel {
  /** Whether the character is to follow whenever there are poses: until the hand takes over. */
  #following = true;
  /** @type {Float32Array | null} */
  #newest = null;
  #resume = make('button', { type: 'button', id: 'driven-resume', class: 'quiet', text: 'drivenResume' });

  /**
   * @param {Poser} poser
   * @param {Notices} notices
   */
  constructor(poser, notices) {
    this.poser = poser;
    this.notices = notices;
    this.driver = new RemoteDriver((pose) => this.#see(pose));
    const address = driveAddress();
    if (address === null) return;
    byId('driven').append(this.#resume);
    this.#resume.addEventListener('click', () => {
      this.#following = true;
      this.#follow();
    });
    this.driver.addEventListener('change', () => this.#changed());
    poser.addEventListener('source', () => {
      if (poser.source === 'remote') this.#following = true;
      else if (this.driver.state !== 'away') this.#following = false;
      this.#update();
    });
    languageChanged.addEventListener('change', () => this.#update());
    this.driver.start(address);
    this.#update();
  }

  #follow() {
    this.poser.use('remote');
    if (this.#newest) this.poser.see('remote', this.#newest);
  }

  /** @param {Float32Array} pose */
  #see(pose) {
    this.#newest = pose;
    if (this.#following) this.#follow();
  }

  #changed() {
    if (this.driver.state === 'away' && this.poser.source === 'remote') this.poser.useHand();
    this.#update();
  }

  #update() {
    const { state, source } = this.driver;
    const held = state !== 'away' && state !== 'off' && !this.#following;
    const key = /** @type {Key} */ (state === 'off' ? 'driven_away' : held ? 'drivenHeld' : `driven_${state}`);
    const text = t(key, { source: named(source) });
    const line = byId('driven-text');
    if (line.textContent !== text) this.notices.announce(text);
    line.textContent = text;
    byId('driven').hidden = false;
    byId('driven').dataset.state = held ? 'hand' : state;
    this.#resume.hidden = !held;
  }
}
