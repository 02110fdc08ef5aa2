// One forward, module by module, over the map of the U: what has run, what each gave, what enters.

import { bytes, draw, make } from "./widget.js";
import { tell } from "./umap_info.js";

const BEAT = 350; // milliseconds that a module is shown while it plays

/** Play and Pause, one back, one on, and the end of it. */
export function player(page) {
  const button = (text, title, onclick, more) =>
    make("button", { type: "button", title, onclick, ...more }, text);
  page.playing = button("Play", "the forward, module by module", () => toggle(page));
  page.where = make("output", { class: "ux-umap-where" });
  page.away = button("clear", "the whole map again", () => go(page, null));
  const by = (step) => () => { halt(page); go(page, (page.at ?? -1) + step); };
  const row = make("div", { class: "ux-row ux-umap-play", role: "group", "aria-label": "one forward" },
    "one forward", button("‹", "one module back", by(-1), { "aria-label": "one module back" }),
    page.playing, button("›", "one module on", by(1), { "aria-label": "one module on" }), page.away,
    page.where);
  page.at = null; // the index in the order of execution of the module that runs
  page.given = new Map(); // by step: of each module an address of a picture of what it gave
  follow(page);
  return row;
}

function toggle(page) {
  if (page.beat) return halt(page);
  page.playing.textContent = "Pause";
  const last = page.flow.length - 1;
  page.beat = setInterval(() => (page.at === last || page.gone ? halt(page) : go(page, page.at + 1)), BEAT);
  return go(page, page.at === null || page.at === last ? 0 : page.at + 1);
}

export function halt(page) {
  clearInterval(page.beat);
  [page.beat, page.playing.textContent] = [null, "Play"];
}

/** To a module by its place in the order; null, or before the first: to none. */
function go(page, at) {
  if (at === null || at < 0) halt(page);
  page.at = at === null || at < 0 ? null : Math.min(at, page.flow.length - 1);
  follow(page);
  if (page.at !== null) look(page);
}

/** Asks once a step for pictures of what all modules gave. */
async function look(page) {
  const step = page.model.get("step");
  if (!page.answers.through || page.given.has(step)) return;
  page.given.set(step, new Map());
  try {
    const { content, buffers } = await page.ask({ through: step });
    const address = (i) => URL.createObjectURL(new Blob([bytes(buffers[i])], { type: "image/png" }));
    page.given.set(step, new Map(content.names.map((name, i) => [name, address(i)])));
  } catch (error) {
    page.where.textContent = error.message;
    return;
  }
  if (!page.gone) follow(page);
}

/** The map as far as the forward has come. */
export function follow(page) {
  const { at, flow } = page, now = at === null ? null : flow[at];
  const given = at === null ? null : page.given.get(page.model.get("step"));
  page.root?.classList.toggle("ux-umap-playing", at !== null);
  page.away.disabled = at === null;
  page.where.textContent = at === null ? "" : `${at + 1} of ${flow.length}: ${now}`;
  flow.forEach((name, i) => {
    const { group } = page.boxes.get(name), done = at !== null && i <= at;
    group.classList.toggle("ux-umap-ahead", at !== null && i > at);
    group.classList.toggle("ux-umap-now", i === at);
    picture(page, name, done ? given?.get(name) : null);
  });
  for (const { skip, group } of page.skips) {
    const [from, to] = [skip.from, skip.to].map((name) => flow.indexOf(name));
    group.classList.toggle("ux-umap-carrying", at !== null && from <= at && at <= to);
    group.classList.toggle("ux-umap-ahead", at !== null && at < from);
  }
  for (const { circle, of } of page.pins) circle.classList.toggle("ux-umap-entering", of === now && of);
  if (now) tell(page, now);
}

/** In a box, a small picture of what its module gave. */
function picture(page, name, address) {
  const each = page.boxes.get(name), { x, y, width, height } = each.box;
  each.image?.remove();
  each.image = null;
  each.group.classList.toggle("ux-umap-pictured", Boolean(address));
  if (!address) return;
  const place = { x: x + width / 2 - height / 2, y: y + 1, width: height, height: height - 2 };
  each.image = draw("image", { href: address, ...place, preserveAspectRatio: "xMidYMid meet" });
  each.group.append(each.image);
}
