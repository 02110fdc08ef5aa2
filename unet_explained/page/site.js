// The page: a run that draws itself, which pixels look at which word, and the map of the U, on an
// engine of its own.

import { decode, scriptOf, standIn } from "../widgets/stand_in.js";
import { answering, exploredState } from "./about.js";
import { mapAnswers, mapState } from "./boxes.js";
import { inflated, started, threads, whyNot } from "./engine.js";
import { pngOf } from "./frames.js";
import { isolate } from "./isolate.js";
import { partsOf } from "./parts.js";
import { runner } from "./runner.js";
import { remade, savedAnswers } from "./saved_run.js";
import { reader } from "./tokenizer.js";

const at = (id) => document.getElementById(id);
const saved = JSON.parse(at("saved").textContent), { facts } = saved;
const { kept, map: packedMap, ...networks } = partsOf(saved.sizes, saved.files);
const read = reader(facts.tokenizer);
// The parts stand at the document's end: the page is there before them.
const parsed = new Promise((resolve) => {
  if (document.readyState !== "loading") resolve();
  else document.addEventListener("DOMContentLoaded", resolve);
});

/** What is made once, when it is first asked for; again if it failed. */
function once(make) {
  let made = null;
  return () => (made ??= make().catch((error) => {
    made = null;
    throw error;
  }));
}

const engine = once(async () => {
  if (whyNot()) throw new Error(whyNot());
  await parsed;
  try {
    return await started(networks, at("worker").textContent, tell);
  } catch (error) {
    throw new Error(`the model cannot be started here: ${error.message}`);
  } finally {
    tell("");
  }
});
const unpacked = once(() => parsed.then(() => inflated(kept.chunks())));
/** The bytes of a place in what is unpacked; of the first sight they are there as text. */
const pool = async (place) =>
  (typeof place === "string" ? decode(place) : new Uint8Array(await unpacked(), ...place));
const remake = once(() => remade(saved, { read, engine, pool }));

function tell(words) {
  at("engine").textContent = words;
  at("engine").hidden = !words;
}

/** The same run in Python. A JSON string is one of Python's, too. */
function notebook({ prompt, seed, steps, guidance }) {
  const told = [JSON.stringify(prompt), `seed=${seed}`, `steps=${steps}`, `guidance=${guidance}`];
  const lines = ["import unet_explained as ux", `run = ux.load()(${told.join(", ")})`, "run.image"];
  at("code").textContent = lines.join("\n");
}

/** A view's place: one run's after the other. */
function shelf(view, id) {
  let leave = () => {};
  return (model) => {
    leave();
    at(id).replaceChildren();
    leave = view.render({ model, el: at(id) });
  };
}

function headed(run, how) {
  at("of").textContent = `“${run.prompt}”, seed ${run.seed}, ${how}`;
  notebook(run);
}

/** The map of the U, once it is unpacked: of the run of `last`, and then of each that is made. */
async function openMap(last) {
  await parsed;
  const map = JSON.parse(new TextDecoder().decode(await inflated(packedMap.chunks())));
  const show = shelf(await scriptOf(map.esm), "map"), runs = !whyNot();
  let model = null;
  last.hear(({ run, timesteps, activity, made }) => {
    const before = ["selected", "colour", "step"].map((name) => [name, model?.get(name)]);
    const state = mapState(map, run, facts, timesteps, runs, Object.fromEntries(before));
    const given = { map, facts, activity: activity ?? map.activity, made, png: pngOf };
    model = standIn({ state, answers: [] }, mapAnswers(given));
    show(model);
  });
}

/** What was made last, and who hears of it. */
function latest(first) {
  let value = first, hear = () => {};
  return {
    set: (next) => hear((value = next)),
    hear: (listener) => (hear = listener)(value),
  };
}

async function open() {
  const [live, explorer] = await Promise.all([saved.live.esm, saved.explorer.esm].map(scriptOf));
  const show = shelf(explorer, "explorer");
  const before = standIn({ ...saved.explorer, answers: [] }, savedAnswers(saved, remake, pool));
  const last = latest({ run: saved.run, timesteps: saved.run.timesteps, made: remake });
  const done = async (run, maps, again) => {
    const state = await exploredState(run, maps, facts, before.get);
    show(standIn({ state, answers: [] }, answering(run, facts, maps, again)));
    headed(run, "made in this page");
    const [timesteps, activity] = ["timestep", "activity"].map((name) =>
      run.forwards.map((forward) => forward[name]));
    last.set({ run, timesteps, activity, made: async () => ({ run, maps, again }) });
  };
  const frames = saved.frames.map(({ content, buffers }) =>
    async () => ({ content, buffers: await Promise.all(buffers.map(pool)) }));
  const { answer, bind } = runner({ facts, frames, engine, read, done });
  const model = standIn({ ...saved.live, answers: [] }, answer);
  bind(model);
  live.render({ model, el: at("live") });
  show(before);
  headed(saved.run, "saved with this page");
  const count = threads();
  const runs = `Here it runs on ${count === 1 ? "one thread" : `${count} threads`}.`;
  at("state").textContent = whyNot() || runs;
  at("fallback").remove();
  if (saved.files) isolate();
  await openMap(last).catch(({ message }) => {
    at("map").textContent = `The map is not shown: ${message}`;
  });
}

open().catch(({ message }) => {
  at("state").textContent = `This browser does not show the views: ${message}`;
});
