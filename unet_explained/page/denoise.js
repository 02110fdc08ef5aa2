// The sampling loop, after run/denoise.py: a prompt, the start noise, a forward and a step of DDIM.

import { randn } from "./random.js";
import { advance, guided, timesteps } from "./ddim.js";

export const ROLES = ["conditional", "unconditional"];
const CORNER = { type: "float32", data: new Float32Array(2), dims: [2] };

/** What a run is of, read: rows, the texts of the batch, each with its role and embedding. */
export async function prepared(engine, facts, prompt, empty, { guidance }) {
  const roles = guidance > 1 ? [...ROLES].reverse() : ROLES.slice(0, 1);
  const rows = [];
  for (const role of roles) {
    const text = role === ROLES[0] ? prompt : empty, { ids } = text;
    const tensor = { type: "int64", data: BigInt64Array.from(ids, BigInt), dims: [1, ids.length] };
    const { context } = await engine.run("text", { ids: tensor });
    rows.push({ role, text, columns: columnsOf(text, ids.length), context: context.data });
  }
  const layers = facts.layers.flatMap(({ name }) => [name, selfOf(name)]);
  const { tokens, width, latents } = facts;
  return { rows, tokens, width, latents, outputs: ["prediction", "activity", ...layers] };
}

/** The self-attention beside a cross-attention. */
export const selfOf = (name) => name.replace(/attn2$/, "attn1");

/** Each token stands in exactly one column: the start's, its word's, or that of the rest. */
export function columnsOf(text, count) {
  const words = text.words.map(({ text, tokens }) => ({ text, kind: "word", tokens }));
  const used = new Set(words.flatMap(({ tokens }) => tokens));
  const [start, ...rest] = Array.from({ length: count }, (_, i) => i).filter((i) => !used.has(i));
  return [
    { text: "start", kind: "start", tokens: [start] }, ...words,
    { text: "the rest", kind: "rest", tokens: rest },
  ];
}

/** A forward on some rows, with what the network is asked to show. place: a pixel, as shares. */
export async function forward(engine, batch, sample, timestep, { place, outputs } = {}) {
  const { rows, tokens, width, latents } = batch;
  const count = rows.length, most = Math.max(...rows.map(({ columns }) => columns.length));
  const columns = new Float32Array(count * tokens * most);
  rows.forEach((row, i) => row.columns.forEach((column, j) => {
    for (const token of column.tokens) columns[(i * tokens + token) * most + j] = 1;
  }));
  const tensor = (data, ...dims) => ({ type: "float32", data, dims });
  return engine.run("unet", {
    sample: tensor(repeated(rows.map(() => sample)), count, ...latents),
    timestep: tensor(Float32Array.of(timestep), 1),
    context: tensor(repeated(rows.map(({ context }) => context)), count, tokens, width),
    columns: tensor(columns, count, tokens, most),
    place: place ? tensor(Float32Array.from(place), 2) : CORNER,
  }, outputs ?? batch.outputs);
}

function repeated(arrays) {
  const all = new Float32Array(arrays.length * arrays[0].length);
  arrays.forEach((array, i) => all.set(array, i * array.length));
  return all;
}

/** Step after step; `seen` is what a forward gave. */
export async function* denoise(engine, batch, { steps, guidance, seed }, alphas) {
  const size = batch.latents.reduce((product, side) => product * side);
  let latents = randn(seed, size);
  const times = timesteps(steps), total = times.length;
  for (const [index, timestep] of times.entries()) {
    const sample = latents, seen = await forward(engine, batch, sample, timestep);
    const parts = batch.rows.map((_, i) => seen.prediction.data.subarray(i * size, (i + 1) * size));
    const prediction = parts.length > 1 ? guided(...parts, guidance) : parts[0];
    const step = advance(sample, prediction, timestep, steps, alphas);
    latents = step.latents;
    yield { index, total, timestep, sample, prediction, latents, denoised: step.clean, seen };
  }
}
