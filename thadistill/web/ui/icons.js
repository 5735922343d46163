// Icons: small drawings for buttons, on a grid of 24, by strokes in the text's colour.

/** @type {Record<string, string>} */
const PATHS = {
  camera: 'M4 8h3l2-3h6l2 3h3v11H4zM12 16.5a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7z',
  check: 'M5 12.5l4.5 4.5L19 7.5',
  chevron: 'M8 10l4 4 4-4',
  close: 'M6 6l12 12M18 6L6 18',
  copy: 'M9 9h10v11H9zM6 15H5V4h10v2',
  dice: 'M5 5h14v14H5zM9 9h.01M15 9h.01M12 12h.01M9 15h.01M15 15h.01',
  file: 'M7 3h7l4 4v14H7zM14 3v4h4',
  full: 'M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5',
  help: 'M9.2 9.2a2.8 2.8 0 1 1 4.2 2.4c-.9.5-1.4 1.1-1.4 2.1M12 17h.01M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18z',
  info: 'M12 11v5M12 8h.01M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18z',
  link: 'M10 14a4 4 0 0 0 6 .4l2.6-2.6a4 4 0 0 0-5.7-5.6l-1 1M14 10a4 4 0 0 0-6-.4l-2.6 2.6a4 4 0 0 0 5.7 5.6l1-1',
  lock: 'M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 0 1 7 0v3',
  minus: 'M6 12h12',
  open: 'M14 4h6v6M20 4l-9 9M18 14v6H4V6h6',
  panel: 'M4 5h16v14H4zM15 5v14',
  paste: 'M9 5H6v16h12V5h-3M9 3h6v4H9z',
  plus: 'M6 12h12M12 6v12',
  pose: 'M12 11a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM4.5 21c0-4 3.3-6.5 7.5-6.5s7.5 2.5 7.5 6.5',
  reset: 'M4.5 4.5v5h5M5 9.5A8 8 0 1 1 4 13',
  scene: 'M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15.5 9h.01',
  theme: 'M12 20a8 8 0 1 0 0-16zM12 4a8 8 0 1 0 0 16',
  video: 'M3 7h12v10H3zM15 11l6-3.5v9L15 13',
  warn: 'M12 4l9 16H3zM12 10v4M12 17h.01',
};
const SVG = 'http://www.w3.org/2000/svg';

/** @param {string} name */
export function icon(name) {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('class', 'icon');
  svg.setAttribute('aria-hidden', 'true');
  const path = document.createElementNS(SVG, 'path');
  path.setAttribute('d', PATHS[name]);
  svg.append(path);
  return svg;
}

/**
 * Puts icons into the elements that name one.
 * @param {ParentNode} root
 */
export function placeIcons(root) {
  for (const element of /** @type {NodeListOf<HTMLElement>} */ (root.querySelectorAll('[data-icon]'))) {
    element.prepend(icon(element.dataset.icon ?? ''));
  }
}
