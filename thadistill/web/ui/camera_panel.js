// Camera panel: the webcam's switch, preview and settings; the driver itself is loaded when it is first wanted.

import { isSingleFile } from '../resources.js';
import { byId, make, makeChoice, makeSwitch, messageOf, say } from './dom.js';
import { languageChanged, t } from './texts.js';

/**
 * @typedef {import('../drive/camera.js').CameraDriver} CameraDriver
 * @typedef {import('../drive/camera.js').CameraSettings} CameraSettings
 * @typedef {import('../poser.js').Poser} Poser
 * @typedef {import('../state.js').Memory} Memory
 * @typedef {import('./notices.js').Notices} Notices
 * @typedef {import('./texts.js').Key} Key
 */

/** As the driver's, which is not loaded yet when the panel is filled. @type {CameraSettings} */
const DEFAULTS = { eyebrowDown: 'angry', wink: 'normal', smoothing: 0.5, mirror: true, breathing: 20 };
const COMMAND = 'thadistill assets pull=facetracking';
/** @type {Record<string, Key>} */
const STATES = {
  off: 'cameraOff', starting: 'cameraStarting', tracking: 'cameraTracking', lost: 'cameraLost', error: 'cameraError',
};
/** Milliseconds between two looks at the driver's figures. */
const REFRESH = 1000;

export class CameraPanel {
  /** @type {CameraDriver | null} */
  driver = null;
  /** @type {Promise<CameraDriver> | null} */
  #loading = null;
  /** @type {string | null} why the driver could not be loaded, in English */
  #problem = null;
  #canvas = make('canvas', { 'aria-hidden': 'true' });
  #figures = 0;

  /**
   * @param {Poser} poser
   * @param {Memory} memory
   * @param {Notices} notices
   */
  constructor(poser, memory, notices) {
    this.poser = poser;
    this.memory = memory;
    this.notices = notices;
    byId('camera-start').addEventListener('click', () => this.toggle());
    byId('camera-resume').addEventListener('click', () => poser.use('camera'));
    byId('calibrate').addEventListener('click', () => this.#calibrate());
    byId('calibrate-reset').addEventListener('click', () => this.driver?.resetCalibration());
    byId('camera-device').addEventListener('change', () => this.isOn && this.start().catch(() => {}));
    byId('camera-command').textContent = COMMAND;
    this.#fillSettings();
    poser.addEventListener('source', () => this.#update());
    languageChanged.addEventListener('change', () => this.#update());
    this.#update();
  }

  /** @returns {import('../drive/camera.js').CameraState} */
  get state() {
    return this.driver?.state ?? (this.#problem ? 'error' : this.#loading ? 'starting' : 'off');
  }

  get isOn() {
    return ['starting', 'tracking', 'lost'].includes(this.state);
  }

  /** @returns {Partial<CameraSettings>} */
  get #settings() {
    return this.memory.get('camera', {});
  }

  #fillSettings() {
    const settings = { ...DEFAULTS, ...this.#settings };
    /** @param {string} key @param {string[]} values @param {Key} title */
    const choice = (key, values, title) => {
      const choices = values.map((value) => ({ value, key: /** @type {Key} */ (`${key}_${value}`) }));
      const now = String(settings[/** @type {keyof CameraSettings} */ (key)]);
      return makeChoice(key, title, choices, now, (value) => this.#configure({ [key]: value })).field;
    };
    /** @param {'smoothing' | 'breathing'} key @param {Key} title @param {number} most @param {number} step */
    const range = (key, title, most, step) => {
      const output = make('output');
      const attributes = { min: '0', max: String(most), step: String(step), id: `camera-${key}` };
      const input = make('input', { type: 'range', ...attributes });
      const show = () => {
        output.textContent = key === 'smoothing' ? `${Math.round(100 * Number(input.value))} %` : input.value;
        input.style.setProperty('--from', '0%');
        input.style.setProperty('--to', `${(100 * Number(input.value)) / most}%`);
      };
      input.value = String(settings[key]);
      input.addEventListener('input', () => (show(), this.#configure({ [key]: Number(input.value) })));
      show();
      return make('label', { class: 'slider' }, make('span', { class: 'slider-name', text: title }), input, output);
    };
    const mirror = makeSwitch('mirror', settings.mirror, (on) => this.#configure({ mirror: on })).label;
    mirror.dataset.hint = 'mirrorHint';
    byId('camera-settings').append(
      mirror,
      range('smoothing', 'smoothing', 1, 0.05),
      range('breathing', 'breathsPerMinute', 40, 1),
      choice('eyebrowDown', ['angry', 'troubled', 'serious', 'lowered'], 'eyebrowDown'),
      choice('wink', ['normal', 'relaxed'], 'winkMode'),
    );
  }

  /** @param {Partial<CameraSettings>} settings */
  #configure(settings) {
    this.memory.set('camera', { ...this.#settings, ...settings });
    this.driver?.configure(settings);
    this.#update();
  }

  /**
   * Starts the webcam, which then moves the character.
   * @returns {Promise<void>}
   * @throws {Error} one readable line
   */
  async start() {
    this.#problem = null;
    const driver = await this.#load();
    // a list that is not shown was not chosen from
    const listed = !byId('camera-device-row').hidden;
    const device = listed ? /** @type {HTMLSelectElement} */ (byId('camera-device')).value : '';
    const started = driver.start(device || undefined);
    this.#update();
    await started.finally(() => this.#listDevices()); // the list, too, after a camera that is gone
    if (this.isOn) this.poser.use('camera');
  }

  stop() {
    this.driver?.stop();
    if (this.poser.source === 'camera') this.poser.useHand();
    this.#update();
  }

  toggle() {
    if (this.isOn) this.stop();
    else this.start().catch(() => {}); // the panel says why not
  }

  async #load() {
    if (isSingleFile) {
      this.#problem = "the webcam doesn't work from a file: open the character from a web server";
      this.#update();
      throw new Error(this.#problem);
    }
    this.#loading ??= import('../drive/camera.js').then(({ CameraDriver }) => {
      const driver = new CameraDriver((pose) => this.#see(pose), this.#settings);
      driver.addEventListener('change', () => this.#changed());
      navigator.mediaDevices?.addEventListener('devicechange', () => this.#listDevices());
      const preview = byId('camera-preview');
      preview.append(driver.video, this.#canvas);
      this.driver = driver;
      return driver;
    });
    this.#update();
    try {
      return await this.#loading;
    } catch (error) {
      this.#loading = null;
      this.#problem = messageOf(error);
      this.#update();
      throw error;
    }
  }

  /** @param {Float32Array} pose */
  #see(pose) {
    this.poser.see('camera', pose);
    if (byId('camera-preview').checkVisibility()) this.driver?.drawPreview(this.#canvas);
  }

  #changed() {
    if (!this.isOn && this.poser.source === 'camera') this.poser.useHand();
    this.#update();
  }

  #calibrate() {
    this.notices.say(t(this.driver?.calibrate() ? 'calibrated' : 'calibrateNoFace'));
    this.#update();
  }

  async #listDevices() {
    const select = /** @type {HTMLSelectElement} */ (byId('camera-device'));
    const devices = (await this.driver?.devices()) ?? [];
    const choice = make('option', { value: '', text: 'cameraDefault' });
    select.replaceChildren(choice, ...devices.map(({ deviceId, label }) => make('option', { value: deviceId }, label)));
    const used = this.isOn ? this.driver?.deviceId : null;
    select.value = devices.some(({ deviceId }) => deviceId === used) ? /** @type {string} */ (used) : '';
    byId('camera-device-row').hidden = devices.length < 2;
  }

  #update() {
    const { state, isOn } = this;
    const held = isOn && state !== 'starting' && this.poser.source !== 'camera';
    const status = byId('camera-status');
    const key = held && state === 'tracking' ? 'cameraHeld' : STATES[state];
    if (status.dataset.text !== key) this.notices.announce(t(key));
    say(status, key);
    byId('panel-camera').dataset.state = state;
    say(byId('camera-start-text'), isOn ? 'cameraStop' : 'cameraStart');
    byId('camera-start').classList.toggle('primary', !isOn);
    byId('camera-resume').hidden = !held;
    byId('camera-preview').hidden = !isOn;
    for (const id of ['calibrate', 'calibrate-reset']) {
      /** @type {HTMLButtonElement} */ (byId(id)).disabled = state !== 'tracking' && state !== 'lost';
    }
    byId('calibrate-reset').hidden = !this.driver?.calibrated;
    const code = this.driver?.errorCode ?? (isSingleFile && this.#problem ? 'disk' : this.#problem ? 'failed' : null);
    const detail = code === 'failed' ? ` ${this.driver?.error ?? this.#problem}` : '';
    byId('camera-error').textContent = code ? t(`camera_${code}`) + detail : '';
    byId('camera-error').hidden = !code;
    byId('camera-missing').hidden = code !== 'files';
    byId('tab-camera').classList.toggle('live', isOn);
    if (isOn !== Boolean(this.#figures)) {
      clearInterval(this.#figures);
      this.#figures = isOn ? window.setInterval(() => this.#showFigures(), REFRESH) : 0;
      byId('camera-figures').textContent = '';
    }
  }

  #showFigures() {
    const stats = this.driver?.stats();
    const measured = stats && stats.trackedPerSecond > 0;
    byId('camera-figures').textContent = measured
      ? t('cameraFigures', { fps: stats.trackedPerSecond.toFixed(0), ms: stats.trackerMs.toFixed(0) })
      : '';
  }
}
