// What the explorer asks for: the maps of a choice, and where a pixel looks. Answers are kept.

import { bytes } from "./widget.js";
import { pixels } from "./over.js";
import { dress, paint, say, set } from "./explorer_paint.js";

const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

/** Maps out of an answer: each map's bytes reach from 0 to its own top, a weight. */
export function unpacked({ shape, tops, full, step }, buffer) {
  const [count, height, width] = shape;
  const [all, size] = [bytes(buffer), height * width];
  const maps = Array.from({ length: count }, (_, i) => all.subarray(i * size, (i + 1) * size));
  return { maps, tops, height, width, full, step, drawn: new Map(), phrases: new Map() };
}

export function choose(page, change) {
  page.wanted = { ...page.wanted, ...change };
  page.menus.show(page.wanted);
  say(page, "asking …");
  settle(page);
}

/** One question at a time; of what is chosen meanwhile, the last comes next. */
async function settle(page) {
  if (page.busy) return;
  page.busy = true;
  let wrong = false;
  while (!same(page.wanted, page.choice)) {
    const target = page.wanted;
    try {
      const data = await mapsFor(page, target);
      const ground = data && (await groundFor(page, target));
      if (data) use(page, target, data, ground);
    } catch (error) {
      if (page.wanted !== target) continue;
      page.wanted = page.choice; // the menus say what is shown
      wrong = true;
      say(page, error.message, wrong);
    }
  }
  page.busy = false;
  page.menus.show(page.choice);
  if (page.root.getAttribute("aria-busy") === "true") say(page, "");
  page.menus.step.settled(page.choice, wrong);
  learnHeads(page);
  if (page.looking && page.kept && !page.look) around(page);
}

function use(page, choice, data, ground) {
  const other = choice.half !== page.choice.half;
  Object.assign(page, { choice, data, look: null }, ground);
  if (other) dress(page);
  paint(page);
}

/** The maps of a choice; null if another was made while its steps were replayed. */
async function mapsFor(page, target) {
  const question = { maps: target };
  const key = JSON.stringify(question);
  if (page.known.has(key)) return page.known.get(key);
  let answer = await page.ask(question);
  const missing = answer.content.missing ?? [];
  for (const [done, step] of missing.entries()) {
    if (page.wanted !== target) return null;
    say(page, `replaying step ${step}: ${done} of ${missing.length} are done`);
    Object.assign(page.progress, { hidden: false, max: missing.length, value: done });
    await page.ask({ replay: step });
  }
  if (missing.length) answer = await page.ask(question);
  page.known.set(key, unpacked(answer.content, answer.buffers[0]));
  return page.known.get(key);
}

/** What the maps of a choice lie on: the picture as it was foreseen at its step, where that is known,
 * else the finished one. */
export async function groundFor(page, { step }) {
  const finished = { ground: page.finished, foreseen: false };
  if (step === null || !page.about.foreseen) return finished;
  const question = { picture: step }, key = JSON.stringify(question);
  try {
    if (!page.known.has(key)) {
      const { content, buffers } = await page.ask(question);
      page.known.set(key, pixels(bytes(buffers[0]), content.size));
    }
    return { ground: page.picture.ground(page.known.get(key)), foreseen: true };
  } catch {
    return finished; // a page without a kernel holds some alone
  }
}

/** The maps of each head of the chosen layer, for their buttons, as far as they can be had. */
async function learnHeads(page) {
  const { choice } = page;
  const heads = page.about.layers.find(({ name }) => name === choice.layer)?.heads ?? 0;
  page.heads = [];
  for (const head of heads > 1 ? [null, ...Array(heads).keys()] : []) {
    const question = { maps: { ...choice, head } }, key = JSON.stringify(question);
    try {
      if (!page.known.has(key)) {
        const { content, buffers } = await page.ask(question);
        if (content.missing) return;
        page.known.set(key, unpacked(content, buffers[0]));
      }
    } catch {
      return; // a page without a kernel holds them of some steps alone
    }
    if (page.choice !== choice) return;
    page.heads.push(page.known.get(key));
  }
  paint(page);
}

/** Self-attention of the kept pixel, if the box for it is ticked. */
export async function around(page) {
  const turn = ++page.turn;
  set(page, { look: null });
  if (!page.looking || !page.kept) return;
  const [height, width] = page.about.latents;
  const [row, column] = [page.kept.y * height, page.kept.x * width].map(Math.floor);
  const { layer, step, half } = page.choice;
  const question = { self: { row, column, layer, step, half } };
  const key = JSON.stringify(question);
  try {
    if (!page.known.has(key)) {
      say(page, "asking where this pixel looks …");
      const { content, buffers } = await page.ask(question);
      page.known.set(key, unpacked(content, buffers[0]));
      say(page, "");
    }
    if (turn === page.turn) set(page, { look: page.known.get(key), pinned: [] });
  } catch (error) {
    say(page, error.message, true);
  }
}
