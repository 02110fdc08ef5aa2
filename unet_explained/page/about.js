// What an explorer's page is told of a run, after widgets/explorer_page.py; and answers to it.

import { ROLES } from "./denoise.js";
import { rough } from "./frames.js";
import { lookOf } from "./maps.js";

/** An explorer's state for a run, {batch, forwards, picture}; before(name): of another run. */
export async function exploredState(run, maps, facts, before) {
  const choice = { layer: "*", head: null, step: null, half: ROLES[0] };
  const { content, buffers } = await maps.maps(choice);
  return {
    title: before("title"), look: before("look"), picture: run.picture, subjects: [], subject: 0,
    about: aboutOf(run, facts, before("about"), choice), first: content, maps: buffers[0],
  };
}

/** What answers an explorer's questions of a run. */
export function answering(run, facts, maps, again) {
  const best = Math.floor((2 * (run.forwards.length - 1)) / 3);
  return async (asked) => {
    if (asked.maps) {
      const lacking = asked.maps.step === null ? maps.missing(null) : [];
      return lacking.length ? { content: { missing: lacking } } : maps.maps(asked.maps);
    }
    if ("replay" in asked) {
      await maps.replay(asked.replay);
      return { content: { kept: asked.replay } };
    }
    if ("picture" in asked) return foreseen(run, facts, asked.picture);
    const step = asked.self.step ?? best;
    const { content, buffers } = await lookOf(run, facts.layers, again, { ...asked.self, step });
    return { content: { ...content, step }, buffers };
  };
}

/** The picture as it was foreseen at a step, in rough colours. */
function foreseen({ batch, forwards }, { latent_rgb: rgb }, step) {
  const { denoised } = forwards[step];
  if (!denoised) throw new Error("the picture as it was at this step is not known");
  return { content: { size: batch.latents.slice(1) }, buffers: [rough(denoised, rgb)] };
}

function aboutOf(run, facts, about, choice) {
  const { rows } = run.batch;
  const texts = ROLES.flatMap((half) => rows.filter(({ role }) => role === half)).map((row) => {
    const half = row.role, told = row.text.text ? "told the prompt" : "told nothing";
    const words = row.columns.filter(({ kind }) => kind === "word").map(({ text }) => text);
    return [half, {
      label: `${half}: ${told}`, prompt: row.text.text, words: wordsOf(row, facts.hints),
      first: words.length ? firstThing(words, facts.links) + 1 : null, count: run.forwards.length,
    }];
  });
  const timesteps = run.forwards.map(({ timestep }) => timestep);
  return { ...about, texts: Object.fromEntries(texts), timesteps, choice };
}

/** Each column with what is said of it, and a repeated word with its number. */
function wordsOf({ columns, text: { tokens } }, hints) {
  const same = (word) => columns.filter(({ kind, text }) => kind === "word" && text === word);
  return columns.map((column) => {
    const { text, kind, tokens: places } = column;
    const parts = places.map((i) => tokens[i]?.replace("</w>", ""));
    const spelt = places.length === 1 ? `token ${places[0]}` : `tokens ${parts.join(" + ")}`;
    const number = kind === "word" && same(text).length > 1 ? same(text).indexOf(column) + 1 : 0;
    return { text, kind, hint: hints[kind] ?? spelt, number };
  });
}

/** The index of the last word of the first name: widgets/first_word.py. */
export function firstThing(words, links) {
  let last = null;
  for (const [index, word] of words.map((each) => each.toLowerCase()).entries()) {
    const linking = links.includes(word) || (last !== null && word.endsWith("ing"));
    if (last !== null && linking) break;
    last = linking ? last : index;
  }
  return last ?? 0;
}
