// Dock: what is always at hand below the stage: record, save a picture, zoom, and what draws how fast.

import { Recorder, download, fileName, photograph } from '../recorder.js';
import { byId, make, messageOf, say } from './dom.js';
import { inLanguage, languageChanged, t } from './texts.js';

/**
 * @typedef {import('../player.js').Player} Player
 * @typedef {import('../recorder.js').Extent} Extent
 * @typedef {import('../stage.js').Stage} Stage
 * @typedef {import('./notices.js').Notices} Notices
 * @typedef {import('./texts.js').Key} Key
 */

/** Milliseconds between two updates of the figures, which nobody can read faster. */
const REFRESH = 500;
const ZOOM = 1.25;

export class Dock {
  #stopping = false;

  /**
   * @param {Player} player
   * @param {Stage} stage
   * @param {Notices} notices
   * @param {{extent: () => Extent, keepsPoses: () => boolean, choose: (engine: string) => void}} page
   */
  constructor(player, stage, notices, page) {
    this.player = player;
    this.stage = stage;
    this.notices = notices;
    this.page = page;
    this.recorder = new Recorder(stage, () => player.pose);
    byId('record').addEventListener('click', () => this.toggleRecording());
    byId('photo').addEventListener('click', () => this.photo());
    byId('zoom-in').addEventListener('click', () => stage.zoom(ZOOM));
    byId('zoom-out').addEventListener('click', () => stage.zoom(1 / ZOOM));
    byId('zoom-reset').addEventListener('click', () => stage.reset());
    player.addEventListener('engine', () => this.#showEngines());
    languageChanged.addEventListener('change', () => this.#showEngines());
    setInterval(() => this.#showFigures(), REFRESH);
  }

  async toggleRecording() {
    const { recorder, notices } = this;
    if (this.#stopping) return;
    this.#stopping = recorder.recording;
    try {
      if (!recorder.recording) {
        recorder.start(this.page.extent(), this.page.keepsPoses());
        notices.announce(t('recordingStarted'));
      } else {
        const { blob, ending, poses } = await recorder.stop();
        const file = fileName(this.player.character?.name ?? 'character', ending);
        download(blob, file);
        notices.say(t('recordingSaved', { file }));
        if (poses) {
          const track = file.replace(/[^.]+$/, 'json');
          download(poses, track);
          notices.say(t('posesSaved', { file: track }));
        }
        if (ending === 'mp4') notices.say(t('recordingOpaque'));
      }
    } catch (error) {
      notices.complain('failed', messageOf(error));
    } finally {
      this.#stopping = false;
    }
    byId('record').classList.toggle('recording', recorder.recording);
    byId('record').setAttribute('aria-pressed', String(recorder.recording));
    say(byId('record-text'), recorder.recording ? 'stopRecording' : 'record');
    this.#showFigures();
  }

  async photo() {
    try {
      const file = fileName(this.player.character?.name ?? 'character', 'png');
      download(await photograph(this.stage, this.page.extent()), file);
      this.notices.say(t('photoSaved', { file }));
    } catch (error) {
      this.notices.complain('failed', messageOf(error));
    }
  }

  #showFigures() {
    const { recorder, player } = this;
    const time = Math.floor(recorder.seconds);
    byId('record-time').textContent = recorder.recording
      ? `${Math.floor(time / 60)}:${String(time % 60).padStart(2, '0')}`
      : '';
    const { engine } = player;
    if (!engine) return;
    const lately = player.lately();
    byId('engine-name').textContent = t(/** @type {Key} */ (`engine_${engine.name}`)).replace(/ *[(（].*/, '');
    byId('figures').textContent = lately
      ? t('figures', { ms: lately.ms < 10 ? lately.ms.toFixed(1) : lately.ms.toFixed(0), fps: lately.fps.toFixed(0) })
      : t('still');
  }

  #showEngines() {
    const { player } = this;
    const { engine, engines } = player;
    if (!engine) return;
    for (const id of ['record', 'photo']) /** @type {HTMLButtonElement} */ (byId(id)).disabled = false;
    byId('engine-list').replaceChildren(
      ...engines.map(({ name, obstacle }) => {
        const isNow = name === engine.name;
        // a software adapter is slow, but it runs: somebody may want to see it
        const cannot = obstacle !== null && !isNow && !/software/i.test(obstacle);
        const change = () => this.page.choose(name);
        const input = make('input', { type: 'radio', name: 'engine', value: name, change });
        input.checked = isNow;
        input.disabled = cannot;
        const about = isNow ? engine.detail : t(/** @type {Key} */ (`engine_${name}_about`));
        const why = obstacle !== null && !isNow ? t('engineCannot', { why: inLanguage(obstacle) }) : about;
        const words = make('span', {}, make('strong', { text: `engine_${name}` }), make('small', {}, why));
        return make('label', { class: cannot ? 'engine disabled' : 'engine' }, input, words);
      }),
    );
    byId('engine-reason').textContent = inLanguage(player.reason);
    this.#showFigures();
  }
}
