// The colours of the map of the U: by stage, by share of FLOPs or parameters, by activity.

import { draw, LOST, make } from "./widget.js";
import { count, faint, percent, set, tell } from "./umap_info.js";

const COLOURS = {
  stage: "stage",
  flops: "share of FLOPs",
  params: "share of parameters",
  activity: "activity in the run",
};

export function controls(page) {
  const last = page.timesteps.length - 1;
  const lacking = last < 0 ? "needs a run: ux.umap(run)" : "was not recorded";
  page.buttons = Object.entries(COLOURS).map(([value, text]) =>
    make("button", {
      type: "button", "data-colour": value,
      ...(value === "activity" && !page.answers.activity ? { disabled: true, title: lacking } : {}),
      onclick: () => set(page, "colour", value),
    }, text),
  );
  const row = make("div", { class: "ux-row" },
    make("span", { class: "ux-umap-choice", role: "group", "aria-label": "colour by" },
      "colour by ", ...page.buttons));
  if (last < 0) return row;
  page.said = make("output");
  page.slider = make("input", {
    type: "range", min: 0, max: last, "aria-label": "step of the run",
    oninput: () => set(page, "step", Number(page.slider.value)),
  });
  row.append(make("label", { class: "ux-umap-step" }, "step ", page.slider, page.said));
  return row;
}

/** Fills and numbers of all boxes, and the legend. */
export function paint(page) {
  const colour = page.model.get("colour"), step = page.model.get("step");
  for (const button of page.buttons)
    button.setAttribute("aria-pressed", button.dataset.colour === colour);
  if (page.slider) {
    const last = page.timesteps.length - 1;
    page.slider.value = step;
    page.said.textContent = `${step} of 0 to ${last}, t = ${page.timesteps[step] ?? LOST}`;
  }
  const { value, place, text } = scaleOf(page, colour);
  for (const [name, { group, label, box }] of page.boxes) {
    const known = value?.(name), lost = known === null;
    group.classList.toggle("ux-umap-heat", value !== undefined && !lost);
    group.classList.toggle("ux-umap-lost", lost);
    const heat = known === undefined || lost ? 0 : Math.round(100 * place(known));
    group.style.setProperty("--heat", `${heat}%`);
    const told = () => (known === undefined ? "…" : lost ? LOST : text(known));
    if (value === undefined) label.textContent = box.label;
    else label.replaceChildren(...twoLines(box, told()));
  }
  legend(page, colour);
  learn(page);
  tell(page);
}

/** In a box its name, and under it its number. */
function twoLines({ x, y, width, height, label }, number) {
  const [centre, middle] = [x + width / 2, y + height / 2];
  return [draw("tspan", { x: centre, y: middle - 5, class: "ux-umap-tiny" }, label),
    draw("tspan", { x: centre, y: middle + 4, class: "ux-umap-number" }, number)];
}

/** value: of a module's name; place: from 0 to 1 on the scale; text: as written in a box. */
function scaleOf(page, colour) {
  if (colour === "stage") return {};
  const names = page.drawing.boxes.map((box) => box.name);
  if (colour !== "activity") {
    const value = (name) => page.modules[name][`${colour}_share`];
    const top = Math.max(...names.map(value));
    return { value, place: (share) => share / top, text: percent, ends: ["0 %", percent(top)] };
  }
  const value = (name) => page.activity.get(page.model.get("step"))?.[name];
  // One scale for all steps seen so far, so that steps can be compared.
  const steps = [...page.activity.values()];
  const seen = steps.flatMap((at) => names.map((name) => at[name])).filter((n) => n > 0);
  const [low, high] = [Math.min(...seen), Math.max(...seen)];
  const place = (n) => (n > 0 && high > low ? Math.log(n / low) / Math.log(high / low) : 0);
  const text = (n) => `${Number(n.toPrecision(2))}`;
  return { value, place, text, ends: seen.length ? [text(low), text(high)] : ["…", "…"] };
}

function legend(page, colour) {
  const { stages, totals, boxes } = page.drawing;
  const sign = (look, stage, words) =>
    make("span", {}, make("i", { class: look, style: `--stage: ${stages[stage][0]}` }), words);
  const present = new Set(boxes.map((box) => box.stage));
  if (colour === "stage") {
    const names = Object.keys(stages).filter((stage) => present.has(stage));
    return page.legend.replaceChildren(
      ...names.map((stage) => sign("ux-umap-chip", stage, stage)),
      sign("ux-umap-dot", "time", "time arrives"), sign("ux-umap-dot", "input", "text arrives"));
  }
  const [low, high] = scaleOf(page, colour).ends;
  const words = {
    flops: `of ${count(totals.flops)} FLOPs a forward; a multiply-add counts as two`,
    params: `of ${count(totals.params)} parameters`,
    activity:
      "root mean square of what a module returns at this step: the size of a typical number in it",
  };
  page.legend.replaceChildren(
    make("span", { class: "ux-umap-scale" }, low, make("i", { class: "ux-umap-ramp" }), high),
    faint(words[colour]));
}

/** Asks for the activity at this step; where answers come quickly, for the other steps as well. */
async function learn(page) {
  if (page.learning || page.gone || page.model.get("colour") !== "activity") return;
  let step = page.model.get("step");
  if (page.activity.has(step)) {
    step = page.quick ? page.timesteps.findIndex((_, i) => !page.activity.has(i)) : -1;
    if (step < 0) return;
  }
  page.learning = true;
  const start = performance.now();
  try {
    page.activity.set(step, (await page.ask({ activity: step })).content);
    page.quick = performance.now() - start < 500;
  } catch (error) {
    page.legend.replaceChildren(make("span", { class: "ux-error" }, error.message));
    return;
  } finally {
    page.learning = false;
  }
  if (!page.gone) paint(page);
}
