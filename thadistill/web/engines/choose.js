// Choice: which engine draws, and why; the one that was asked for, else the fastest that works here.

import { native } from './native.js';
import { wasm } from './wasm.js';
import { webgpu } from './webgpu.js';

/**
 * @typedef {import('../character.js').Character} Character
 * @typedef {import('./engine.js').Engine} Engine
 * @typedef {import('./engine.js').EngineKind} EngineKind
 *
 * @typedef {Object} Choice
 * @property {Engine} engine
 * @property {{name: string, obstacle: string | null}[]} engines all kinds, each with what keeps it from running here
 * @property {string} reason why this one
 */

/** In the order of their speed on most machines. */
const KINDS = /** @type {EngineKind[]} */ ([webgpu, native, wasm]);

/** What makes an engine the second choice although it runs: a WebGPU adapter that is itself a program on the CPU. */
const SOFTWARE = /software/i;

/**
 * @param {string} name
 * @throws {Error} when no engine has this name
 */
export function checkName(name) {
  if (KINDS.some((kind) => kind.name === name)) return;
  throw new Error(`no engine is called '${name}'; expected one of ${KINDS.map((kind) => kind.name).join(', ')}`);
}

/**
 * Makes an engine for a character.
 * @param {Character} character
 * @param {string | null} [wanted] the name of an engine; null: the best one
 * @returns {Promise<Choice>}
 * @throws {Error} when none works, with what keeps each from it
 */
export async function chooseEngine(character, wanted = null) {
  if (wanted !== null) checkName(wanted);
  const engines = await Promise.all(KINDS.map(async ({ name, obstacle }) => ({ name, obstacle: await obstacle() })));
  const troubles = [];
  if (wanted !== null) {
    const { name, obstacle } = engines.find((entry) => entry.name === wanted) ?? engines[0];
    // a software adapter is no obstacle to somebody who asks for it
    if (obstacle === null || SOFTWARE.test(obstacle)) {
      try {
        return { engine: await make(name, character), engines, reason: 'chosen by hand' };
      } catch (error) {
        troubles.push(`${name}: ${messageOf(error)}`);
      }
    } else troubles.push(`${name}: ${obstacle}`);
  }
  for (const { name, obstacle } of engines) {
    if (name === wanted) continue;
    if (obstacle !== null) {
      troubles.push(`${name}: ${obstacle}`);
      continue;
    }
    try {
      const engine = await make(name, character);
      return { engine, engines, reason: troubles.join('; ') || 'the fastest that works here' };
    } catch (error) {
      troubles.push(`${name}: ${messageOf(error)}`);
    }
  }
  throw new Error(`nothing here can draw the character (${troubles.join('; ')})`);
}

/**
 * @param {string} name
 * @param {Character} character
 */
function make(name, character) {
  const kind = KINDS.find((entry) => entry.name === name);
  return /** @type {EngineKind} */ (kind).create(character);
}

/** @param {unknown} error */
const messageOf = (error) => (error instanceof Error ? error.message : String(error));
