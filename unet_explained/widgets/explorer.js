// The word explorer: a picture, the prompt's words under it, a word's map over the picture.
// All that pointing needs is in the page; Python is asked once for each choice of the menus.

const PATIENCE = 180000; // milliseconds: a full-size replay on a CPU can take half a minute
const LOOKING = "self-attention: click a pixel to see where it looks";
const HOW =
  "Point at a word: the map is bright where the picture looks at it. Point at the picture: the " +
  "bars show what that pixel looks at. A click keeps either, Escape lets go. Tab and arrows work.";

/** Maps out of an answer: each map's bytes reach from 0 to its own top, a weight. */
function unpacked({ shape, tops, full, step }, buffer) {
  const [count, height, width] = shape;
  const [all, size] = [bytes(buffer), height * width];
  const maps = Array.from({ length: count }, (_, i) => all.subarray(i * size, (i + 1) * size));
  return { maps, tops, height, width, full, step, drawn: new Map() };
}

const number = (value) =>
  value === null ? LOST : value > 0 && value < 0.0005 ? "<.001" : value.toFixed(3);
const ordinal = (count) => ["first", "second", "third"][count - 1] ?? `${count}th`;
const nth = (word) => (word.number ? `, the ${ordinal(word.number)}` : "");
const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

/** A word's button, with a bar and a number under the word. */
function wordButton(word, { hover, focus, pin }) {
  const bar = make("i");
  const weight = make("span", { class: "ux-weight" });
  const name = make("span", { class: "ux-name" }, word.text);
  if (word.number) name.append(make("sub", {}, `${word.number}`));
  const button = make(
    "button",
    { type: "button", class: `ux-word ux-${word.kind}`, title: `${word.hint}${nth(word)}` },
    name, make("span", { class: "ux-bar" }, bar), weight,
  );
  const events = {
    pointerenter: () => hover(true), pointerleave: () => hover(false), click: pin,
    focus: () => focus(button.matches(":focus-visible")), blur: () => focus(false),
  };
  for (const [event, hear] of Object.entries(events)) button.addEventListener(event, hear);
  const show = (value, share, pinned) => {
    bar.style.transform = `scaleX(${share})`;
    weight.textContent = number(value);
    button.setAttribute("aria-pressed", `${pinned}`);
  };
  return { button, show };
}

class Explorer {
  constructor(model) {
    this.about = model.get("about");
    this.colours = bytes(model.get("colours"));
    this.asks = asking(model, PATIENCE);
    this.choice = this.wanted = this.about.choice; // what is shown; what a hand chose
    this.data = unpacked(model.get("first"), model.get("maps"));
    this.known = new Map([[JSON.stringify({ maps: this.choice }), this.data]]); // by question
    [this.hovered, this.focused, this.pinned] = [null, null, null]; // words, by index
    [this.over, this.kept] = [null, null]; // points, as shares of the picture's width and height
    [this.own, this.looking, this.look] = [false, false, null]; // look: self-attention's map
    [this.busy, this.turn] = [false, 0];
    const png = bytes(model.get("picture"));
    this.plain = png.length ? "the picture" : "no picture was given"; // where no map is shown
    this.build(png);
    this.menus.show(this.choice);
    this.dress();
    this.paint();
  }

  build(png) {
    const part = (name, attributes = {}) => make("div", { class: `ux-${name}`, ...attributes });
    const box = (name, text, changed) => {
      const input = make("input", { type: "checkbox" });
      input.addEventListener("change", () => {
        this[name] = input.checked;
        changed();
      });
      return make("label", { class: "ux-check" }, input, text);
    };
    this.picture = easel(this.about.latents, png, () => this.paint());
    this.menus = menus(this.about, (change) => this.choose(change));
    this.ramp = ramp(this.colours);
    for (const name of ["prompt", "caption", "detail", "reading"]) this[name] = part(name);
    this.heard = part("heard", { role: "status" });
    this.said = part("said", { role: "status" });
    this.progress = make("progress", { hidden: true, "aria-label": "steps replayed" });
    this.row = part("words", { role: "group", "aria-label": "words of the prompt" });
    const side = part("side");
    side.append(
      this.menus.element, this.ramp.element,
      box("own", "each word on its own scale", () => this.paint()),
      ...(this.about.self ? [box("looking", LOOKING, () => this.around())] : []),
      this.said, this.progress, make("p", { class: "ux-how" }, HOW),
    );
    const shown = make("div", {}, this.picture.canvas, this.caption, this.detail);
    // Jupyter would take the arrows for its own.
    this.root = make("div", { class: "ux ux-explorer" });
    this.root.append(this.prompt, make("div", { class: "ux-top" }, shown, side));
    this.root.append(this.reading, this.row, this.heard);
    this.listen();
  }

  listen() {
    const { canvas } = this.picture;
    canvas.setAttribute("aria-label", "The pixels: arrow keys move from one to the next");
    canvas.addEventListener("pointermove", (event) => this.set({ over: this.pointOf(event) }));
    canvas.addEventListener("pointerleave", () => this.set({ over: null }));
    canvas.addEventListener("keydown", (event) => this.step(event));
    canvas.addEventListener("click", (event) => {
      this.kept = this.pointOf(event);
      this.around();
    });
    this.row.addEventListener("keydown", (event) => {
      const side = { ArrowLeft: "previousSibling", ArrowRight: "nextSibling" }[event.key];
      if (side) event.target[side]?.focus();
    });
    this.root.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      this.turn++; // an answer that is still to come is no longer wanted
      this.set({ hovered: null, focused: null, pinned: null, over: null, kept: null, look: null });
    });
  }

  set(change) {
    Object.assign(this, change);
    this.paint();
  }

  get words() {
    return this.about.texts[this.choice.half].words;
  }

  /** The buttons of the words that this half of the batch was told. */
  dress() {
    [this.hovered, this.focused, this.pinned] = [null, null, null];
    const { prompt } = this.about.texts[this.choice.half];
    const told = prompt === null ? "nobody said which words these tokens are of" : `“${prompt}”`;
    const text = prompt === "" ? "told nothing: an empty prompt" : told;
    this.prompt.textContent = [text, this.about.unfinished].filter(Boolean).join(" · ");
    this.buttons = this.words.map((word, index) =>
      wordButton(word, {
        hover: (on) => this.set({ hovered: on ? index : null }),
        focus: (on) => this.set({ focused: on ? index : null }),
        pin: () => this.set({ pinned: this.pinned === index ? null : index, look: null }),
      }),
    );
    this.row.replaceChildren(...this.buttons.map(({ button }) => button));
  }

  /** Words, or tokens of unknown words, are on one scale. */
  shares(index) {
    return ["word", "token"].includes(this.words[index].kind);
  }

  /** What the scale of all words ends at: the largest weight of any. */
  get top() {
    return Math.max(1e-12, ...this.data.tops.filter((_, index) => this.shares(index)));
  }

  /** The start and the rest often take far more than words do: they have scales of their own. */
  endOf(index) {
    return !this.own && this.shares(index) ? this.top : Math.max(1e-12, this.data.tops[index]);
  }

  /** The map to lay over the picture: of the word pointed at, a pixel's look, the pinned word's. */
  shown() {
    const index = this.hovered ?? this.focused ?? (this.look ? null : this.pinned);
    if (index === null && !this.look)
      return { text: this.plain, end: this.top, where: this.choice };
    if (index === null) {
      const data = this.look;
      const where = { ...this.choice, head: null, step: data.step };
      return { data, index: 0, end: data.tops[0], text: "where the framed pixel looks", where };
    }
    const text = `“${this.words[index].text}”${nth(this.words[index])}`;
    return { data: this.data, index, end: this.endOf(index), text, where: this.choice };
  }

  mapOf({ data, index, end }) {
    const key = `${index} ${end}`;
    if (!data.drawn.has(key)) {
      const top = data.tops[index];
      const map = () => coloured(data.maps[index], data, top / end, this.colours);
      data.drawn.set(key, top === null ? lostMap(data) : map());
    }
    return data.drawn.get(key);
  }

  paint() {
    const shown = this.shown();
    const { data, index, end, text, where } = shown;
    const lost = data?.tops[index] === null;
    this.picture.draw(data ? this.mapOf(shown) : null, this.cell, this.data);
    this.caption.textContent = lost ? `${text}: its weights are ${LOST} (NaN or Inf)` : text;
    this.ramp.end.textContent = number(lost ? null : end);
    const { full, height, width } = data ?? this.data;
    const size = full[0] > height ? ` · reduced to ${height} × ${width}` : "";
    this.detail.textContent = this.menus.words(where) + size;
    this.read(this.cell);
  }

  read(cell) {
    const { maps, tops, width } = this.data;
    this.buttons.forEach((button, i) => {
      const share = cell ? maps[i][cell.row * width + cell.column] / 255 : 1;
      const weight = tops[i] === null ? null : share * tops[i];
      button.show(weight, Math.min(1, weight / this.endOf(i)), this.pinned === i);
    });
    this.reading.textContent = cell
      ? `What the pixel at row ${cell.row}, column ${cell.column} looks at: shares that sum to 1`
      : "The largest weight that any pixel gives to each";
  }

  /** The pixel pointed at, or kept, in the grid of the maps. */
  get cell() {
    const [point, { height, width }] = [this.over ?? this.kept, this.data];
    return point && { row: Math.floor(point.y * height), column: Math.floor(point.x * width) };
  }

  pointOf({ clientX, clientY }) {
    const { left, top, width, height } = this.picture.canvas.getBoundingClientRect();
    const share = (value) => Math.min(0.9999, Math.max(0, value));
    return { x: share((clientX - left) / width), y: share((clientY - top) / height) };
  }

  /** Arrows move by one pixel of the maps; enter asks where it looks. */
  step(event) {
    const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    const move = moves[event.key];
    if (!move && event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    const { height, width } = this.data;
    const to = (at, by, size) => (Math.min(size - 1, Math.max(0, at + by)) + 0.5) / size;
    this.over = null;
    const { row, column } = this.cell ?? { row: height >> 1, column: width >> 1 };
    const [down, right] = move ?? [0, 0];
    this.set({ kept: { y: to(row, down, height), x: to(column, right, width) }, look: null });
    const weights = this.buttons.map(({ button }) => button.textContent);
    this.heard.textContent = `${this.reading.textContent}: ${weights.join(", ")}`;
    if (!move) this.around();
  }

  say(text, wrong = false) {
    this.said.textContent = text;
    this.said.classList.toggle("ux-error", wrong);
    this.root.setAttribute("aria-busy", `${text !== "" && !wrong}`);
    this.progress.hidden = true;
  }

  choose(change) {
    this.wanted = { ...this.wanted, ...change };
    this.menus.show(this.wanted);
    this.say("asking Python …");
    this.settle();
  }

  /** One question at a time; of what is chosen meanwhile, the last comes next. */
  async settle() {
    if (this.busy) return;
    this.busy = true;
    while (!same(this.wanted, this.choice)) {
      const target = this.wanted;
      try {
        const data = await this.mapsFor(target);
        if (data) this.use(target, data);
      } catch (error) {
        if (this.wanted !== target) continue;
        this.wanted = this.choice; // the menus say what is shown
        this.say(error.message, true);
      }
    }
    this.busy = false;
    this.menus.show(this.choice);
    if (this.root.getAttribute("aria-busy") === "true") this.say("");
    if (this.looking && this.kept && !this.look) this.around();
  }

  use(choice, data) {
    const other = choice.half !== this.choice.half;
    Object.assign(this, { choice, data, look: null });
    if (other) this.dress();
    this.paint();
  }

  /** The maps of a choice; null if another was made while its steps were replayed. */
  async mapsFor(target) {
    const question = { maps: target };
    const key = JSON.stringify(question);
    if (this.known.has(key)) return this.known.get(key);
    let answer = await this.asks.ask(question);
    const missing = answer.content.missing ?? [];
    for (const [done, step] of missing.entries()) {
      if (this.wanted !== target) return null;
      this.say(`replaying step ${step}: ${done} of ${missing.length} are done`);
      Object.assign(this.progress, { hidden: false, max: missing.length, value: done });
      await this.asks.ask({ replay: step });
    }
    if (missing.length) answer = await this.asks.ask(question);
    this.known.set(key, unpacked(answer.content, answer.buffers[0]));
    return this.known.get(key);
  }

  /** Self-attention of the kept pixel, if the box for it is ticked. */
  async around() {
    const turn = ++this.turn;
    this.set({ look: null });
    if (!this.looking || !this.kept) return;
    const [height, width] = this.about.latents;
    const [row, column] = [this.kept.y * height, this.kept.x * width].map(Math.floor);
    const { layer, step, half } = this.choice;
    const question = { self: { row, column, layer, step, half } };
    const key = JSON.stringify(question);
    try {
      if (!this.known.has(key)) {
        this.say("asking Python where this pixel looks …");
        const { content, buffers } = await this.asks.ask(question);
        this.known.set(key, unpacked(content, buffers[0]));
        this.say("");
      }
      if (turn === this.turn) this.set({ look: this.known.get(key), pinned: null });
    } catch (error) {
      this.say(error.message, true);
    }
  }
}

function render({ model, el }) {
  const explorer = new Explorer(model);
  el.append(explorer.root);
  return () => explorer.asks.close();
}

export default { render };
