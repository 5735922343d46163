// Painting shaders: WGSL that warps and paints the picture, and that shows a frame or turns it into bytes.

import { PICTURE } from './webgpu_plan.js';

/**
 * Declares `paint`, which writes a pixel of the frame: its position moved by the grid change, the picture there
 * (bilinear, the border repeats), painted over. `motion` is grid change x, y, alpha, red; `rest` green, blue, alpha of
 * the colours.
 * @param {number} size side of the frame
 */
export const painting = (size) => `
fn paint(x: u32, y: u32, motion: vec4f, rest: vec4f) {
  let place = vec2f(f32(2u * x + 1u), f32(2u * y + 1u)) / ${size}.0 - 1.0 + motion.xy;
  let far = vec2f(${PICTURE - 1}.0);
  let exact = clamp((clamp(place, vec2f(-2.0), vec2f(2.0)) + 1.0) * ${PICTURE / 2}.0 - 0.5, vec2f(0.0), far);
  let low = floor(exact);
  let part = exact - low;
  let corner = u32(low.y) * ${PICTURE}u + u32(low.x);
  let right = select(0u, 1u, low.x < far.x);
  let down = select(0u, ${PICTURE}u, low.y < far.y);
  let upper = mix(image[corner], image[corner + right], part.x);
  let lower = mix(image[corner + down], image[corner + down + right], part.x);
  posed[y * ${size}u + x] = mix(mix(upper, lower, part.y), vec4f(motion.w, rest.xyz), motion.z);
}`;

/**
 * Declares `encoded`: a pixel from network space to straight sRGB; red, green and blue are 0 where alpha is.
 * @param {number} size side of the frame
 */
const encoding = (size) => `
@group(0) @binding(0) var<storage, read> posed: array<vec4f, ${size * size}>;
fn encoded(index: u32) -> vec4f {
  let unit = clamp(posed[index] * 0.5 + 0.5, vec4f(0.0), vec4f(1.0));
  let straight = select(vec3f(0.0), clamp(unit.rgb / max(unit.a, 1e-6), vec3f(0.0), vec3f(1.0)), unit.a > 0.0);
  let threshold = vec3f(0.003130804953560372);
  let curve = 1.055 * pow(max(straight, threshold), vec3f(1.0 / 2.4)) - 0.055;
  return vec4f(select(curve, 12.92 * straight, straight <= threshold), unit.a);
}`;

/**
 * Shows a frame on a canvas, whose colours are sRGB values times alpha.
 * @param {number} size side of the frame
 * @returns {string} WGSL with the entry points `corner` and `pixel`
 */
export const presentShader = (size) => `${encoding(size)}
@vertex fn corner(@builtin(vertex_index) i: u32) -> @builtin(position) vec4f {
  return vec4f(f32(i & 1u) * 4.0 - 1.0, f32(i >> 1u) * 4.0 - 1.0, 0.0, 1.0); // one triangle over all
}
@fragment fn pixel(@builtin(position) place: vec4f) -> @location(0) vec4f {
  let colour = encoded(u32(place.y) * ${size}u + u32(place.x));
  return vec4f(colour.rgb * colour.a, colour.a);
}
`;

/**
 * A frame as bytes: straight sRGB RGBA, a pixel a word.
 * @param {number} size side of the frame
 * @returns {string} WGSL with the entry point `main`
 */
export const encodeShader = (size) => `${encoding(size)}
@group(0) @binding(1) var<storage, read_write> pixels: array<u32, ${size * size}>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x < ${size * size}u) { pixels[id.x] = pack4x8unorm(encoded(id.x)); }
}
`;
