// What the explorer shows: the map of what is pointed at, and what is said of it.

import { LOST } from "./widget.js";
import { coloured, lostMap } from "./over.js";
import { nth, number, shares, wordButton } from "./explorer_words.js";

const FORESEEN = "the picture as foreseen then";
const wordsOf = (page) => page.about.texts[page.choice.half].words;

export function set(page, change) {
  Object.assign(page, change);
  paint(page);
}

/** The buttons of the words that this half of the batch was told. */
export function dress(page) {
  const { prompt, first } = page.about.texts[page.choice.half];
  Object.assign(page, { hovered: null, focused: null, pinned: first === null ? [] : [first] });
  const told = prompt === null ? "nobody said which words these tokens are of" : `“${prompt}”`;
  const text = prompt === "" ? "told nothing: an empty prompt" : told;
  page.prompt.textContent = [text, page.about.unfinished].filter(Boolean).join(" · ");
  page.buttons = wordsOf(page).map((word, index) =>
    wordButton(word, {
      hover: (on) => set(page, { hovered: on ? index : null }),
      focus: (on) => set(page, { focused: on ? index : null }),
      pin: (event) => set(page, { pinned: kept(page.pinned, index, event), look: null }),
    }),
  );
  page.row.replaceChildren(...page.buttons.map(({ button }) => button));
}

/** With Shift a word is added to those that are kept, or taken from them. */
function kept(pinned, index, { shiftKey }) {
  if (pinned.includes(index)) return shiftKey ? pinned.filter((each) => each !== index) : [];
  return shiftKey ? [...pinned, index].sort((one, other) => one - other) : [index];
}

export function paint(page) {
  const shown = shownOn(page);
  const { data, index, end, text, where } = shown;
  const lost = data?.tops[index] === null;
  page.picture.draw(page.ground, data ? mapOf(page, shown) : null, cellOf(page), page.data);
  page.caption.textContent = lost ? `${text}: its weights are ${LOST} (NaN or Inf)` : text;
  page.ramp.end.textContent = number(lost ? null : end);
  const { full, height, width } = data ?? page.data;
  paintHeads(page, shown.chosen);
  const size = full[0] > height ? ` · reduced to ${height} × ${width}` : "";
  const ground = page.foreseen ? FORESEEN : "the finished picture";
  const on = where.step === null || !page.has ? "" : ` · on ${ground}`;
  page.detail.textContent = page.menus.words(where) + size + on;
  read(page);
}

/** What is seen where no map is. */
function plain({ has, foreseen }) {
  return foreseen ? "the picture, as foreseen" : has ? "the picture" : "no picture was given";
}

/** The map to lay over the picture: of the word pointed at, a pixel's look, the words kept. */
function shownOn(page) {
  const { choice, data, look } = page, pointed = page.hovered ?? page.focused;
  const chosen = pointed !== null ? [pointed] : look ? [] : page.pinned;
  if (!chosen.length && !look) return { chosen, text: plain(page), end: topOf(page), where: choice };
  if (!chosen.length) {
    const where = { ...choice, head: null, step: look.step };
    const text = "where the framed pixel looks";
    return { chosen, data: look, index: 0, end: look.tops[0], text, where };
  }
  const words = wordsOf(page);
  const text = chosen.map((index) => `“${words[index].text}”${nth(words[index])}`).join(" + ");
  const [whose, index] = chosen.length > 1 ? [together(data, chosen), 0] : [data, chosen[0]];
  const end = chosen.length > 1 ? Math.max(topOf(page), whose.tops[0]) : endOf(page, index);
  return { chosen, data: whose, index, end, text, where: choice };
}

/** Several words as one: their weights added. */
export function together(data, indices) {
  const key = indices.join("+");
  if (!data.phrases.has(key)) {
    const { height, width, full, step } = data;
    const sums = new Float32Array(height * width);
    for (const i of indices) data.maps[i].forEach((value, at) => (sums[at] += value * data.tops[i]));
    const lost = indices.some((i) => data.tops[i] === null);
    const top = sums.reduce((one, other) => Math.max(one, other), 0) / 255;
    const map = Uint8Array.from(sums, (value) => Math.round(value / (top || 1)));
    const drawn = new Map();
    data.phrases.set(key, { maps: [map], tops: [lost ? null : top], height, width, full, step, drawn });
  }
  return data.phrases.get(key);
}

/** What the scale of all words ends at: the largest weight of any. */
function topOf(page) {
  const words = wordsOf(page);
  return Math.max(1e-12, ...page.data.tops.filter((_, index) => shares(words[index])));
}

/** The start and the rest often take far more than words do: they have scales of their own. */
function endOf(page, index) {
  const shared = !page.own && shares(wordsOf(page)[index]);
  return shared ? topOf(page) : Math.max(1e-12, page.data.tops[index]);
}

function mapOf(page, { data, index, end }) {
  const key = `${index} ${end}`;
  if (!data.drawn.has(key)) {
    const top = data.tops[index];
    const map = () => coloured(data.maps[index], data, top / end, page.dyes);
    data.drawn.set(key, top === null ? lostMap(data) : map());
  }
  return data.drawn.get(key);
}

/** Of each head the map of the word that is shown, all on one scale. */
function paintHeads(page, chosen) {
  if (!chosen.length) return;
  const of = (data) => (chosen.length > 1 ? [together(data, chosen), 0] : [data, chosen[0]]);
  const end = Math.max(1e-12, ...page.heads.map(of).map(([data, index]) => data.tops[index]));
  const maps = page.heads.map(of).map(([data, index]) => mapOf(page, { data, index, end }));
  page.menus.drawHeads(maps);
}

/** The numbers under the words. */
function read(page) {
  const { maps, tops, width } = page.data, cell = cellOf(page);
  page.buttons.forEach((button, i) => {
    const share = cell ? maps[i][cell.row * width + cell.column] / 255 : 1;
    const weight = tops[i] === null ? null : share * tops[i];
    button.show(weight, Math.min(1, weight / endOf(page, i)), page.pinned.includes(i));
  });
  page.reading.textContent = cell
    ? `What the pixel at row ${cell.row}, column ${cell.column} looks at: shares that sum to 1`
    : "The largest weight that any pixel gives to each";
}

/** The pixel pointed at, or kept, in the grid of the maps. */
export function cellOf(page) {
  const point = page.over ?? page.kept, { height, width } = page.data;
  return point && { row: Math.floor(point.y * height), column: Math.floor(point.x * width) };
}

export function say(page, text, wrong = false) {
  page.said.textContent = text;
  page.said.classList.toggle("ux-error", wrong);
  page.root.setAttribute("aria-busy", `${text !== "" && !wrong}`);
  page.progress.hidden = true;
}
