// A live view's questions, answered here: start, stop, and the steps that were made.

import { check, doubtOf, notesOf } from "./asked.js";
import { firstThing } from "./about.js";
import { activityOf } from "./boxes.js";
import { denoise, forward, prepared } from "./denoise.js";
import { frameOf, pixelsOf, pngOf } from "./frames.js";
import { wordMaps } from "./maps.js";

/**
 * Answers a live view, whose model is set by `bind`. frames: functions that give them; engine():
 * started if need be; read(text): the tokenizer; done(run, maps, again): hears of each finished
 * run; map(asked): answers for the map of the U.
 */
export function runner({ facts, frames, engine, read, done, map }) {
  const page = { facts, engine, read, done, frames, model: null, current: null };
  const answer = async (asked) => {
    if (asked.start) return begin(page, asked.start);
    if (asked.stop && page.current) page.current.stopped = true;
    if ("map" in asked) return map(asked.map);
    if ("frame" in asked) return (page.frames[asked.frame] ?? none)();
    return { content: {} };
  };
  return { answer, bind: (model) => { page.model = model; } };
}

const AGAIN = "not run yet: to run it anyway, press Start again";
const none = () => Promise.reject(new Error("there is no such step yet"));

function begin(page, { prompt, seed, steps, guidance }) {
  const { model, facts } = page;
  const asked = { prompt, seed, steps, guidance: guidance ?? facts.guidance };
  check(asked);
  if (page.current) page.current.stopped = true;
  const current = { stopped: false, before: page.working }, text = page.read(prompt);
  const doubt = doubtOf(text, facts.palette);
  if (doubt && page.doubted !== prompt) {
    page.doubted = prompt;
    model.set("note", `${AGAIN}: ${doubt}`);
    return { content: {} };
  }
  page.current = current;
  page.frames = [];
  const words = text.words.map((word) => word.text);
  const state = {
    count: 0, ...asked, words, picture: null, first: firstThing(words, facts.links), note: "",
    status: "running",
  };
  for (const [name, value] of Object.entries(state)) model.set(name, value);
  page.working = work(page, current, asked, text);
  return { content: {} };
}

async function work(page, current, asked, text) {
  const told = (name, value) => current === page.current && page.model.set(name, value);
  await current.before; // the run before this one, which stops between two steps
  try {
    await run(page, current, asked, text, told);
    told("status", current.stopped ? "stopped" : "finished");
  } catch (error) {
    told("note", `the run failed: ${error.message}`);
    told("status", "failed");
  }
}

async function run(page, current, asked, text, told) {
  const { facts } = page;
  told("note", notesOf(text, facts.palette).join("; "));
  const engine = await page.engine();
  if (current.stopped) return;
  const batch = await prepared(engine, facts, text, page.read(""), asked);
  const made = { ...asked, batch, forwards: [] }, again = (...given) => forward(engine, ...given);
  const maps = wordMaps(made, facts.layers, again), began = performance.now();
  let latents;
  for await (const step of denoise(engine, batch, asked, facts.alphas)) {
    latents = step.latents;
    const { sample, denoised, timestep, seen } = step;
    made.forwards.push({ sample, denoised, timestep, activity: activityOf(seen, facts.parts) });
    maps.keep(step.index, step.seen);
    if (current.stopped) return;
    show(page, step, batch, began);
  }
  const tensor = { type: "float32", data: latents, dims: [1, ...batch.latents] };
  const { picture } = await engine.run("vae", { latents: tensor });
  made.picture = await pngOf(pixelsOf(picture));
  if (current.stopped) return;
  told("picture", made.picture);
  await page.done(made, maps, again);
}

function show(page, step, batch, began) {
  const done = step.index + 1, seconds = (performance.now() - began) / 1000;
  const left = (seconds / done) * (step.total - done);
  const { content, buffers } = frameOf(step, batch, page.facts, left);
  const frame = { content: { ...content, index: page.frames.length }, buffers };
  page.frames.push(async () => frame);
  page.model.tell("msg:custom", { frame: frame.content }, buffers);
  page.model.set("count", page.frames.length);
}
