// Presets: expressions by name, as poses of the hand.

import { fromNames } from '../pose.js';

/**
 * Values of both sides.
 * @param {Record<string, number>} values
 */
const both = (values) =>
  Object.fromEntries(Object.entries(values).flatMap(([name, v]) => [[`${name}_left`, v], [`${name}_right`, v]]));

/** @typedef {'neutral' | 'smile' | 'wink' | 'surprised' | 'angry' | 'sad' | 'talking'} Preset */

const VALUES = /** @type {Record<Preset, Record<string, number>>} */ ({
  neutral: {},
  smile: { ...both({ eyebrow_happy: 0.8, eye_happy_wink: 1, mouth_raised_corner: 1 }), mouth_aaa: 0.5, neck_z: 0.15 },
  wink: {
    ...both({ mouth_raised_corner: 1 }),
    eye_wink_left: 1,
    eyebrow_raised_right: 0.6,
    eyebrow_happy_left: 0.4,
    mouth_iii: 0.4,
    neck_z: -0.45,
    head_y: -0.2,
  },
  surprised: { ...both({ eyebrow_raised: 1, eye_surprised: 1, iris_small: 0.35 }), mouth_ooo: 0.9, head_x: 0.25 },
  angry: {
    ...both({ eyebrow_angry: 1, eyebrow_lowered: 0.5, eye_unimpressed: 0.25, mouth_lowered_corner: 1 }),
    mouth_eee: 0.6,
    head_x: -0.35,
  },
  sad: {
    ...both({ eyebrow_troubled: 1, eye_relaxed: 0.45, mouth_lowered_corner: 1 }),
    iris_rotation_x: -0.45,
    head_x: -0.5,
    neck_z: 0.2,
  },
  talking: both({ eyebrow_happy: 0.3, mouth_raised_corner: 0.4 }),
});

export const PRESETS = /** @type {Preset[]} */ (Object.keys(VALUES));

/** @param {Preset} name */
export const presetPose = (name) => fromNames(VALUES[name]);
