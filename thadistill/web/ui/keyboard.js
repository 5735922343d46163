// Keyboard: single keys for what the page does, listed in its help.

import { byId, make } from './dom.js';

/** @typedef {{keys: string, text: import('./texts.js').Key, does: (key: string) => void}} Shortcut */

/** Where letters and digits are typed. */
const TYPING = 'input:not([type=range], [type=checkbox], [type=radio]), textarea, select, [contenteditable]';

/**
 * @param {Shortcut[]} shortcuts `keys` are single characters, or several without a space between them
 */
export function listenToKeys(shortcuts) {
  addEventListener('keydown', (event) => {
    const { target } = event;
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.defaultPrevented) return;
    if (target instanceof Element && (target.closest(TYPING) || target.closest('dialog'))) return;
    if (event.key.length !== 1 || event.key === ' ') return;
    const shortcut = shortcuts.find(({ keys }) => keys.includes(event.key.toLowerCase()));
    if (!shortcut) return;
    event.preventDefault();
    shortcut.does(event.key.toLowerCase());
  });
  byId('help-keys').append(
    ...shortcuts.flatMap(({ keys, text }) => {
      const shown = /^1/.test(keys) ? `1 – ${keys.at(-1)}` : [...keys].slice(0, 2).join(' ').toUpperCase();
      return [make('dt', {}, make('kbd', {}, shown)), make('dd', { text })];
    }),
  );
}

/**
 * Poses pasted anywhere but into a field.
 * @param {(text: string) => void} take
 */
export function listenToPaste(take) {
  addEventListener('paste', (event) => {
    const { target } = event;
    if (target instanceof Element && (target.closest(TYPING) || target.closest('dialog'))) return;
    const text = event.clipboardData?.getData('text/plain').trim() ?? '';
    if (/^[{[]/.test(text)) take(text);
  });
}
