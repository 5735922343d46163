// Main: puts the page together: stage, player, panels, and `window.thadistill`, which scripts and tests use.

import { fetchCharacter, openCharacter, readCharacterFile } from './character.js';
import { checkName } from './engines/choose.js';
import { Player } from './player.js';
import { checked } from './pose.js';
import { Poser } from './poser.js';
import { addressOf, bytesOf, isSingleFile } from './resources.js';
import { Stage } from './stage.js';
import { MOTIONS, Memory, cleanAddress, poseInHash, readAddress, rememberInAddress } from './state.js';
import { CameraPanel } from './ui/camera_panel.js';
import { Dock } from './ui/dock.js';
import { byId, make, messageOf } from './ui/dom.js';
import { listenToDrops } from './ui/drop.js';
import { Frame } from './ui/frame.js';
import { listenToGestures } from './ui/gestures.js';
import { placeIcons } from './ui/icons.js';
import { listenToKeys, listenToPaste } from './ui/keyboard.js';
import { Notices } from './ui/notices.js';
import { PosePanel } from './ui/pose_panel.js';
import { PRESETS } from './ui/presets.js';
import { RemotePanel } from './ui/remote_panel.js';
import { ScenePanel } from './ui/scene_panel.js';
import { inLanguage, languageNow, setLanguage, t } from './ui/texts.js';

/**
 * @typedef {import('./character.js').Character} Character
 * @typedef {{name: string, open: () => Promise<Character>}} Entry of the menu
 */

const INDEX = 'characters/index.json';
const IDLE = 'breathing,blinking,sway';
const COMMAND = 'thadistill export model=DIR format=web';

const address = readAddress(location);
const memory = new Memory(!address.clean); // a clean view is what its address says
const still = matchMedia('(prefers-reduced-motion: reduce)');

const notices = new Notices(address.clean);
const frame = new Frame(memory, address.clean);
const stage = new Stage(/** @type {HTMLCanvasElement} */ (byId('canvas')));
const poser = new Poser();
poser.easing = !still.matches;
const player = new Player(stage, (now) => {
  remote.driver.asked();
  return poser.at(now);
});
const pose = new PosePanel(poser, memory, notices);
const camera = new CameraPanel(poser, memory, notices);
const remote = new RemotePanel(poser, notices);
const scene = new ScenePanel(stage, memory, notices, {
  cleanAddress: () =>
    cleanAddress(location, {
      character: entries.some(({ name }) => name === player.character?.name) ? player.character?.name ?? null : null,
      background: stage.background,
      view: stage.view,
      motions: MOTIONS.filter((kind) => poser.moves(kind)),
      pose: poser.base,
      engine: player.wanted,
    }),
  copy: (text) => pose.toClipboard(text),
});
const dock = new Dock(player, stage, notices, {
  extent: () => scene.extent,
  keepsPoses: () => scene.keepsPoses,
  choose: (name) => chooseEngine(name),
});

/** @type {Entry[]} */
let entries = [];

/** @returns {Promise<Entry[]>} the characters that came with the page */
async function listCharacters() {
  const list = JSON.parse(new TextDecoder().decode(await bytesOf(INDEX)));
  return list.map((/** @type {{name: unknown, file: unknown}} */ { name, file }) => {
    const path = `characters/${String(file).split('/').map(encodeURIComponent).join('/')}`;
    const open = async () =>
      isSingleFile
        ? readCharacterFile(new Uint8Array(await bytesOf(`characters/${file}`)))
        : fetchCharacter(addressOf(path, ''));
    return { name: String(name), open: async () => ({ ...(await open()), name: String(name) }) };
  });
}

/** How many characters have been asked for: the last one counts, however long the others take. */
let asked = 0;

/**
 * Shows a character; the one before stays where that fails.
 * @param {() => Promise<Character>} open
 * @throws {Error} one readable line
 */
async function show(open) {
  const mine = ++asked;
  notices.loading(true);
  try {
    const character = await open();
    if (mine !== asked) return; // another was chosen meanwhile
    await player.show(character);
    notices.unblock();
  } finally {
    if (mine === asked) notices.loading(false);
  }
}

/**
 * The same for somebody who looks at the page and not at exceptions.
 * @param {() => Promise<Character>} open
 */
async function showOrComplain(open) {
  try {
    await show(open);
    notices.say(t('loaded', { name: player.character?.name ?? '' }));
  } catch (error) {
    const kept = player.character ? ` ${t('keptCharacter', { name: player.character.name })}` : '';
    notices.complain('brokenCharacter', `${inLanguage(messageOf(error))}${t('fullStop')}${kept}`);
  }
  fillMenu();
}

/** @param {File[]} files */
async function openFiles(files) {
  await showOrComplain(async () => {
    const character = await openCharacter(files);
    return { ...character, name: character.name || files[0].name };
  });
}

function fillMenu() {
  const menu = /** @type {HTMLSelectElement} */ (byId('character-menu'));
  const name = player.character?.name ?? '';
  const names = entries.map((entry) => entry.name);
  if (name && !names.includes(name)) names.push(name); // a dropped one
  menu.replaceChildren(...names.map((each) => make('option', { value: each }, each)));
  menu.value = name;
  menu.hidden = names.length < 2;
  byId('character-name').textContent = name;
  byId('character-name').classList.toggle('for-readers', names.length > 1);
}

/** @param {string} name */
async function chooseEngine(name) {
  if (!player.character) return;
  notices.loading(true);
  try {
    await player.show(player.character, name);
    rememberInAddress('engine', name);
    if (player.engine?.name === name) notices.announce(t('engineNow', { engine: name }));
    else notices.complain('failed', player.reason);
  } catch (error) {
    notices.complain('failed', messageOf(error));
  } finally {
    notices.loading(false);
  }
}

async function begin() {
  let entry;
  try {
    entries = await listCharacters();
    if (!entries.length) throw new Error(`${INDEX} names none`);
    entry = entries.find(({ name }) => name === address.character) ?? entries[0];
  } catch (error) {
    notices.block('noCharacters', t('noCharactersHint'), COMMAND);
    throw new Error(`no characters: ${messageOf(error)}`);
  }
  player.wanted = address.engine;
  try {
    await show(entry.open);
  } catch (error) {
    notices.block(player.character ? 'noEngine' : 'brokenCharacter', messageOf(error));
    fillMenu();
    throw new Error(messageOf(error));
  }
  fillMenu();
  if (address.character && entry.name !== address.character) {
    notices.complain('addressProblem', t('noCharacterOfThatName', { name: address.character, shown: entry.name }));
  }
  const { engine, engines, reason } = player;
  if (!address.engine && engine?.name === 'wasm' && engines.some(({ name, obstacle }) => name === 'webgpu' && obstacle)) {
    if (!memory.get('toldFallback', false)) notices.say(t('engineFallback', { engine: t('engine_wasm') }));
    memory.set('toldFallback', true); // once is enough
  }
  if (address.camera) camera.start().catch((error) => notices.complain('cameraError', messageOf(error)));
  return { engine: engine?.name, engines, reason, character: player.character?.name };
}

/** Brings the page to what its address says, or to what it was left at. */
function setUp() {
  placeIcons(document);
  setLanguage(memory.get('language', languageNow()));
  if (address.background?.kind === 'colour') scene.setColour(address.background.colour);
  else if (address.background) stage.background = address.background;
  if (address.view) stage.view = address.view;
  if (address.pose) poser.set(address.pose);
  // an address with a pose is to show that pose
  const usual = still.matches || address.pose ? '' : memory.get('motions', IDLE);
  const moving = address.motion ?? usual.split(',');
  for (const kind of MOTIONS) poser.move(kind, moving.includes(kind));
  try {
    if (address.engine !== null) checkName(address.engine);
  } catch (error) {
    address.engine = null;
    address.problems.push(messageOf(error));
  }
  for (const problem of address.problems) notices.complain('addressProblem', problem);
}

function listen() {
  stage.ondraw = () => {
    dock.recorder.drawn();
    remote.driver.drawn();
    scene.showView();
  };
  player.addEventListener('trouble', (event) => {
    const { detail } = /** @type {CustomEvent<string>} */ (event);
    if (player.engine) {
      notices.complain('failed', `${t('engineFailed', { engine: t(`engine_${player.engine.name}`) })} (${inLanguage(detail)})`);
    } else notices.block('noEngine', detail);
  });
  addEventListener('hashchange', () => {
    try {
      const wanted = poseInHash(location.hash);
      if (wanted) poser.set(wanted, { ease: true });
    } catch (error) {
      notices.complain('brokenPose', messageOf(error));
    }
  });
  if (address.clean) return;
  listenToGestures(byId('stage'), stage, poser);
  listenToDrops({ character: openFiles, picture: (file) => scene.openPicture(file) });
  listenToPaste((text) => {
    try {
      pose.take(text);
    } catch (error) {
      notices.complain('brokenPose', messageOf(error));
    }
  });
  byId('character-menu').addEventListener('change', (event) => {
    const { value } = /** @type {HTMLSelectElement} */ (event.target);
    const entry = entries.find(({ name }) => name === value);
    if (!entry) return;
    rememberInAddress('character', value);
    showOrComplain(entry.open);
  });
  const file = /** @type {HTMLInputElement} */ (byId('character-file'));
  for (const id of ['open-character', 'blocked-open']) byId(id).addEventListener('click', () => file.click());
  file.addEventListener('change', () => {
    const files = [...(file.files ?? [])];
    file.value = '';
    if (files.length) openFiles(files);
  });
  listenToKeys([
    { keys: '1234567', text: 'key_presets', does: (key) => pose.preset(PRESETS[Number(key) - 1]) },
    { keys: 'x', text: 'key_random', does: () => pose.random() },
    { keys: 'i', text: 'key_idle', does: () => pose.toggleIdle() },
    { keys: 'm', text: 'key_follow', does: () => pose.move('follow', !poser.moves('follow')) },
    { keys: 'w', text: 'key_camera', does: () => (frame.openTab('camera'), camera.toggle()) },
    { keys: 'r', text: 'key_record', does: () => dock.toggleRecording() },
    { keys: 'p', text: 'key_photo', does: () => dock.photo() },
    { keys: 'c', text: 'key_copy', does: () => pose.copy() },
    { keys: '+-=_', text: 'key_zoom', does: (key) => stage.zoom('+='.includes(key) ? 1.25 : 0.8) },
    { keys: '0', text: 'key_view', does: () => stage.reset() },
    { keys: 'f', text: 'key_full', does: () => frame.toggleFullScreen() },
    { keys: 'h', text: 'key_panel', does: () => frame.togglePanel() },
    { keys: 't', text: 'key_theme', does: () => frame.toggleTheme() },
    { keys: '?', text: 'key_help', does: () => frame.help() },
  ]);
}

setUp();
listen();
const ready = begin();
ready.catch(() => {}); // whoever awaits it gets the error; the page shows it, too

Object.assign(window, {
  thadistill: {
    ready,
    /** @param {ArrayLike<number>} values 45, in the order of POSE_PARAMETERS */
    setPose(values) {
      const wanted = checked(values);
      const moved = [...MOTIONS, /** @type {const} */ ('talking')].some((kind) => poser.moves(kind));
      poser.still();
      poser.set(wanted);
      if (moved) pose.sayPaused();
    },
    get pose() {
      return Array.from(poser.at(performance.now()));
    },
    frame: () => player.frame(),
    stats: () => player.stats(),
    /** @param {string | File | Iterable<File>} given */
    async load(given) {
      await show(() => {
        if (typeof given === 'string' || given instanceof URL) return fetchCharacter(String(given));
        return openCharacter(given instanceof File ? [given] : [...given]);
      });
      fillMenu();
    },
    /** What `thadistill drive` moves the character by, where it does. */
    get driven() {
      const { source, state } = remote.driver;
      return { source, state, following: poser.source === 'remote' };
    },
    camera: {
      start: () => camera.start(),
      stop: () => camera.stop(),
      get state() {
        return camera.state;
      },
    },
  },
});
