// The word explorer: a picture, the prompt's words under it, a word's map over the picture.
// All that pointing needs is in the page; Python is asked once for each choice of the menus.

import { asking, bytes, make } from "./widget.js";
import { ramp } from "./over.js";
import { easel } from "./explorer_picture.js";
import { menus } from "./explorer_menus.js";
import { cellOf, dress, paint, say, set } from "./explorer_paint.js";
import { around, choose, groundFor, unpacked } from "./explorer_asks.js";
import { subjectMenu, turning } from "./subjects.js";

const PATIENCE = 180000; // milliseconds: a full-size replay on a CPU can take half a minute
const LOOKING = "self-attention: click a pixel to see where it looks";
const HOW =
  "Point at a word: the map is bright where the picture looks at it. Point at the picture: the " +
  "bars show what that pixel looks at. A click keeps either, with Shift several words together; " +
  "Escape lets go. Tab and arrows work.";

function open(model, el) {
  const about = model.get("about"), png = bytes(model.get("picture"));
  const { ask, close } = asking(model, PATIENCE);
  const data = unpacked(model.get("first"), model.get("maps"));
  const page = {
    model, close, title: model.get("title"), about, ask, data, dyes: model.get("look"),
    choice: about.choice, wanted: about.choice, // what is shown; what a hand chose
    known: new Map([[JSON.stringify({ maps: about.choice }), data]]), // answers, by question
    hovered: null, focused: null, pinned: [], // words, by index
    heads: [], // maps of the mean and of each head, where one layer is chosen
    over: null, kept: null, // points, as shares of the picture's width and height
    own: false, looking: false, look: null, // each word's own scale; self-attention: its map
    busy: false, turn: 0,
    ground: null, foreseen: false, // what maps lie on; whether it is the picture of the chosen step
    has: png.length > 0, // whether a picture was given
  };
  build(page);
  page.finished = page.picture.ground(null);
  page.ground = page.finished;
  page.menus.show(page.choice);
  dress(page);
  paint(page);
  el.replaceChildren(page.root);
  lookUp(page, png);
  return page;
}

/** The pictures come when they are decoded. */
async function lookUp(page, png) {
  const of = page.choice;
  if (png.length) {
    const picture = await createImageBitmap(new Blob([png], { type: "image/png" }));
    page.finished = page.picture.ground(picture);
    if (!page.foreseen) set(page, { ground: page.finished });
  }
  const found = await groundFor(page, of);
  if (page.choice === of) set(page, found);
}

function build(page) {
  const part = (name, attributes = {}) => make("div", { class: `ux-${name}`, ...attributes });
  const box = (name, text, changed) => {
    const onchange = () => { page[name] = input.checked; changed(page); };
    const input = make("input", { type: "checkbox", onchange });
    return make("label", { class: "ux-check" }, input, text);
  };
  page.picture = easel(page.about.latents, page.dyes);
  const several = subjectMenu(page, (text, wrong) => say(page, text, wrong));
  page.menus = menus(page.about, (change) => choose(page, change), several);
  page.ramp = ramp(page.dyes);
  for (const name of ["prompt", "caption", "detail", "reading"]) page[name] = part(name);
  page.heard = part("heard", { role: "status" });
  page.said = part("said", { role: "status" });
  page.progress = make("progress", { hidden: true, "aria-label": "steps replayed" });
  page.row = part("words", { role: "group", "aria-label": "words of the prompt" });
  const side = part("side");
  side.append(
    page.menus.element, page.ramp.element,
    box("own", "each word on its own scale", paint),
    ...(page.about.self ? [box("looking", LOOKING, around)] : []),
    page.said, page.progress,
  );
  const shown = make("div", {}, page.picture.canvas, page.caption, page.detail);
  const below = make("div", { class: "ux-below" }, page.reading, page.row);
  const how = make("p", { class: "ux-how" }, HOW);
  page.root = make("section", { class: "ux ux-explorer", "aria-label": page.title });
  page.root.append(page.prompt, make("div", { class: "ux-top" }, shown, below, side, how), page.heard);
  listen(page);
}

function listen(page) {
  const { canvas } = page.picture;
  canvas.setAttribute("aria-label", "The pixels: arrow keys move from one to the next");
  canvas.addEventListener("pointermove", (event) => set(page, { over: pointOf(canvas, event) }));
  canvas.addEventListener("pointerleave", () => set(page, { over: null }));
  canvas.addEventListener("keydown", (event) => stepTo(page, event));
  canvas.addEventListener("click", (event) => {
    page.kept = pointOf(canvas, event);
    around(page);
  });
  page.row.addEventListener("keydown", (event) => {
    const side = { ArrowLeft: "previousSibling", ArrowRight: "nextSibling" }[event.key];
    if (side) event.target[side]?.focus();
  });
  page.root.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    page.turn++; // an answer that is still to come is no longer wanted
    set(page, { hovered: null, focused: null, pinned: [], over: null, kept: null, look: null });
  });
}

function pointOf(canvas, { clientX, clientY }) {
  const { left, top, width, height } = canvas.getBoundingClientRect();
  const share = (value) => Math.min(0.9999, Math.max(0, value));
  return { x: share((clientX - left) / width), y: share((clientY - top) / height) };
}

/** Arrows move by one pixel of the maps; enter asks where it looks. */
function stepTo(page, event) {
  const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  const move = moves[event.key];
  if (!move && event.key !== "Enter" && event.key !== " ") return;
  event.preventDefault();
  const { height, width } = page.data;
  const to = (at, by, size) => (Math.min(size - 1, Math.max(0, at + by)) + 0.5) / size;
  page.over = null;
  const { row, column } = cellOf(page) ?? { row: height >> 1, column: width >> 1 };
  const [down, right] = move ?? [0, 0];
  set(page, { kept: { y: to(row, down, height), x: to(column, right, width) }, look: null });
  const weights = page.buttons.map(({ button }) => button.textContent);
  page.heard.textContent = `${page.reading.textContent}: ${weights.join(", ")}`;
  if (!move) around(page);
}

const render = turning(open);

export default { render };
