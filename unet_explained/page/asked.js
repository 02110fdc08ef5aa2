// What a person asked for, looked at before any work: numbers that fit, words that are known.

import { nearest } from "./nearest.js";

const MOST = { steps: 1000, guidance: 1000, seed: Number.MAX_SAFE_INTEGER };
const NUMBERS = "two three four five six seven eight nine ten twelve many several".split(" ");

/** Throws, saying what came and what was expected. */
export function check({ prompt, seed, steps, guidance }) {
  if (/[\ud800-\udfff]/u.test(prompt))
    throw new Error("prompt: it holds half of a character, which is no text");
  const whole = (name, value, least) => {
    if (!Number.isInteger(value) || value < least || value > MOST[name])
      throw new Error(
        `${name}: expected a whole number from ${least} to ${MOST[name]}, got ${value}`);
  };
  whole("steps", steps, 1);
  whole("seed", seed, -MOST.seed);
  if (!(guidance >= 0 && guidance <= MOST.guidance))
    throw new Error(
      `guidance: expected a number from 0 to ${MOST.guidance}, got ${guidance}; 1 is none`);
}

const namesNothing = ({ words }, { things }) =>
  words.length > 0 && !words.some(({ text }) => things.includes(text.toLowerCase()));

/** What to say, before it is run, of a prompt that names no thing; "" of any other. */
export const doubtOf = (read, palette) =>
  namesNothing(read, palette) ? notesOf(read, palette).join("; ") : "";

/** In a sentence each: what is cut off, and words that this model was not shown: run/palette.py. */
export function notesOf(read, palette) {
  const words = read.words.map(({ text }) => text.toLowerCase()), { cutOff } = read, notes = [];
  const known = new Set(Object.values(palette).flat().flatMap((phrase) => phrase.split(" ")));
  const list = (group) => palette[group].join(", "), nothing = namesNothing(read, palette);
  if (nothing) notes.push(`no thing that this model paints is in the prompt: ${list("things")}`);
  if (cutOff.length)
    notes.push(`the prompt is too long: ${cutOff.length} words at its end change nothing`);
  for (const word of new Set(words)) {
    if (/^\p{Nd}+$/u.test(word) || (NUMBERS.includes(word) && !known.has(word)))
      notes.push(`'${word}': this model was never shown a number; name each thing`);
    else if (!known.has(word)) {
      const near = nearest(word, palette.things);
      const listed = nothing ? "" : `; it paints ${list("things")}`; // the first sentence lists them
      const said = near ? `; the nearest thing: ${near}` : listed;
      notes.push(`'${word}': this model was never shown this word${said}`);
    }
  }
  words.slice(0, -1).forEach((word, i) => {
    const after = words[i + 1];
    if (palette.grounds.includes(word) && [...palette.things, ...palette.sizes].includes(after))
      notes.push(`'${word}' is a colour of the ground; things are ${list("colours")}`);
    else if (palette.colours.includes(word) && ["ground", "background"].includes(after))
      notes.push(`'${word}' is a colour of things; the ground is ${list("grounds")}`);
  });
  return notes;
}
