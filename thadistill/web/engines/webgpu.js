// WebGPU: the engine of compute kernels on the GPU. One submit a frame; everything else is made once for a character.

import { FACIAL_SIZE, POSE_SIZE } from '../pose.js';
import { shiftOf } from '../fold.js';
import { encodeShader, presentShader } from './webgpu_paint.js';
import { planOf } from './webgpu_plan.js';
import { shaderOf } from './webgpu_shaders.js';

/**
 * @typedef {import('../character.js').Character} Character
 * @typedef {import('./engine.js').Engine} Engine
 * @typedef {import('./engine.js').EngineKind} EngineKind
 * @typedef {import('./engine.js').Pixels} Pixels
 * @typedef {import('./webgpu_plan.js').Binding} Binding
 * @typedef {import('./webgpu_plan.js').Plan} Plan
 * @typedef {import('./webgpu_plan.js').Precision} Precision
 * @typedef {import('./webgpu_plan.js').Step} Step
 *
 * @typedef {Object} Dispatch
 * @property {GPUComputePipeline} pipeline
 * @property {GPUBindGroup} group
 * @property {[number, number]} workgroups
 *
 * @typedef {Object} Made what is made once for a character
 * @property {Map<string, GPUBuffer>} buffers
 * @property {Dispatch[]} face
 * @property {Dispatch[]} body
 * @property {Dispatch} encode
 * @property {{pipeline: GPURenderPipeline, group: GPUBindGroup}} present
 */

/** Programs that pretend to be a GPU, by their names. */
const SOFTWARE = /swiftshader|llvmpipe|lavapipe|softpipe|\bwarp\b|basic render/i;

/** @returns {Promise<GPUAdapter | string>} an adapter, or why there is none */
async function findAdapter() {
  if (!globalThis.isSecureContext) return 'WebGPU needs https, or an address on this machine';
  if (!navigator.gpu) return 'this browser has no WebGPU';
  try {
    const adapter = await navigator.gpu.requestAdapter({ powerPreference: 'high-performance' });
    return adapter ?? 'the browser offers no WebGPU adapter: its GPU is missing, blocked or switched off';
  } catch (error) {
    return `WebGPU does not start (${error instanceof Error ? error.message : error})`;
  }
}

/** @param {GPUAdapter} adapter */
function describe(adapter) {
  const { vendor, architecture, description, device } = adapter.info;
  const name = description || [vendor, architecture, device].filter(Boolean).join(' ') || 'an unnamed GPU';
  const { isFallbackAdapter } = /** @type {{isFallbackAdapter?: boolean}} */ (adapter); // where it was until 2025
  const isFallback = adapter.info.isFallbackAdapter ?? isFallbackAdapter ?? false;
  return { name, isSoftware: isFallback || SOFTWARE.test(`${name} ${vendor} ${architecture}`) };
}

/** The kind of engine; its `create` takes a precision, too. */
export const webgpu = {
  name: /** @type {const} */ ('webgpu'),

  /** @returns {Promise<string | null>} */
  async obstacle() {
    const adapter = await findAdapter();
    if (typeof adapter === 'string') return adapter;
    const { name, isSoftware } = describe(adapter);
    return isSoftware ? `the WebGPU adapter is a software one (${name}), slower than WebAssembly` : null;
  },

  /**
   * Works on a software adapter, too.
   * @param {Character} character
   * @param {{precision?: Precision}} [options] of activations in memory; 'half' is 68 dB from float32 in the paper's
   *   student
   * @returns {Promise<WebGpuEngine>}
   * @throws {Error} one readable line
   */
  async create(character, { precision = 'half' } = {}) {
    const adapter = await findAdapter();
    if (typeof adapter === 'string') throw new Error(adapter);
    const plan = planOf(character, precision);
    checkLimits(plan, adapter);
    const device = await adapter.requestDevice();
    try {
      const scopes = /** @type {GPUErrorFilter[]} */ (['validation', 'out-of-memory', 'internal']);
      for (const scope of scopes) device.pushErrorScope(scope);
      const made = await make(device, plan).catch((error) => error);
      const errors = await Promise.all(scopes.map(() => device.popErrorScope()));
      const error = errors.find((found) => found) ?? (made instanceof Error ? made : null);
      if (error) throw new Error(`the GPU cannot take the character: ${firstLine(error.message)}`);
      const { name, isSoftware } = describe(adapter);
      return new WebGpuEngine(device, plan, made, isSoftware, `${name}, ${WORDS[precision]}`);
    } catch (error) {
      device.destroy();
      throw error;
    }
  },
};

const WORDS = { half: 'half precision', float32: 'float32' };

/** @param {string} text */
const firstLine = (text) => text.split('\n', 1)[0];

/**
 * @param {Plan} plan
 * @param {GPUAdapter} adapter
 */
function checkLimits(plan, adapter) {
  const most = Math.min(adapter.limits.maxStorageBufferBindingSize, 128 * 2 ** 20); // what a device has by default
  for (const [name, bytes] of plan.buffers) {
    if (bytes > most) {
      const [needed, there] = [bytes, most].map((size) => Math.round(size / 2 ** 20));
      throw new Error(`the character's ${name} would take ${needed} MB of the ${there} that a GPU buffer may have`);
    }
  }
}

/**
 * Makes buffers, pipelines and bind groups.
 * @param {GPUDevice} device
 * @param {Plan} plan
 * @returns {Promise<Made>}
 */
async function make(device, plan) {
  const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC;
  /** @type {Map<string, GPUBuffer>} */
  const buffers = new Map();
  for (const [label, size] of plan.buffers) buffers.set(label, device.createBuffer({ label, size, usage }));
  const pixels = plan.size * plan.size;
  buffers.set('pixels', device.createBuffer({ label: 'pixels', size: 4 * pixels, usage }));
  const read = GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST;
  buffers.set('read', device.createBuffer({ label: 'read', size: 16 * pixels, usage: read }));
  for (const [label, values] of plan.contents) {
    const data = /** @type {GPUAllowSharedBufferSource} */ (values);
    device.queue.writeBuffer(/** @type {GPUBuffer} */ (buffers.get(label)), 0, data);
  }
  /** @type {Map<string, Promise<GPUComputePipeline>>} equal shaders share one */
  const pipelines = new Map();
  const pipelineOf = (/** @type {string} */ label, /** @type {string} */ code) => {
    let pipeline = pipelines.get(code);
    if (!pipeline) {
      const compute = { module: device.createShaderModule({ label, code }), entryPoint: 'main' };
      pipeline = device.createComputePipelineAsync({ label, layout: 'auto', compute });
      pipelines.set(code, pipeline);
    }
    return pipeline;
  };
  const groupOf = (/** @type {GPUPipelineBase} */ pipeline, /** @type {Binding[]} */ bindings) =>
    device.createBindGroup({
      layout: pipeline.getBindGroupLayout(0),
      entries: bindings.map(({ buffer, offset, size }, binding) => ({
        binding,
        resource: { buffer: /** @type {GPUBuffer} */ (buffers.get(buffer)), offset, size },
      })),
    });
  /** @type {(step: Pick<Step, 'name' | 'bindings' | 'workgroups'>, code: string) => Promise<Dispatch>} */
  const dispatchOf = async ({ name, bindings, workgroups }, code) => {
    const pipeline = await pipelineOf(name, code);
    return { pipeline, group: groupOf(pipeline, bindings), workgroups };
  };
  const dispatchesOf = (/** @type {Step[]} */ steps) =>
    Promise.all(steps.map((step) => dispatchOf(step, shaderOf(step.kernel))));
  const posed = { buffer: 'posed', offset: 0, size: 16 * pixels };
  const encoding = {
    name: 'encode',
    bindings: [posed, { buffer: 'pixels', offset: 0, size: 4 * pixels }],
    workgroups: /** @type {[number, number]} */ ([Math.ceil(pixels / 64), 1]),
  };
  const module = device.createShaderModule({ label: 'present', code: presentShader(plan.size) });
  const [face, body, encode, pipeline] = await Promise.all([
    dispatchesOf(plan.face),
    dispatchesOf(plan.body),
    dispatchOf(encoding, encodeShader(plan.size)),
    device.createRenderPipelineAsync({
      label: 'present',
      layout: 'auto',
      vertex: { module, entryPoint: 'corner' },
      fragment: { module, entryPoint: 'pixel', targets: [{ format: navigator.gpu.getPreferredCanvasFormat() }] },
    }),
  ]);
  return { buffers, face, body, encode, present: { pipeline, group: groupOf(pipeline, [posed]) } };
}

/** @implements {Engine} */
export class WebGpuEngine {
  name = /** @type {const} */ ('webgpu');
  #device;
  #plan;
  #made;
  #canvas;
  #context;
  #shifts;
  /** @type {Float32Array | null} the pose whose face the picture holds */
  #facial = null;
  /** @type {Error | null} */
  #broken = null;
  /** @type {(error: Error) => void} ends the call that waits for the GPU */
  #abandon = () => {};

  /**
   * @param {GPUDevice} device
   * @param {Plan} plan
   * @param {Made} made
   * @param {boolean} isSoftware
   * @param {string} detail
   */
  constructor(device, plan, made, isSoftware, detail) {
    this.#device = device;
    this.#plan = plan;
    this.#made = made;
    this.isSoftware = isSoftware;
    this.detail = detail;
    this.#shifts = new Float32Array((plan.buffers.get('shifts') ?? 0) / 4);
    this.#canvas = new OffscreenCanvas(plan.size, plan.size);
    this.#context = /** @type {GPUCanvasContext} */ (this.#canvas.getContext('webgpu'));
    this.#context.configure({ device, format: navigator.gpu.getPreferredCanvasFormat(), alphaMode: 'premultiplied' });
    device.lost.then(({ message }) => this.#fail(new Error(`the GPU was lost (${firstLine(message)})`)));
    device.addEventListener('uncapturederror', ({ error }) => {
      this.#fail(new Error(`the GPU refuses to draw: ${firstLine(error.message)}`));
    });
  }

  /**
   * Draws a frame on the engine's own canvas, which shows it only until the task ends: hence `paint` is called at once.
   * @param {Float32Array} pose
   * @param {(source: CanvasImageSource) => void} paint
   */
  async render(pose, paint) {
    const encoder = this.#begin(pose);
    const { pipeline, group } = this.#made.present;
    const view = this.#context.getCurrentTexture().createView();
    const pass = encoder.beginRenderPass({
      colorAttachments: [{ view, loadOp: 'clear', storeOp: 'store', clearValue: [0, 0, 0, 0] }],
    });
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, group);
    pass.draw(3);
    pass.end();
    this.#submit(encoder, pose);
    paint(this.#canvas);
    await this.#settled(this.#device.queue.onSubmittedWorkDone());
  }

  /**
   * @param {Float32Array} pose
   * @returns {Promise<Pixels>}
   */
  async pixels(pose) {
    const encoder = this.#begin(pose);
    record(encoder, [this.#made.encode]);
    const data = new Uint8ClampedArray(await this.#read(encoder, pose, 'pixels'));
    return { width: this.#plan.size, height: this.#plan.size, data };
  }

  /**
   * The frame in network space, for comparisons; not while `render` is running.
   * @param {Float32Array} pose
   * @returns {Promise<Float32Array>} RGBA pixel by pixel, linear premultiplied in [-1, 1]
   */
  async posed(pose) {
    return new Float32Array(await this.#read(this.#begin(pose), pose, 'posed'));
  }

  destroy() {
    this.#fail(new Error('the engine was closed'));
    this.#context.unconfigure();
    this.#device.destroy();
  }

  /**
   * Records a frame's computation, without the face where it is the last frame's.
   * @param {Float32Array} pose
   */
  #begin(pose) {
    if (this.#broken) throw this.#broken;
    if (pose.length !== POSE_SIZE) throw new Error(`a pose of ${pose.length} values; expected ${POSE_SIZE}`);
    for (const { first, offset } of this.#plan.shifts) shiftOf(first, pose, this.#shifts.subarray(offset));
    this.#device.queue.writeBuffer(this.#buffer('shifts'), 0, this.#shifts);
    const encoder = this.#device.createCommandEncoder();
    const { face, body } = this.#made;
    record(encoder, sameFace(this.#facial, pose) ? body : [...face, ...body]);
    return encoder;
  }

  /**
   * @param {GPUCommandEncoder} encoder
   * @param {Float32Array} pose
   */
  #submit(encoder, pose) {
    this.#device.queue.submit([encoder.finish()]);
    this.#facial = pose.slice(0, FACIAL_SIZE);
  }

  /**
   * Submits, and brings a buffer's content back.
   * @param {GPUCommandEncoder} encoder
   * @param {Float32Array} pose
   * @param {string} name
   * @returns {Promise<ArrayBuffer>}
   */
  async #read(encoder, pose, name) {
    const [from, to] = [this.#buffer(name), this.#buffer('read')];
    encoder.copyBufferToBuffer(from, 0, to, 0, from.size);
    this.#submit(encoder, pose);
    await this.#settled(to.mapAsync(GPUMapMode.READ, 0, from.size));
    const content = to.getMappedRange(0, from.size).slice(0);
    to.unmap();
    return content;
  }

  /** @param {string} name */
  #buffer(name) {
    return /** @type {GPUBuffer} */ (this.#made.buffers.get(name));
  }

  /**
   * Waits for the GPU, no longer than it works.
   * @param {Promise<unknown>} work
   * @returns {Promise<void>}
   */
  #settled(work) {
    return new Promise((resolve, reject) => {
      this.#abandon = reject;
      work.then(
        () => (this.#broken ? reject(this.#broken) : resolve()),
        (error) => reject(this.#broken ?? error),
      );
    });
  }

  /** @param {Error} error after which nothing is drawn any more */
  #fail(error) {
    this.#broken ??= error;
    this.#abandon(this.#broken);
  }
}

/**
 * @param {GPUCommandEncoder} encoder
 * @param {Dispatch[]} dispatches
 */
function record(encoder, dispatches) {
  const pass = encoder.beginComputePass();
  for (const { pipeline, group, workgroups } of dispatches) {
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, group);
    pass.dispatchWorkgroups(...workgroups);
  }
  pass.end();
}

/**
 * @param {Float32Array | null} facial the first values of a pose
 * @param {Float32Array} pose
 */
const sameFace = (facial, pose) => facial !== null && facial.every((value, i) => value === pose[i]);
