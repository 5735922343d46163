// Gestures: mouse, touch, and keys on the stage: move, zoom, and where the character looks.

/**
 * @typedef {import('../poser.js').Poser} Poser
 * @typedef {import('../stage.js').Stage} Stage
 */

const WHEEL = 0.0015;
const LINE = 16; // pixels of a wheel that counts lines
const STEP = 24; // pixels of an arrow key

/**
 * Listens to what happens on the stage.
 * @param {HTMLElement} element
 * @param {Stage} stage
 * @param {Poser} poser
 */
export function listenToGestures(element, stage, poser) {
  /** @type {Map<number, {clientX: number, clientY: number}>} the pointers that are down */
  const down = new Map();

  element.addEventListener('pointerdown', (event) => {
    if (event.button > 1 || (event.target instanceof Element && event.target.closest('.blocked'))) return;
    down.set(event.pointerId, event);
    element.setPointerCapture(event.pointerId);
  });
  element.addEventListener('pointermove', (event) => {
    const before = down.get(event.pointerId);
    if (!before) return;
    down.set(event.pointerId, event);
    const [dx, dy] = [event.clientX - before.clientX, event.clientY - before.clientY];
    const other = [...down].find(([id]) => id !== event.pointerId)?.[1];
    if (other) {
      // two fingers: their distance zooms, their middle moves
      const distance = (/** @type {{clientX: number, clientY: number}} */ from) =>
        Math.hypot(from.clientX - other.clientX, from.clientY - other.clientY);
      const middle = {
        clientX: (event.clientX + other.clientX) / 2,
        clientY: (event.clientY + other.clientY) / 2,
      };
      stage.zoom(distance(event) / Math.max(1, distance(before)), middle);
      stage.move(dx / 2, dy / 2);
    } else if (event.pointerType !== 'touch' || !poser.moves('follow')) {
      stage.move(dx, dy); // the character looks at a finger instead
    }
    element.classList.add('moving');
  });
  for (const end of /** @type {const} */ (['pointerup', 'pointercancel'])) {
    element.addEventListener(end, (event) => {
      down.delete(event.pointerId);
      if (!down.size) element.classList.remove('moving');
    });
  }
  element.addEventListener('wheel', (event) => {
    event.preventDefault();
    const delta = event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_LINE ? LINE : 1);
    stage.zoom(Math.exp(-delta * WHEEL * (event.ctrlKey ? 5 : 1)), event); // a touchpad's pinch is a wheel with ctrl
  }, { passive: false });
  element.addEventListener('dblclick', () => stage.reset());
  element.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target !== element) return;
    const moves = /** @type {Record<string, [number, number]>} */ ({
      ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP],
    });
    if (event.key in moves) stage.move(...moves[event.key]);
    else return;
    event.preventDefault();
  });

  // anywhere on the page: the character looks at the pointer over the panel, too
  addEventListener('pointermove', (event) => {
    if (poser.moves('follow')) poser.lookAt(stage.fromFace(event.clientX, event.clientY));
  });
  const ahead = () => poser.lookAt(null);
  document.documentElement.addEventListener('pointerleave', ahead);
  addEventListener('blur', ahead);
  addEventListener('pointerup', (event) => event.pointerType === 'touch' && ahead());
}
