// What a live view draws of one step, after widgets/live_frames.py: bytes and what they are.

import { average, ofLayer } from "./maps.js";
import { ROLES } from "./denoise.js";

/** content and buffers of a step; facts: what the page was built with. left: seconds. */
export function frameOf(step, batch, facts, left) {
  const { latents: [, height, width], rows } = batch, size = [height, width];
  const words = mapsOf(step.seen, rows, facts), maps = levels(words.map(({ map }) => map));
  const activity = levels(Array.from(step.seen.activity.data, (value) => [value]));
  const look = (values) => rough(values, facts.latent_rgb);
  const beside = [["what it is given", step.sample], ["what it predicts", step.prediction]];
  const content = {
    step: step.index, total: step.total, timestep: step.timestep, left,
    about: "the picture, as foreseen", preview: size,
    beside: beside.map(([about]) => ({ about, size })),
    maps: [words.length, ...(words[0]?.size ?? [1, 1])], top: maps.top,
    modules: facts.parts, strongest: activity.top,
    lost: { maps: maps.lost, modules: activity.lost.map((i) => facts.parts[i]) },
  };
  const pictures = beside.map(([, values]) => look(values));
  return { content, buffers: [look(step.denoised), maps.data, activity.data, ...pictures] };
}

/** Of each word of the prompt, the mean of the heads and of the layers that a live view draws. */
function mapsOf(seen, rows, { layers, drawn }) {
  const row = rows.findIndex(({ role }) => role === ROLES[0]), { columns } = rows[row];
  const parts = layers.filter(({ name }) => drawn.includes(name)).map(({ name, size }) =>
    ({ size, maps: ofLayer(seen[name], row, columns.length) }));
  return columns.flatMap(({ kind }, i) =>
    (kind === "word" ? [average(parts.map(({ size, maps }) => ({ size, map: maps[i] })))] : []));
}

/** As bytes of the largest finite number, that number, and which are not finite. */
function levels(rows) {
  const lost = [...rows.keys()].filter((i) => !rows[i].every(Number.isFinite));
  const finite = (value) => (Number.isFinite(value) ? value : 0);
  const whole = rows.map((row) => Array.from(row, finite));
  const all = whole.flat(), top = all.reduce((one, other) => Math.max(one, other), 0);
  const data = Uint8Array.from(all, (value) => Math.round((value / (top || 1)) * 255));
  return { data, top, lost };
}

/** Latents in rough colours: a linear map of each pixel; its last row is the colour of zeros. */
export function rough(values, rgb) {
  const [zero, factors] = [rgb.at(-1), rgb.slice(0, -1)], pixels = values.length / factors.length;
  const data = new Uint8ClampedArray(3 * pixels);
  for (let pixel = 0; pixel < pixels; pixel++)
    for (let colour = 0; colour < 3; colour++) {
      const parts = factors.map((row, i) => row[colour] * values[i * pixels + pixel]);
      const value = parts.reduce((sum, part) => sum + part, zero[colour]);
      data[3 * pixel + colour] = (Number.isFinite(value) ? value / 2 + 0.5 : 0.5) * 255;
    }
  return new Uint8Array(data.buffer);
}

/** A picture (rgb, height, width) from -1 to 1 as bytes, three a pixel. */
export function pixelsOf({ data, dims }) {
  const [, , ...size] = dims, pixels = size[0] * size[1], bytes = new Uint8ClampedArray(3 * pixels);
  for (let i = 0; i < pixels; i++)
    for (let colour = 0; colour < 3; colour++)
      bytes[3 * i + colour] = (data[colour * pixels + i] / 2 + 0.5) * 255;
  return { size, data: bytes };
}

/** A picture {size, data}, of three bytes a pixel, as the bytes of a PNG. */
export async function pngOf({ size: [height, width], data }) {
  const canvas = Object.assign(document.createElement("canvas"), { height, width });
  const context = canvas.getContext("2d"), image = context.createImageData(width, height);
  for (let i = 0; i < height * width; i++)
    image.data.set([...data.subarray(3 * i, 3 * i + 3), 255], 4 * i);
  context.putImageData(image, 0, 0);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  return new DataView(await blob.arrayBuffer());
}
