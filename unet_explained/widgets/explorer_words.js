// The explorer's words: a button for each, and numbers as they are written beside them.

import { LOST, make } from "./widget.js";

export const number = (value) =>
  value === null ? LOST : value > 0 && value < 0.0005 ? "<.001" : value.toFixed(3);
const ordinal = (count) => ["first", "second", "third"][count - 1] ?? `${count}th`;
export const nth = (word) => (word.number ? `, the ${ordinal(word.number)}` : "");

/** Words, or tokens of unknown words, are on one scale; the start and the rest have their own. */
export const shares = (word) => ["word", "token"].includes(word.kind);

/** A word's button, with a bar and a number under the word. */
export function wordButton(word, { hover, focus, pin }) {
  const bar = make("i");
  const weight = make("span", { class: "ux-weight" });
  const name = make("span", { class: "ux-name" }, word.text);
  if (word.number) name.append(make("sub", {}, `${word.number}`));
  const button = make("button", {
    type: "button", class: `ux-word ux-${word.kind}`, title: `${word.hint}${nth(word)}`,
    onpointerenter: () => hover(true), onpointerleave: () => hover(false), onclick: pin,
    onfocus: () => focus(button.matches(":focus-visible")), onblur: () => focus(false),
  }, name, make("span", { class: "ux-bar" }, bar), weight);
  const show = (value, share, pinned) => {
    bar.style.transform = `scaleX(${share})`;
    weight.textContent = number(value);
    button.setAttribute("aria-pressed", `${pinned}`);
  };
  return { button, show };
}
