// The page: a run that draws itself, which pixels look at which word, and the map of the U, on an
// engine of its own.

import { spoken } from "../widgets/spoken.js";
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

const INVITATION =
  "This run was saved with the page. Type a prompt and press Start: yours is made here.";
const at = (id) => document.getElementById(id);
const saved = JSON.parse(at("saved").textContent), { facts } = saved;
const { kept, map: packedMap, notices, ...networks } = partsOf(saved.sizes, saved.files);
const read = reader(facts.tokenizer);
// The parts stand at the document's end: the page is there before them.
const parsed = new Promise((resolve) => {
  if (document.readyState !== "loading") resolve();
  else document.addEventListener("DOMContentLoaded", resolve);
});

let forbidden = ""; // by a content policy: the last kind of part that it kept away
document.addEventListener("securitypolicyviolation", ({ effectiveDirective }) => {
  forbidden = effectiveDirective;
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
async function textOf(part) {
  await parsed;
  return new TextDecoder().decode(await inflated(part.chunks()));
}
/** The bytes of a place in what is unpacked; of the first sight they are there as text. */
const pool = async (place) =>
  (typeof place === "string" ? decode(place) : new Uint8Array(await unpacked(), ...place));
const mapUnpacked = once(async () => JSON.parse(await textOf(packedMap)));
const remake = once(() => remade(saved, { read, engine, pool }));
let last = { run: saved.run, timesteps: saved.run.timesteps, made: remake };

const aloud = spoken();
at("engine").after(aloud.element);

/** How far the engine is; "": it is there. */
function tell(words) {
  at("engine").textContent = words;
  at("engine").hidden = !words;
  aloud.tell(words, Boolean(words));
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
  at("of").textContent = `seed ${run.seed}, ${how}`;
  notebook(run);
}

/** The map of the run that was made last: {state, answer}. */
async function mapOfLast() {
  const map = await mapUnpacked(), { run, timesteps, activity = map.activity, made } = last;
  last.answer ??= mapAnswers({ map, facts, activity, made, png: pngOf });
  return { state: mapState(map, run, facts, timesteps, !whyNot()), answer: last.answer };
}

/** Answers what a live view asks of its map. */
async function aboutMap(asked) {
  const { state, answer } = await mapOfLast();
  return asked ? answer(asked) : { content: { state } };
}

/** A function that shows the map of the last run, where the one before it was left. */
async function mapShelf() {
  const { esm } = await mapUnpacked(), show = shelf(await scriptOf(esm), "map");
  let model = null;
  return async () => {
    const { state, answer } = await mapOfLast();
    for (const name of ["selected", "colour", "step"]) state[name] = model?.get(name) ?? state[name];
    state.step = Math.min(state.step, state.timesteps.length - 1);
    model = standIn({ state, answers: [] }, answer);
    show(model);
  };
}

/** The licences, unpacked when they are first looked at. */
function openNotices() {
  const words = at("notices").lastElementChild;
  at("notices").addEventListener("toggle", async () => {
    words.textContent ||= await textOf(notices).catch(({ message }) => whyNot() || message);
  });
}

async function open() {
  const [live, explorer] = await Promise.all([saved.live.esm, saved.explorer.esm].map(scriptOf));
  const show = shelf(explorer, "explorer");
  const before = standIn({ ...saved.explorer, answers: [] }, savedAnswers(saved, remake, pool));
  let showMap = () => {}; // until it is unpacked
  const done = async (run, maps, again) => {
    const state = await exploredState(run, maps, facts, before.get);
    show(standIn({ state, answers: [] }, answering(run, facts, maps, again)));
    headed(run, "made in this page");
    const [timesteps, activity] = ["timestep", "activity"].map((name) =>
      run.forwards.map((forward) => forward[name]));
    last = { run, timesteps, activity, made: async () => ({ run, maps, again }) };
    await showMap();
  };
  const frames = saved.frames.map(({ content, buffers }) =>
    async () => ({ content, buffers: await Promise.all(buffers.map(pool)) }));
  const { answer, bind } = runner({ facts, frames, engine, read, done, map: aboutMap });
  const model = standIn({ ...saved.live, answers: [] }, answer);
  bind(model);
  if (!whyNot()) model.set("note", INVITATION);
  live.render({ model, el: at("live") });
  show(before);
  headed(saved.run, "saved with this page");
  const count = threads();
  const runs = `Here it runs on ${count === 1 ? "one thread" : `${count} threads`}.`;
  at("state").textContent = whyNot() || runs;
  at("fallback").remove();
  document.body.classList.add("ux-ready");
  openNotices();
  if (saved.files) isolate();
  try {
    showMap = await mapShelf();
    await showMap();
  } catch ({ message }) {
    at("map").textContent = `The map is not shown: ${whyNot() || message}`;
  }
}

open().catch(({ message }) => {
  const why = forbidden ? `the content policy of this page's host forbids its ${forbidden}` : message;
  at("state").textContent = `The views are not shown: ${why}`;
});
