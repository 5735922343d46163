// Texts: what the page says in the language of its reader.

import { inJapanese } from './errors.js';
import { en } from './texts_en.js';
import { ja } from './texts_ja.js';

/** @typedef {keyof typeof en} Key */
/** @typedef {'en' | 'ja'} Language */

const LANGUAGES = { en, ja };
/** Dispatches "change" after the language has changed. */
export const languageChanged = new EventTarget();
/** @type {Language} */
let language = navigator.language.toLowerCase().startsWith('ja') ? 'ja' : 'en';

export const languageNow = () => language;

/** @param {string} wanted one that the page does not speak is English */
export function setLanguage(wanted) {
  language = wanted === 'ja' ? 'ja' : 'en';
  document.documentElement.lang = language;
  document.title = t('title');
  translate(document.body);
  languageChanged.dispatchEvent(new Event('change'));
}

/**
 * A text.
 * @param {Key} key
 * @param {Record<string, string | number>} [values]
 */
export function t(key, values = {}) {
  return LANGUAGES[language][key].replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ''));
}

/**
 * What a module has thrown, in English, in the page's language.
 * @param {string} line
 */
export const inLanguage = (line) => (language === 'ja' ? inJapanese(line) : line);

/**
 * The same as a sentence of its own: modules begin their lines in lower case, as they may follow a name.
 * @param {string} line
 */
export const asSentence = (line) =>
  inLanguage(line).replace(/^(an?|no|nothing|the|this)\b/, (word) => word[0].toUpperCase() + word.slice(1));

/**
 * Sets the texts of the elements below one that name them: data-text is an element's text, data-label its name for
 * screen readers and its tooltip, data-name only the former, data-hint only the latter.
 * @param {ParentNode} root
 */
export function translate(root) {
  for (const element of /** @type {NodeListOf<HTMLElement>} */ (root.querySelectorAll('[data-text]'))) {
    element.textContent = t(/** @type {Key} */ (element.dataset.text));
  }
  for (const element of /** @type {NodeListOf<HTMLElement>} */ (root.querySelectorAll('[data-label]'))) {
    element.title = t(/** @type {Key} */ (element.dataset.label));
    element.setAttribute('aria-label', element.title);
  }
  for (const element of /** @type {NodeListOf<HTMLElement>} */ (root.querySelectorAll('[data-hint]'))) {
    element.title = t(/** @type {Key} */ (element.dataset.hint));
  }
  for (const element of /** @type {NodeListOf<HTMLElement>} */ (root.querySelectorAll('[data-name]'))) {
    element.setAttribute('aria-label', t(/** @type {Key} */ (element.dataset.name)));
  }
}
