// Engine: what draws a character's frames. Engines differ in where they compute, and are called alike.

/**
 * @typedef {import('../character.js').Character} Character
 *
 * @typedef {Object} Pixels straight sRGB, 8 bits a channel
 * @property {number} width
 * @property {number} height
 * @property {Uint8ClampedArray} data RGBA
 *
 * @typedef {Object} Engine
 * @property {'webgpu' | 'wasm' | 'native'} name
 * @property {string} detail what it runs on, for the read-out: the adapter, the number of workers, the runtime
 * @property {(pose: Float32Array, paint: (source: CanvasImageSource) => void) => Promise<void>} render
 *   draws the frame of a pose; calls `paint` once with a source of the frame's size, valid during that call only, and
 *   resolves when the next frame may be asked for: an engine with several frames in flight paints some time later.
 *   One call at a time.
 * @property {(pose: Float32Array) => Promise<Pixels>} pixels
 *   the frame of a pose as pixels; not while `render` is running
 * @property {() => void} destroy gives back memory, workers, the device or the connection
 *
 * @typedef {Object} EngineKind
 * @property {'webgpu' | 'wasm' | 'native'} name
 * @property {() => Promise<string | null>} obstacle why it cannot be used here, as one line; null when it can
 * @property {(character: Character) => Promise<Engine>} create
 */

export {};
