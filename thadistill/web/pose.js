// Pose: the 45 values that move a character, their names, order, ranges and groups; the same as thadistill/pose.py.

/** @param {...string} stems */
const pairs = (...stems) => stems.flatMap((stem) => [`${stem}_left`, `${stem}_right`]);

const EYEBROW = pairs(...['troubled', 'angry', 'lowered', 'raised', 'happy', 'serious'].map((m) => `eyebrow_${m}`));
const FACE = [
  ...pairs('eye_wink', 'eye_happy_wink', 'eye_surprised', 'eye_relaxed', 'eye_unimpressed'),
  ...pairs('eye_raised_lower_eyelid', 'iris_small'),
  ...['aaa', 'iii', 'uuu', 'eee', 'ooo', 'delta'].map((vowel) => `mouth_${vowel}`),
  ...pairs('mouth_lowered_corner', 'mouth_raised_corner'),
  'mouth_smirk', 'iris_rotation_x', 'iris_rotation_y',
];
const ROTATION = ['head_x', 'head_y', 'neck_z', 'body_y', 'body_z', 'breathing'];

/** The names of the pose parameters in order. */
export const POSE_PARAMETERS = Object.freeze([...EYEBROW, ...FACE, ...ROTATION]);
export const POSE_SIZE = 45;
/** The first 39 values are the face's: all that the face morpher sees. */
export const FACIAL_SIZE = 39;

const SIGNED = new Set(['iris_rotation_x', 'iris_rotation_y', ...ROTATION.slice(0, 5)]);
/** Smallest value of each parameter: -1 for irises and rotations, else 0; the largest is 1. */
export const LOW = Object.freeze(POSE_PARAMETERS.map((name) => (SIGNED.has(name) ? -1 : 0)));

const PLACE = new Map(POSE_PARAMETERS.map((name, i) => [name, i]));

/**
 * The index of a parameter.
 * @param {string} name
 */
export function indexOf(name) {
  const place = PLACE.get(name);
  if (place === undefined) throw new Error(`no pose parameter is called '${name}'`);
  return place;
}

/** @returns {Float32Array} the rest pose: 45 zeros */
export const rest = () => new Float32Array(POSE_SIZE);

/**
 * A pose with every value brought into its range.
 * @param {ArrayLike<number>} values 45 numbers
 * @returns {Float32Array}
 * @throws {Error} when there are not 45 finite numbers
 */
export function checked(values) {
  if (values?.length !== POSE_SIZE) throw new Error(`a pose of ${values?.length} values; expected ${POSE_SIZE}`);
  const pose = new Float32Array(POSE_SIZE);
  for (let i = 0; i < POSE_SIZE; i++) {
    const value = values[i];
    if (typeof value !== 'number' || !Number.isFinite(value)) {
      throw new Error(`${POSE_PARAMETERS[i]} is ${value}; expected a number from ${LOW[i]} to 1`);
    }
    pose[i] = Math.min(1, Math.max(LOW[i], value));
  }
  return pose;
}

/**
 * A pose as named values; zeros are left out.
 * @param {Float32Array} pose
 * @returns {Record<string, number>}
 */
export function toNames(pose) {
  return Object.fromEntries(POSE_PARAMETERS.map((name, i) => [name, +pose[i].toFixed(4)]).filter(([, v]) => v !== 0));
}

/**
 * The pose of named values; names that are absent are 0.
 * @param {unknown} values
 * @returns {Float32Array}
 * @throws {Error} for an unknown name or a value that is not a number
 */
export function fromNames(values) {
  if (typeof values !== 'object' || values === null || Array.isArray(values)) {
    throw new Error('expected an object of pose parameters, such as {"head_y": 0.5}');
  }
  const pose = new Array(POSE_SIZE).fill(0);
  for (const [name, value] of Object.entries(values)) pose[indexOf(name)] = value;
  return checked(pose);
}
