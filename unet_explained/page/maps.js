// Maps of a run's words at any layer, head, step and half, after widgets/subject_maps.py: of steps
// that are kept as they are, of others by a forward again.

import { between } from "../widgets/over.js";
import { selfOf } from "./denoise.js";

const BUDGET = 256 * 2 ** 20; // bytes of steps that are kept

/** A map (height x width) in a size so many times as large, bilinear as torch resizes. */
function enlarged(map, [height, width], times) {
  if (times === 1) return map;
  const [across, down] = [between(width, times), between(height, times)];
  const large = new Float32Array(map.length * times * times);
  let at = 0;
  for (const [above, below, low] of down)
    for (const [left, right, along] of across) {
      const upper = map[above * width + left] * (1 - along) + map[above * width + right] * along;
      const lower = map[below * width + left] * (1 - along) + map[below * width + right] * along;
      large[at++] = upper * (1 - low) + lower * low;
    }
  return large;
}

/** The mean of maps, {map, size}, in the size of the largest. */
export function average(maps) {
  const size = maps.reduce((most, { size }) => (size[0] > most[0] ? size : most), [0, 0]);
  const sum = new Float32Array(size[0] * size[1]);
  for (const { map, size: own } of maps)
    enlarged(map, own, size[0] / own[0]).forEach((value, i) => (sum[i] += value / maps.length));
  return { map: sum, size };
}

/** Maps of one size as bytes, each from 0 to its own top: what an explorer's page takes. */
export function packed(maps, size) {
  const data = new Uint8Array(maps.length * size[0] * size[1]);
  const tops = maps.map((map, i) => {
    const top = map.reduce((one, other) => Math.max(one, other), 0);
    const scale = 255 / Math.max(top, 1e-12);
    map.forEach((value, j) => (data[i * map.length + j] = Math.round(value * scale)));
    return top;
  });
  return { content: { shape: [maps.length, ...size], tops, full: size }, buffers: [data] };
}

/** The layers that a choice names: one, or those of a pattern's stage. */
export function chosen(layers, pattern) {
  const start = pattern.replace(/\*$/, "");
  const fits = (name) => (start === pattern ? name === pattern : name.startsWith(start));
  const found = layers.filter(({ name }) => fits(name));
  if (!found.length) throw new Error(`there is no layer ${pattern}`);
  return found;
}

/** A layer's maps in what a forward gave: of each column the head's, or the mean of the heads. */
export function ofLayer({ data, dims }, row, count, head = null) {
  const [, heads, columns, pixels] = dims;
  return Array.from({ length: count }, (_, column) => {
    const of = (each) => {
      const start = ((row * heads + each) * columns + column) * pixels;
      return data.subarray(start, start + pixels);
    };
    if (head !== null) return of(head);
    const mean = new Float32Array(pixels);
    for (let each = 0; each < heads; each++)
      of(each).forEach((value, i) => (mean[i] += value / heads));
    return mean;
  });
}

/** The maps of a run, {batch, forwards: [{sample, timestep}]}; again(sample ...): a forward. */
export function wordMaps(run, layers, again) {
  const kept = new Map(), sums = new Map(), summed = new Set();
  const { rows } = run.batch;
  const rowOf = (half) => {
    const row = rows.findIndex(({ role }) => role === half);
    if (row < 0) throw new Error(`this run has no half ${half}`);
    return row;
  };
  const keep = (step, seen) => {
    const maps = new Map(layers.map(({ name }) => [name, seen[name]]));
    if (!summed.has(step)) for (const [name, map] of maps) add(sums, name, map);
    summed.add(step);
    kept.set(step, maps);
    const size = [...maps.values()].reduce((sum, { data }) => sum + data.byteLength, 0);
    while (kept.size > 1 && kept.size * size > BUDGET) kept.delete(kept.keys().next().value);
  };
  const replay = async (step) => {
    if (kept.has(step)) return;
    const { sample, timestep } = run.forwards[step];
    keep(step, await again(run.batch, sample, timestep));
  };
  const missing = (step) => [...run.forwards.keys()].filter((each) =>
    (step === null ? !summed.has(each) : each === step && !kept.has(each)));
  /** Means over layers, heads (null) and steps (null): of each column {map, size}. */
  const means = async (names, { head, step, half }) => {
    if (step !== null) await replay(step);
    const row = rowOf(half), count = rows[row].columns.length;
    const of = step === null ? sums : kept.get(step);
    const parts = names.map(({ name, size }) =>
      ({ size, maps: ofLayer(of.get(name), row, count, head) }));
    const share = step === null ? 1 / run.forwards.length : 1;
    return Array.from({ length: count }, (_, i) => {
      const { map, size } = average(parts.map(({ size, maps }) => ({ size, map: maps[i] })));
      return { map: map.map((value) => value * share), size };
    });
  };
  /** The same of the layers that a pattern names, as an explorer's page takes them. */
  const maps = async ({ layer, ...where }) => {
    const found = await means(chosen(layers, layer), where);
    return packed(found.map(({ map }) => map), found[0].size);
  };
  return { keep, replay, missing, means, maps };
}

function add(sums, name, { data, dims }) {
  if (!sums.has(name)) sums.set(name, { data: new Float32Array(data.length), dims });
  const all = sums.get(name).data;
  data.forEach((value, i) => (all[i] += value));
}

/** Where a pixel of the latents looks: layers count alike, though a coarse pixel covers several. */
export async function lookOf(run, layers, again, { row, column, layer, step, half }) {
  const [height, width] = run.batch.latents.slice(1), { sample, timestep } = run.forwards[step];
  const only = { ...run.batch, rows: run.batch.rows.filter(({ role }) => role === half) };
  const place = [(row + 0.5) / height, (column + 0.5) / width];
  const names = chosen(layers, layer);
  const outputs = names.map(({ name }) => selfOf(name));
  const seen = await again(only, sample, timestep, { place, outputs });
  const maps = names.map(({ name, size }) => {
    const { data, dims } = seen[selfOf(name)], [, heads, keys] = dims;
    const map = new Float32Array(keys);
    data.forEach((value, i) => (map[i % keys] += value / heads));
    return { map, size };
  });
  const most = Math.max(...maps.map(({ map }) => map.length));
  const found = average(maps.map(({ map, size }) =>
    ({ size, map: map.map((value) => (value * map.length) / most) })));
  return packed([found.map], found.size);
}
