// Frame: the page around the stage: tabs, panel, theme, language, full screen and help.

import { byId } from './dom.js';
import { languageNow, setLanguage, translate } from './texts.js';

/** @typedef {import('../state.js').Memory} Memory */
/** @typedef {'pose' | 'camera' | 'scene'} Tab */

const TABS = /** @type {Tab[]} */ (['pose', 'camera', 'scene']);

export class Frame {
  /**
   * @param {Memory} memory
   * @param {boolean} clean without all but the stage
   */
  constructor(memory, clean) {
    this.memory = memory;
    this.root = document.documentElement;
    this.root.dataset.view = clean ? 'clean' : 'full';
    if (clean) {
      // a colour scheme of its own would paint the page's canvas
      document.querySelector('meta[name=color-scheme]')?.setAttribute('content', 'normal');
      byId('stage').removeAttribute('tabindex');
      return;
    }
    const theme = memory.get('theme', '');
    if (theme) this.#setTheme(theme);
    this.#listenToTabs();
    byId('theme').addEventListener('click', () => this.toggleTheme());
    byId('help').addEventListener('click', () => this.help());
    byId('full').addEventListener('click', () => this.toggleFullScreen());
    byId('toggle-panel').addEventListener('click', () => this.togglePanel());
    byId('language').addEventListener('click', () => {
      const wanted = languageNow() === 'ja' ? 'en' : 'ja';
      memory.set('language', wanted);
      setLanguage(wanted);
    });
    byId('full').hidden = !document.fullscreenEnabled;
    for (const dialog of document.querySelectorAll('dialog')) {
      dialog.addEventListener('click', (event) => event.target === dialog && dialog.close()); // its backdrop
    }
  }

  #listenToTabs() {
    TABS.forEach((tab, i) => {
      const button = byId(`tab-${tab}`);
      button.addEventListener('click', () => this.openTab(tab));
      button.addEventListener('keydown', (event) => {
        const step = { ArrowRight: 1, ArrowLeft: TABS.length - 1 }[event.key];
        if (!step) return;
        const next = TABS[(i + step) % TABS.length];
        this.openTab(next);
        byId(`tab-${next}`).focus();
      });
    });
  }

  /** @param {Tab} wanted */
  openTab(wanted) {
    for (const tab of TABS) {
      const button = byId(`tab-${tab}`);
      button.setAttribute('aria-selected', String(tab === wanted));
      button.tabIndex = tab === wanted ? 0 : -1;
      byId(`panel-${tab}`).hidden = tab !== wanted;
    }
    if (this.root.dataset.panel === 'hidden') this.togglePanel();
  }

  togglePanel() {
    const hide = this.root.dataset.panel !== 'hidden';
    this.root.dataset.panel = hide ? 'hidden' : 'shown';
    const button = byId('toggle-panel');
    button.setAttribute('aria-expanded', String(!hide));
    button.dataset.label = hide ? 'showPanel' : 'hidePanel';
    translate(button.parentElement ?? document);
  }

  toggleTheme() {
    const dark = this.root.dataset.theme
      ? this.root.dataset.theme === 'dark'
      : matchMedia('(prefers-color-scheme: dark)').matches;
    this.#setTheme(dark ? 'light' : 'dark');
    this.memory.set('theme', this.root.dataset.theme);
  }

  /** @param {string} theme */
  #setTheme(theme) {
    this.root.dataset.theme = theme === 'dark' ? 'dark' : 'light';
  }

  toggleFullScreen() {
    const done = document.fullscreenElement ? document.exitFullscreen() : byId('stage').requestFullscreen();
    done.catch(() => {}); // browsers may refuse, and say so themselves
  }

  help() {
    /** @type {HTMLDialogElement} */ (byId('help-dialog')).showModal();
  }
}
