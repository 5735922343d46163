// Notices: messages that come and go, the panel over the stage when nothing can be shown, and screen readers' news.

import { byId, make } from './dom.js';
import { icon } from './icons.js';
import { asSentence, t } from './texts.js';

const STAYS = 3500;
const PROBLEM_STAYS = 10_000;
const MOST = 4;

/** @typedef {import('./texts.js').Key} Key */

export class Notices {
  /** @param {boolean} quiet a clean view shows none but what keeps it from showing anything */
  constructor(quiet) {
    this.quiet = quiet;
    this.list = byId('notices');
  }

  /**
   * News for screen readers alone.
   * @param {string} text
   */
  announce(text) {
    byId('live').textContent = text;
  }

  /** @param {string} text */
  say(text) {
    this.#show(text, null, STAYS);
  }

  /**
   * A problem that leaves the page working.
   * @param {Key} title
   * @param {string} detail
   */
  complain(title, detail) {
    this.#show(t(title), asSentence(detail), PROBLEM_STAYS);
  }

  /**
   * @param {string} title
   * @param {string | null} detail
   * @param {number} stays
   */
  #show(title, detail, stays) {
    if (this.quiet) return;
    const isProblem = detail !== null;
    const close = make('button', { type: 'button', class: 'icon-button small', label: 'close' }, icon('close'));
    const words = make('div', {}, make('strong', {}, title));
    if (detail) words.append(make('p', {}, detail));
    const role = isProblem ? 'alert' : 'status';
    const notice = make('div', { class: isProblem ? 'notice problem' : 'notice', role });
    notice.append(icon(isProblem ? 'warn' : 'info'), words, close);
    close.addEventListener('click', () => notice.remove());
    this.list.append(notice);
    while (this.list.childElementCount > MOST) this.list.firstElementChild?.remove();
    setTimeout(() => notice.remove(), stays);
  }

  /**
   * Says over the stage why there is nothing on it.
   * @param {Key} title
   * @param {string} detail
   * @param {string} [command] what to run
   */
  block(title, detail, command = '') {
    byId('blocked-title').textContent = t(title);
    byId('blocked-detail').textContent = asSentence(detail);
    byId('blocked-command').textContent = command;
    byId('blocked-command').hidden = !command;
    byId('blocked').hidden = false;
    this.loading(false);
  }

  unblock() {
    byId('blocked').hidden = true;
  }

  /** @param {boolean} on */
  loading(on) {
    byId('loading').hidden = !on;
    byId('stage').setAttribute('aria-busy', String(on));
  }
}
