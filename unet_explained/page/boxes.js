// What answers the map of the U of a run, after widgets/umap.py.

import { ROLES } from "./denoise.js";
import { featureTiles, smallPicture, wordTiles } from "./tiles.js";

const CHANNELS = 11;

/** How active each part was, by its name; what is not finite is null. */
export function activityOf({ activity: { data } }, parts) {
  const known = (value) => (Number.isFinite(value) ? Number(value.toPrecision(4)) : null);
  return Object.fromEntries(parts.map((name, i) => [name, known(data[i])]));
}

/** The map's state for a run; without an engine there is no forward again. */
export function mapState(map, run, facts, timesteps, engine) {
  const state = map.states[run.guidance > 1 ? 2 : 1];
  const drawn = facts.parts.filter((name) => isMap(state.modules[name]));
  return {
    ...state, title: `“${run.prompt}”`, timesteps,
    answers: {
      through: engine, activity: true, features: engine ? drawn : [], cross: engine, self: false,
    },
  };
}

const isMap = ({ axes }) => axes.some(([axis]) => axis === "height");

/**
 * Answers its questions. activity: of each step; made(): the run with all that a forward again
 * takes, {run, maps, again}; png: makes a file of a picture {size, data}.
 */
export function mapAnswers({ map, facts, activity, made, png }) {
  const { parts, layers } = facts, { modules } = map.states[2];
  const drawn = parts.filter((name) => isMap(modules[name]));
  const forward = async (step, outputs) => {
    const { run, again } = await made(), { sample, timestep } = run.forwards[step];
    const rows = run.batch.rows.filter(({ role }) => role === ROLES[0]);
    return again({ ...run.batch, rows }, sample, timestep, { outputs });
  };
  let seen = { name: null, step: null, features: null };
  const answers = {
    source: async ({ source }) => ({ content: map.sources[source] }),
    activity: async ({ activity: step }) => ({ content: activity[step] }),
    through: async ({ through: step }) => {
      const found = await forward(step, drawn);
      return filed({ names: drawn }, drawn.map((name) => smallPicture(found[name])), png);
    },
    features: async ({ features: name, step, first }) => {
      if (seen.name !== name || seen.step !== step)
        seen = { name, step, features: (await forward(step, [name]))[name] };
      const { texts, pictures } = featureTiles(seen.features, first, CHANNELS, map.colours.signed);
      const count = seen.features.dims[1];
      return filed({ texts, count, next: first + CHANNELS }, pictures, png);
    },
    attention: async ({ attention: name, step }) => {
      const names = crossesOf(modules, name), { run, maps } = await made();
      const found = await maps.means(layers.filter((layer) => names.includes(layer.name)),
        { head: null, step, half: ROLES[0] });
      const { columns } = run.batch.rows.find(({ role }) => role === ROLES[0]);
      const words = columns.flatMap(({ kind, text }, i) =>
        (kind === "word" ? [{ text, ...found[i] }] : []));
      if (!words.length) throw new Error("The prompt has no words to look at.");
      const { texts, pictures } = wordTiles(words, map.colours.attention);
      const content = { texts: ["the picture", ...texts], kind: "cross", layers: names };
      const { buffers } = await filed(content, pictures, png);
      return { content, buffers: [run.picture, ...buffers] };
    },
  };
  return (asked) => answers[Object.keys(answers).find((kind) => kind in asked)](asked);
}

async function filed(content, pictures, png) {
  return { content, buffers: await Promise.all(pictures.map(png)) };
}

/** The cross-attentions in a module, or else those that it is in. */
function crossesOf(modules, name) {
  const within = (inner, outer) => `${inner}.`.startsWith(`${outer}.`);
  const all = Object.keys(modules).filter((each) => modules[each].cross);
  const inside = all.filter((each) => within(each, name));
  return inside.length ? inside : all.filter((each) => within(name, each));
}
