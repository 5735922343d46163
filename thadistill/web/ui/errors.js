// Errors: lines that modules throw in English, put into Japanese.

import { errors } from './errors_ja.js';

/** What a line begins with that is said of one engine or part. */
const ABOUT = /^(webgpu|native|wasm|no characters): (.*)$/s;

/** @type {{pattern: RegExp, names: string[], text: string}[]} */
const LINES = Object.entries(errors).map(([line, text]) => {
  const names = [...line.matchAll(/\{(\w+)\}/g)].map(([, name]) => name);
  const pieces = line.split(/\{\w+\}/).map((piece) => piece.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&'));
  return { pattern: new RegExp(`^${pieces.join('(.*?)')}$`, 's'), names, text };
});

/**
 * A line in Japanese; as it came where there is no translation (a server's words, a browser's).
 * @param {string} line
 * @returns {string}
 */
export function inJapanese(line) {
  for (const { pattern, names, text } of LINES) {
    const found = pattern.exec(line);
    if (!found) continue;
    const values = Object.fromEntries(names.map((name, i) => [name, found[i + 1]]));
    return text.replace(/\{(\w+)\}/g, (_, name) => (name === 'why' ? inJapanese(values[name]) : values[name]));
  }
  const about = ABOUT.exec(line);
  const parts = line.split('; ');
  if (parts.length > 1 && parts.every((part) => ABOUT.test(part) || inJapanese(part) !== part)) {
    return parts.map(inJapanese).join('；');
  }
  return about ? `${about[1]}：${inJapanese(about[2])}` : line;
}
