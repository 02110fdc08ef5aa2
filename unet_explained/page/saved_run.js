// The run that was saved with the page: what was kept of it, and on an engine all the rest.

import { answering } from "./about.js";
import { forward, prepared } from "./denoise.js";
import { wordMaps } from "./maps.js";
import { decode } from "../widgets/stand_in.js";

/** The run as one made here, {run, maps, again}; pool: the bytes of a place, unpacked. */
export async function remade({ run, live, facts }, { read, engine, pool }) {
  const running = await engine(), again = (...given) => forward(running, ...given);
  const batch = await prepared(running, facts, read(run.prompt), read(""), run);
  const forwards = await Promise.all(run.timesteps.map(async (timestep, i) =>
    ({ timestep, sample: new Float32Array((await pool(run.samples[i])).slice().buffer) })));
  const made = { batch, forwards, picture: decode(live.state.picture.bytes) };
  return { run: made, maps: wordMaps(made, facts.layers, again), again };
}

/** Answers an explorer's questions of it; remake(): it, remade once. */
export function savedAnswers({ explorer, facts }, remake, pool) {
  const key = JSON.stringify;
  const kept = new Map(explorer.kept.map(([asked, ...found]) => [key(asked), found]));
  let answer = null;
  return async (asked) => {
    const [content, places] = kept.get(key(asked)) ?? [];
    if (content) return { content, buffers: await Promise.all(places.map(pool)) };
    const { run, maps, again } = await remake();
    answer ??= answering(run, facts, maps, again);
    return answer(asked);
  };
}
