// Page side of run.py: times an engine of the player, or ONNX Runtime Web, on poses whose faces change or stand.

// Modules are imported within functions, so that the text of this one can be evaluated in a page that lacks it.

/** @param {number[]} sorted @param {number} share */
const quantile = (sorted, share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];

/**
 * Times a call a pose.
 * @param {(pose: Float32Array) => Promise<void>} draw
 * @param {Float32Array[]} poses
 * @param {number} seconds
 */
async function time(draw, poses, seconds) {
  const times = [];
  const began = performance.now();
  for (let i = 0; times.length < 2 || performance.now() - began < 1000 * seconds; i++) {
    const start = performance.now();
    await draw(poses[i % poses.length]);
    times.push(performance.now() - start);
  }
  const whole = performance.now() - began;
  const sorted = [...times].sort((a, b) => a - b);
  return { frames: times.length, fps: (1000 * times.length) / whole, ms: quantile(sorted, 0.5), p95: quantile(sorted, 0.95) };
}

/**
 * @param {{engine: string, character: string, options: object, poses: number[][], still: boolean, seconds: number}} task
 */
export async function measure({ engine: name, character: address, options, poses: given, still, seconds }) {
  const began = performance.now();
  const { fetchCharacter } = await import('./character.js');
  const { FACIAL_SIZE } = await import('./pose.js');
  const character = await fetchCharacter(address);
  const kinds = { wasm: './engines/wasm.js', webgpu: './engines/webgpu.js', native: './engines/native.js' };
  const engine = await (await import(kinds[name]))[name].create(character, options);
  const poses = given.map((pose) => Float32Array.from(pose));
  if (still) for (const pose of poses) pose.set(poses[0].subarray(0, FACIAL_SIZE));
  const context = new OffscreenCanvas(character.size, character.size).getContext('2d');
  const draw = (pose) => engine.render(pose, (source) => context.drawImage(source, 0, 0));
  await draw(poses[0]);
  const first = performance.now() - began;
  const found = await time(draw, poses, seconds);
  engine.destroy();
  return { ...found, detail: engine.detail, first };
}

/** @param {{model: string, poses: number[][], seconds: number}} task */
export async function measureOnnx({ model, poses: given, seconds }) {
  const began = performance.now();
  const ort = await import('./ort/ort.wasm.min.mjs');
  ort.env.wasm.wasmPaths = new URL('./ort/', document.baseURI).href;
  ort.env.wasm.numThreads = 1; // threads need isolation headers, which a static host rarely sends
  const session = await ort.InferenceSession.create(model, { executionProviders: ['wasm'] });
  const poses = given.map((pose) => Float32Array.from(pose));
  const draw = async (pose) => {
    const { rgba } = await session.run({ pose: new ort.Tensor('float32', pose, [1, 45]) });
    if (rgba.data.length !== 512 * 512 * 4) throw new Error('a frame of another size');
  };
  await draw(poses[0]);
  const first = performance.now() - began;
  const found = await time(draw, poses, seconds);
  await session.release();
  return { ...found, detail: `onnxruntime-web ${ort.env.versions.web}, 1 thread`, first };
}
