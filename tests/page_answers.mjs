// What the page's scripts say of a run whose numbers come from Python: test_page_answers.py.

import { readFileSync } from "node:fs";
const given = JSON.parse(readFileSync(process.argv[2]));
const { reader } = await import(given.modules.tokenizer);
const { columnsOf } = await import(given.modules.denoise);
const { wordMaps } = await import(given.modules.maps);
const { frameOf } = await import(given.modules.frames);
const { exploredState, answering } = await import(given.modules.about);
const { activityOf, mapAnswers, mapState } = await import(given.modules.boxes);
const { facts, forwards } = given, read = reader(facts.tokenizer);
const floats = (text) => new Float32Array(new Uint8Array(Buffer.from(text, "base64")).buffer);
const numbers = ({ data, dims }) => ({ data: floats(data), dims });
const each = (object, change) =>
  Object.fromEntries(Object.entries(object).map(([name, value]) => [name, change(value)]));
const seen = (outputs) => each(outputs, numbers);
const rows = ["unconditional", "conditional"].map((role) => {
  const text = read(role === "conditional" ? given.prompt : "");
  return { role, text, columns: columnsOf(text, facts.tokens) };
});
const run = { batch: { rows, latents: facts.latents }, picture: null };
run.forwards = forwards.map((each) => ({ ...each, denoised: floats(each.denoised) }));
const look = async (batch) => seen(given.look[batch.rows[0].role]);
const maps = wordMaps(run, facts.layers, look);
forwards.forEach((forward, step) => maps.keep(step, seen(forward.outputs)));
const plain = ({ content, buffers }) => [content, (buffers ?? []).map((each) => [...each])];
const frames = forwards.map(({ timestep, outputs, ...latents }, index) => plain(frameOf({
  index, total: forwards.length, timestep, seen: seen(outputs),
  ...each(latents, floats),
}, run.batch, facts, 0)));
const { about, first } = await exploredState(run, maps, facts, (name) => given.before[name]);
const answer = answering(run, facts, maps, look), answers = [];
for (const asked of given.asked) answers.push(plain(await answer(asked)));
const activity = forwards.map(({ outputs }) => activityOf(seen(outputs), facts.parts));
const png = async ({ size, data }) => [...size, ...data];
const again = async (batch, sample, timestep, { outputs }) => {
  if (batch.rows.map(({ role }) => role).join() !== "conditional") throw new Error("of one half");
  return seen(Object.fromEntries(outputs.map((name) => [name, given.gave[name]])));
};
const made = async () => ({ run: { ...run, picture: [] }, maps, again });
const asked = { prompt: given.prompt, guidance: facts.guidance };
const state = mapState(given.map, asked, facts, forwards.map(({ timestep }) => timestep), true);
const answerMap = mapAnswers({ map: given.map, facts, activity, made, png }), map = [];
for (const asked of given.askedMap) map.push(plain(await answerMap(asked)));
console.log(JSON.stringify({ frames, about, first, answers, state, map }));
