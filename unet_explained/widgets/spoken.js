// Words for a screen reader, which says what stands in a status each time that it changes.

import { make } from "./widget.js";

const QUIET = 5000; // milliseconds between two of those that change often

/** {element, tell(text, often)}: one that nobody sees; often: at most every few seconds. */
export function spoken() {
  const element = make("span", { class: "ux-spoken", role: "status" });
  let next = "", timer = null, last = -QUIET;
  const say = () => {
    clearTimeout(timer);
    [timer, last] = [null, performance.now()];
    element.textContent = next;
  };
  const tell = (text, often) => {
    next = text;
    const wait = often ? QUIET - (performance.now() - last) : 0;
    if (wait <= 0) say();
    else timer ??= setTimeout(say, wait);
  };
  return { element, tell };
}
