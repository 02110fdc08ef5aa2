// A live run: frames come as bytes while it goes on; words are chosen here.

import { asking, bytes, make } from "./widget.js";
import { palette } from "./live_palette.js";
import { finished, paint, panels } from "./live_panels.js";
import { spoken } from "./spoken.js";

function render({ model, el }) {
  const { ask, close } = asking(model);
  const page = {
    model, look: model.get("look"),
    shown: null, // the frame on the page: {content, preview, maps, activity, beside}
    word: null, // the index of the word whose map is shown; null: the first noun
    turn: 0,
    pointed: null, // the name of the module of the U that is pointed at
    ask, act: (question) => ask(question).catch((error) => say(page, error.message, true)),
  };
  build(page);
  el.append(page.root);
  const heard = follow(page);
  for (const [event, hear] of Object.entries(heard)) model.on(event, hear);
  anew(page);
  status(page);
  const latest = model.get("count") - 1;
  if (latest >= 0) lookAt(page, latest).then(() => finished(page));
  return () => {
    for (const [event, hear] of Object.entries(heard)) model.off(event, hear);
    close();
  };
}

function follow(page) {
  const state = () => status(page);
  return {
    "change:words": () => anew(page), "change:prompt": () => anew(page),
    "change:seed": () => anew(page), "change:steps": () => anew(page),
    "change:guidance": () => anew(page), "change:status": state, "change:note": state,
    "change:count": () => { forget(page); status(page); }, "change:picture": () => finished(page),
    "msg:custom": ({ frame }, buffers) => {
      if (!frame) return;
      show(page, frame, buffers);
      // Python drops frames while the page is behind; so it is told what has been drawn.
      requestAnimationFrame(() => page.act({ shown: frame.index }));
    },
  };
}

function build(page) {
  const number = (name, more) => make("input", { type: "number", "aria-label": name, ...more });
  const labelled = (name, input) => make("label", {}, `${name} `, input);
  page.prompt = make("input", { type: "text", size: 44, "aria-label": "prompt" });
  page.seed = number("seed", { min: 0, step: 1 });
  page.steps = number("steps", { min: 1, step: 1 });
  page.guidance = number("guidance", { step: "any" });
  page.start = make("button", { type: "submit" }, "Start");
  const enter = (event) => { // does it too: JupyterLab would keep it from the form
    if (event.key !== "Enter" || event.target.localName !== "input") return;
    event.preventDefault();
    page.start.click();
  };
  page.stop = make("button", { type: "button", onclick: () => page.act({ stop: true }) }, "Stop");
  const onsubmit = (event) => begin(page, event);
  const form = make("form", { class: "ux-row", onsubmit, onkeydown: enter },
    make("label", { class: "ux-live-prompt" }, "prompt ", page.prompt),
    labelled("seed", page.seed), labelled("steps", page.steps),
    labelled("guidance", page.guidance), make("span", { class: "ux-live-go" }, page.start, page.stop));
  page.words = make("div", {
    class: "ux-live-words", role: "group", "aria-label": "words of the prompt",
  });
  page.bar = make("progress", { "aria-label": "steps done" });
  page.said = make("span", { class: "ux-said", "aria-hidden": "true" });
  page.spoken = spoken();
  const back = () => lookAt(page, Number(page.step.value));
  page.step = make("input", { type: "range", min: 0, step: 1, oninput: back });
  page.again = make("label", { class: "ux-live-again" }, "look back ", page.step);
  page.note = make("div", { class: "ux-said ux-live-note", role: "alert" });
  const groups = page.model.get("palette"), say = (text) => { page.prompt.value = text; };
  page.root = make("section", { class: "ux ux-live", "aria-label": page.model.get("title") },
    form, groups.things ? palette(groups, () => page.prompt.value, say) : null, page.note,
    make("div", { class: "ux-row" }, page.bar, page.said, page.spoken.element, page.again),
    page.words, panels(page));
}

function begin(page, event) {
  event.preventDefault();
  page.word = null;
  const [seed, steps] = [page.seed, page.steps].map((input) => Number(input.value) || 0);
  const guidance = page.guidance.value === "" ? null : Number(page.guidance.value);
  return page.act({ start: { prompt: page.prompt.value, seed, steps, guidance } });
}

/** A frame that is kept; of several that were asked for, the last. */
async function lookAt(page, index) {
  const turn = ++page.turn, found = await page.act({ frame: index });
  if (found && turn === page.turn) show(page, found.content, found.buffers);
}

function show(page, content, buffers) {
  const [preview, maps, activity, ...beside] = buffers.map(bytes);
  page.shown = { content, preview, maps, activity, beside };
  [page.bar.max, page.bar.value] = [content.total, content.step + 1];
  status(page); // the slider's end, without which it would not take the place that it is at
  page.step.value = content.index;
  paint(page);
}

function say(page, text, wrong = false) {
  page.note.textContent = text;
  page.note.classList.toggle("ux-error", wrong);
}

function status(page) {
  const { model, shown } = page, state = model.get("status"), running = state === "running";
  const goesOn = running && page.root.dataset.status === state; // that it began is said at once
  page.root.dataset.status = state;
  [page.start.disabled, page.stop.disabled] = [running, !running];
  // A frame may come before the word that there is one more.
  page.step.max = Math.max(model.get("count") - 1, shown?.content.index ?? 0);
  page.again.hidden = running || model.get("count") < 2;
  page.root.classList.toggle("ux-live-before", !shown);
  const left = shown && running ? `, about ${Math.ceil(shown.content.left)} s left` : "";
  const at = shown ? `step ${shown.content.step + 1} of ${shown.content.total}` : "";
  page.said.textContent = [state, at].filter(Boolean).join(": ") + left;
  page.spoken.tell(page.said.textContent, goesOn);
  say(page, model.get("note"), state === "failed");
}

/** Of a run that begins there is no frame yet: those on the page are of the run before it. */
function forget(page) {
  if (page.model.get("count")) return;
  page.shown = null;
  page.bar.value = 0;
}

/** What the run is of: its prompt and options, and a button for each of its words. */
function anew(page) {
  const { model } = page;
  forget(page);
  [page.prompt.value, page.seed.value] = [model.get("prompt"), model.get("seed")];
  [page.steps.value, page.guidance.value] = [model.get("steps"), model.get("guidance") ?? ""];
  page.guidance.disabled = model.get("guidance") === null; // the pipeline takes none
  page.words.replaceChildren(...model.get("words").map((text, i) =>
    make("button", { type: "button", onclick: () => { page.word = i; paint(page); } }, text)));
  paint(page);
}

export default { render };
