// The page: a run that draws itself, and which pixels look at which word, on an engine of its own.

import { decode, scriptOf, standIn } from "../widgets/stand_in.js";
import { answering, exploredState } from "./about.js";
import { forward } from "./denoise.js";
import { inflated, started, threads, whyNot } from "./engine.js";
import { isolate } from "./isolate.js";
import { partsOf } from "./parts.js";
import { runner } from "./runner.js";
import { savedAnswers } from "./saved_run.js";
import { reader } from "./tokenizer.js";

const at = (id) => document.getElementById(id);
const saved = JSON.parse(at("saved").textContent), { facts } = saved;
const { kept, ...networks } = partsOf(saved.sizes, saved.files);
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

/** The explorer's place: one run's view after the other. */
function shelf(view) {
  let leave = () => {};
  return (model, run, how) => {
    leave();
    at("explorer").replaceChildren();
    at("of").textContent = `“${run.prompt}”, seed ${run.seed}, ${how}`;
    leave = view.render({ model, el: at("explorer") });
    notebook(run);
  };
}

async function open() {
  const [live, explorer] = await Promise.all([saved.live.esm, saved.explorer.esm].map(scriptOf));
  const show = shelf(explorer);
  const answers = savedAnswers(saved, { read, engine, pool });
  const before = standIn({ ...saved.explorer, answers: [] }, answers);
  const done = async (run, maps) => {
    const again = async (...given) => forward(await engine(), ...given);
    const state = await exploredState(run, maps, facts, before.get);
    const model = standIn({ state, answers: [] }, answering(run, facts, maps, again));
    show(model, run, "made in this page");
  };
  const frames = saved.frames.map(({ content, buffers }) =>
    async () => ({ content, buffers: await Promise.all(buffers.map(pool)) }));
  const { answer, bind } = runner({ facts, frames, engine, read, done });
  const model = standIn({ ...saved.live, answers: [] }, answer);
  bind(model);
  live.render({ model, el: at("live") });
  show(before, saved.run, "saved with this page");
  const count = threads();
  const runs = `Here it runs on ${count === 1 ? "one thread" : `${count} threads`}.`;
  at("state").textContent = whyNot() || runs;
  at("fallback").remove();
  if (saved.files) isolate();
}

open().catch(({ message }) => {
  at("state").textContent = `This browser does not show the views: ${message}`;
});
