// DOM: elements made and found with few words. Texts are always set as text, never as markup.

import { t } from './texts.js';

/** @typedef {import('./texts.js').Key} Key */

/**
 * Makes an element.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, string | boolean | EventListener>} [attributes] functions listen to the event of their name;
 *   `text` and `label` name texts that follow the language
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  element.append(...children);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(name, value);
    else if (name === 'text') say(element, /** @type {Key} */ (value));
    else if (name === 'label') {
      element.dataset.label = String(value);
      element.title = t(/** @type {Key} */ (value));
      element.setAttribute('aria-label', element.title);
    } else if (value === true) element.setAttribute(name, '');
    else if (value !== false) element.setAttribute(name, value);
  }
  return element;
}

/**
 * Lets an element say a text in whatever language the page has.
 * @param {HTMLElement} element
 * @param {Key} key
 */
export function say(element, key) {
  element.dataset.text = key;
  element.textContent = t(key);
}

/**
 * An element of the page by its id.
 * @template {HTMLElement} [Type=HTMLElement]
 * @param {string} id
 * @returns {Type}
 */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no #${id}`);
  return /** @type {Type} */ (element);
}

/**
 * A switch with its text.
 * @param {Key} key
 * @param {boolean} on
 * @param {(on: boolean) => void} changed
 */
export function makeSwitch(key, on, changed) {
  const input = make('input', { type: 'checkbox', role: 'switch', change: () => changed(input.checked) });
  input.checked = on;
  const label = make('label', { class: 'switch' }, input);
  label.append(make('span', { class: 'switch-track', 'aria-hidden': 'true' }), make('span', { text: key }));
  return { label, input };
}

/**
 * Choices of which one holds, as a row of buttons.
 * @param {string} name of the group, unique on the page
 * @param {Key} title
 * @param {{value: string, key: Key}[]} choices
 * @param {string} value
 * @param {(value: string) => void} changed
 */
export function makeChoice(name, title, choices, value, changed) {
  const inputs = choices.map((choice) => {
    const input = make('input', { type: 'radio', name, value: choice.value, change: () => changed(choice.value) });
    input.checked = choice.value === value;
    return { input, label: make('label', {}, input, make('span', { text: choice.key })) };
  });
  const row = make('div', { class: 'segments' }, ...inputs.map(({ label }) => label));
  const field = make('fieldset', { class: 'choice' }, make('legend', { text: title }), row);
  return {
    field,
    /** @param {string} wanted */
    set: (wanted) => inputs.forEach(({ input }) => (input.checked = input.value === wanted)),
  };
}

/** @param {unknown} error */
export const messageOf = (error) => (error instanceof Error ? error.message : String(error));
