// Sliders: one for each of the 45 values, in groups; a pair's two sides together or apart.

import { LOW, POSE_PARAMETERS, indexOf } from '../pose.js';
import { make } from './dom.js';
import { icon } from './icons.js';
import { languageChanged, t } from './texts.js';

/**
 * @typedef {import('../poser.js').Poser} Poser
 * @typedef {import('../state.js').Memory} Memory
 * @typedef {import('./texts.js').Key} Key
 * @typedef {{key: Key, places: number[]}} Morph a parameter, or a pair of them
 */

const STEP = 0.01;
const SIDED = /_(left|right)$/;

/** @type {[Key, RegExp, boolean][]} a group's title, its parameters, and whether it is open at first */
const GROUPS = [
  ['groupEyebrows', /^eyebrow_/, false],
  ['groupEyes', /^eye_/, true],
  ['groupMouth', /^mouth_/, false],
  ['groupIrises', /^iris_/, false],
  ['groupBody', /^(head|neck|body)_/, true],
  ['groupBreathing', /^breathing$/, false],
];

/**
 * Makes all the groups.
 * @param {Poser} poser
 * @param {Memory} memory
 */
export function makeSliders(poser, memory) {
  /** @type {(() => void)[]} */
  const updates = [];
  const groups = GROUPS.map(([title, pattern, open]) => {
    const names = POSE_PARAMETERS.filter((name) => pattern.test(name));
    const stems = [...new Set(names.map((name) => name.replace(SIDED, '')))];
    const morphs = stems.map((stem) => ({
      key: /** @type {Key} */ (stem),
      places: names.filter((name) => name.replace(SIDED, '') === stem).map(indexOf),
    }));
    const group = makeGroup(poser, memory, title, morphs, open);
    updates.push(group.update);
    return group.element;
  });
  const update = () => updates.forEach((each) => each());
  poser.addEventListener('pose', update);
  languageChanged.addEventListener('change', update);
  update();
  return groups;
}

/**
 * @param {Poser} poser
 * @param {Memory} memory
 * @param {Key} title
 * @param {Morph[]} morphs
 * @param {boolean} open
 */
function makeGroup(poser, memory, title, morphs, open) {
  const rows = morphs.map((morph) => makeRow(poser, morph));
  const places = morphs.flatMap((morph) => morph.places);
  const hasPairs = morphs.some((morph) => morph.places.length > 1);
  const body = make('div', { class: 'rows' }, ...rows.map((row) => row.element));
  const reset = make('button', { type: 'button', class: 'quiet', click: () => poser.change(places, 0) }, icon('reset'));
  reset.append(make('span', { text: 'resetShort' }));
  const tools = make('div', { class: 'group-tools' }, reset);
  const key = `linked.${title}`;
  const link = make('input', { type: 'checkbox', role: 'switch', change: () => setLinked(link.checked) });
  if (hasPairs) {
    const label = make('label', { class: 'switch small' }, link);
    label.append(make('span', { class: 'switch-track', 'aria-hidden': 'true' }), make('span', { text: 'linkedShort' }));
    tools.prepend(label);
  }
  const marker = make('span', { class: 'group-marker', 'aria-hidden': 'true' });
  const summary = make('summary', {}, icon('chevron'), make('span', { text: title }), marker);
  const element = make('details', { class: 'group', id: title }, summary, tools, body);
  element.open = memory.get(`open.${title}`, open);
  element.addEventListener('toggle', () => memory.set(`open.${title}`, element.open));

  /** @param {boolean} linked */
  function setLinked(linked) {
    memory.set(key, linked);
    link.checked = linked;
    rows.forEach((row) => row.setLinked(linked));
  }
  setLinked(memory.get(key, true));

  function update() {
    rows.forEach((row) => row.update());
    const changed = places.some((place) => poser.base[place] !== 0);
    marker.hidden = !changed;
    reset.disabled = !changed;
    reset.setAttribute('aria-label', t('reset', { group: t(title) }));
    link.setAttribute('aria-label', t('linked', { group: t(title) }));
  }
  return { element, update };
}

/**
 * A morph's sliders: for a pair one of both sides, and one each.
 * @param {Poser} poser
 * @param {Morph} morph
 */
function makeRow(poser, { key, places }) {
  const sides = places.length > 1 ? [places, ...places.map((place) => [place])] : [places];
  const sliders = sides.map((moved, i) => makeSlider(poser, key, moved, i));
  const [first, ...apart] = sliders;
  return {
    element: make('div', { class: 'row' }, ...sliders.map(({ element }) => element)),
    update: () => sliders.forEach((slider) => slider.update()),
    /** @param {boolean} linked */
    setLinked(linked) {
      if (!apart.length) return;
      first.element.hidden = !linked;
      for (const { element } of apart) element.hidden = linked;
    },
  };
}

/**
 * @param {Poser} poser
 * @param {Key} key
 * @param {number[]} places the values that it moves
 * @param {number} side 1 and 2 are the left and right of a pair
 */
function makeSlider(poser, key, places, side) {
  const low = LOW[places[0]];
  const input = make('input', { type: 'range', min: String(low), max: '1', step: String(STEP), value: '0' });
  input.dataset.parameter = places.map((place) => POSE_PARAMETERS[place]).join(' ');
  const output = make('output');
  const name = make('span', { class: 'slider-name' });
  const element = make('label', { class: 'slider' }, name, input, output);
  const reset = () => poser.change(places, 0);
  let dragged = false; // keys step through the middle
  input.addEventListener('pointerdown', () => (dragged = true));
  for (const end of ['pointerup', 'pointercancel']) input.addEventListener(end, () => (dragged = false));
  input.addEventListener('input', () => {
    const value = Number(input.value);
    poser.change(places, dragged ? snapped(value, low) : value);
  });
  input.addEventListener('dblclick', reset);
  input.addEventListener('keydown', (event) => {
    if (event.key !== 'Delete' && event.key !== 'Backspace') return;
    event.preventDefault();
    reset();
  });

  function update() {
    const values = places.map((place) => poser.base[place]);
    const value = Math.max(...values);
    const differ = values.some((each) => each !== value);
    input.value = String(value);
    output.textContent = differ ? `${t('leftShort')}≠${t('rightShort')}` : value.toFixed(2);
    output.title = differ ? values.map((each, i) => `${t(i ? 'right' : 'left')} ${each.toFixed(2)}`).join(', ') : '';
    input.setAttribute('aria-valuetext', output.title || output.textContent);
    element.classList.toggle('changed', value !== 0);
    const at = (/** @type {number} */ v) => `${(100 * (v - low)) / (1 - low)}%`;
    input.style.setProperty('--from', at(Math.min(0, value)));
    input.style.setProperty('--to', at(Math.max(0, value)));
    name.textContent = side === 2 ? '' : t(key);
    if (side) name.append(make('span', { class: 'side' }, t(side === 1 ? 'leftShort' : 'rightShort')));
    input.setAttribute('aria-label', side ? `${t(key)}, ${t(side === 1 ? 'left' : 'right')}` : t(key));
  }
  return { element, update };
}

/**
 * A signed slider holds on to its middle, which is hard to hit.
 * @param {number} value
 * @param {number} low
 */
const snapped = (value, low) => (low < 0 && Math.abs(value) < 2.5 * STEP && Math.abs(value) > STEP ? 0 : value);
