// The words of a small world, clicked together into a prompt.

import { make } from "./widget.js";

const NAMES = {
  things: "things", colours: "their colours", sizes: "their sizes", places: "where",
  relations: "to each other", grounds: "the ground",
};

/** A prompt with one more word; groups: the palette, by what its words say. */
export function added(prompt, group, word, groups) {
  const before = prompt.trim(), last = before.split(/\s+/).at(-1).toLowerCase();
  const article = (text) => `${/^[aeiou]/.test(text) ? "an" : "a"} ${text}`;
  const named = [...groups.colours, ...groups.sizes].includes(last); // a name that has begun
  if (group === "grounds") return `${before} on ${article(`${word} ground`)}`.trim();
  if (["places", "relations"].includes(group)) return `${before} ${word}`.trim();
  if (named) return `${before} ${word}`;
  const open = !before || /[,]$|\b(?:and|to)$/.test(before) ||
    groups.relations.some((each) => before.endsWith(each));
  return `${before}${open ? " " : " and "}${article(word)}`.trim();
}

/** Rows of words to click; say(prompt) is told the new prompt. */
export function palette(groups, prompt, say) {
  const rows = Object.entries(NAMES).filter(([group]) => groups[group]?.length);
  return make("details", { class: "ux-live-palette" },
    make("summary", {}, "what it paints: click a prompt together"),
    ...rows.map(([group, name]) =>
      make("div", { class: "ux-row", role: "group", "aria-label": name }, make("span", {}, name),
        ...groups[group].map((word) =>
          make("button", {
            type: "button", onclick: () => say(added(prompt(), group, word, groups)),
          }, word)))),
    make("div", { class: "ux-row" },
      make("button", { type: "button", onclick: () => say("") }, "clear")));
}
