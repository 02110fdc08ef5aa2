// What the explorer shows: the map of what is pointed at, and what is said of it.

import { LOST } from "./widget.js";
import { coloured, lostMap } from "./over.js";
import { nth, number, shares, wordButton } from "./explorer_words.js";

const wordsOf = (page) => page.about.texts[page.choice.half].words;

export function set(page, change) {
  Object.assign(page, change);
  paint(page);
}

/** The buttons of the words that this half of the batch was told. */
export function dress(page) {
  Object.assign(page, { hovered: null, focused: null, pinned: null });
  const { prompt } = page.about.texts[page.choice.half];
  const told = prompt === null ? "nobody said which words these tokens are of" : `“${prompt}”`;
  const text = prompt === "" ? "told nothing: an empty prompt" : told;
  page.prompt.textContent = [text, page.about.unfinished].filter(Boolean).join(" · ");
  page.buttons = wordsOf(page).map((word, index) =>
    wordButton(word, {
      hover: (on) => set(page, { hovered: on ? index : null }),
      focus: (on) => set(page, { focused: on ? index : null }),
      pin: () => set(page, { pinned: page.pinned === index ? null : index, look: null }),
    }),
  );
  page.row.replaceChildren(...page.buttons.map(({ button }) => button));
}

export function paint(page) {
  const shown = shownOn(page);
  const { data, index, end, text, where } = shown;
  const lost = data?.tops[index] === null;
  page.picture.draw(data ? mapOf(page, shown) : null, cellOf(page), page.data);
  page.caption.textContent = lost ? `${text}: its weights are ${LOST} (NaN or Inf)` : text;
  page.ramp.end.textContent = number(lost ? null : end);
  const { full, height, width } = data ?? page.data;
  const size = full[0] > height ? ` · reduced to ${height} × ${width}` : "";
  page.detail.textContent = page.menus.words(where) + size;
  read(page);
}

/** The map to lay over the picture: of the word pointed at, a pixel's look, the pinned word's. */
function shownOn(page) {
  const { choice, data, look } = page;
  const index = page.hovered ?? page.focused ?? (look ? null : page.pinned);
  if (index === null && !look) return { text: page.plain, end: topOf(page), where: choice };
  if (index === null) {
    const where = { ...choice, head: null, step: look.step };
    return { data: look, index: 0, end: look.tops[0], text: "where the framed pixel looks", where };
  }
  const word = wordsOf(page)[index];
  return { data, index, end: endOf(page, index), text: `“${word.text}”${nth(word)}`, where: choice };
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

/** The numbers under the words. */
function read(page) {
  const { maps, tops, width } = page.data, cell = cellOf(page);
  page.buttons.forEach((button, i) => {
    const share = cell ? maps[i][cell.row * width + cell.column] / 255 : 1;
    const weight = tops[i] === null ? null : share * tops[i];
    button.show(weight, Math.min(1, weight / endOf(page, i)), page.pinned === i);
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
