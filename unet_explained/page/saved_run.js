// The run that was saved with the page: what was kept of it, and on an engine all the rest.

import { answering } from "./about.js";
import { forward, prepared } from "./denoise.js";
import { wordMaps } from "./maps.js";

/** Answers an explorer's questions of the saved run; pool: the bytes of a place, unpacked. */
export function savedAnswers({ run, explorer, facts }, { read, engine, pool }) {
  const key = JSON.stringify;
  const kept = new Map(explorer.kept.map(([asked, ...found]) => [key(asked), found]));
  let ready = null;
  const anew = async () => {
    const running = await engine(), again = (...given) => forward(running, ...given);
    const batch = await prepared(running, facts, read(run.prompt), read(""), run);
    const forwards = await Promise.all(run.timesteps.map(async (timestep, i) =>
      ({ timestep, sample: new Float32Array((await pool(run.samples[i])).slice().buffer) })));
    const made = { batch, forwards };
    return answering(made, facts, wordMaps(made, facts.layers, again), again);
  };
  return async (asked) => {
    const [content, places] = kept.get(key(asked)) ?? [];
    if (content) return { content, buffers: await Promise.all(places.map(pool)) };
    ready ??= anew().catch((error) => {
      ready = null; // it may be tried again
      throw error;
    });
    return (await ready)(asked);
  };
}
