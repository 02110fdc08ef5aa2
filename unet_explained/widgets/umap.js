// The map of the U. Python says what there is and where it stands; this draws and colours it.
// What opens beside it is in umap_panel.js and umap_inside.js; all are one script.

const COLOURS = {
  stage: "stage",
  flops: "share of FLOPs",
  params: "share of parameters",
  activity: "activity in the run",
};
const HELP =
  "Point at a part of the U, or go through it with Tab and the arrow keys. " +
  "Click, or press Enter, to look inside; Escape closes.";
const UNITS = [["T", 1e12], ["G", 1e9], ["M", 1e6], ["K", 1e3], ["", 0]];
const count = (n) => {
  const [unit, size] = UNITS.find(([, least]) => n >= least);
  return `${Number((n / (size || 1)).toPrecision(3))} ${unit}`.trim();
};
const percent = (share) =>
  `${share && share < 1e-4 ? "< 0.01" : Number((100 * share).toPrecision(2))} %`;
const shape = (axes) => axes.map(([, size]) => size).join(" × ");

function render({ model, el }) {
  const { ask, close } = asking(model);
  const page = {
    model, ask, tab: "inside", turn: 0, first: 0,
    boxes: new Map(), parts: new Map(), skips: [], activity: new Map(),
    drawing: model.get("drawing"), modules: model.get("modules"), timesteps: model.get("timesteps"),
    answers: model.get("answers"),
  };
  page.map = drawMap(page);
  page.legend = make("div", { class: "ux-row ux-umap-legend" });
  page.info = make("div", { class: "ux-umap-info" });
  page.details = make("section", { class: "ux-umap-details", "aria-label": "the chosen module" });
  const side = make("div", { class: "ux-umap-side" }, page.info, page.details);
  page.root = make(
    "div", {
      class: "ux ux-umap", onkeydown: (event) => pressed(page, event),
    },
    make("div", { class: "ux-umap-title" },
      make("strong", {}, model.get("title")), ` ${model.get("given")}`),
    controls(page), page.legend, make("div", { class: "ux-umap-body" }, page.map, side),
  );
  const heard = {
    "change:selected": () => { page.first = 0; open(page); },
    "change:colour": () => paint(page),
    "change:step": () => stepped(page),
  };
  for (const [event, hear] of Object.entries(heard)) model.on(event, hear);
  el.append(page.root);
  paint(page);
  open(page);
  return () => {
    page.gone = true;
    clearTimeout(page.timer);
    for (const [event, hear] of Object.entries(heard)) model.off(event, hear);
    close();
  };
}

function set(page, name, value) {
  page.model.set(name, value);
  page.model.save_changes();
}

// ---- above the map: what colours mean, and which step

function controls(page) {
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

function stepped(page) {
  paint(page);
  clearTimeout(page.timer);
  // A slider under way passes many steps; each picture costs a forward of the model.
  const follows = ["feature maps", "attention"].includes(page.tab);
  if (follows) page.timer = setTimeout(() => show(page), 150);
}

/** Fills and numbers of all boxes, and the legend. */
function paint(page) {
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
    label.textContent = value === undefined ? box.label : told();
  }
  legend(page, colour);
  learn(page);
  tell(page);
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

// ---- the map

function drawMap(page) {
  const { drawing } = page;
  const text = ({ x, y, side }, look, words) =>
    draw("text", { x, y, class: look, "text-anchor": side }, words);
  const svg = draw("svg", {
    viewBox: `0 0 ${drawing.width} ${drawing.height}`, class: "ux-umap-map", role: "group",
    "aria-label": "the U, module by module in order of execution",
  });
  for (const level of drawing.levels) {
    const place = { x: 0, y: level.y, width: drawing.width, height: level.height, rx: 6 };
    const look = `ux-umap-level ${level.odd ? "ux-umap-odd" : ""}`;
    svg.append(draw("rect", { ...place, class: look }));
    svg.append(text({ x: level.x, y: level.y - 10 }, "ux-umap-small", level.text));
  }
  for (const block of drawing.blocks) svg.append(frame(page, block));
  for (const skip of drawing.skips) svg.append(arc(page, skip));
  for (const points of drawing.wires) svg.append(wire(points));
  for (const { stage, ...place } of drawing.bars)
    svg.append(draw("rect", { ...place, class: "ux-umap-bar", fill: drawing.stages[stage][0] }));
  for (const box of drawing.boxes) svg.append(boxOf(page, box));
  for (const { x, y, what } of drawing.pins) svg.append(pinAt(page, x, y, what));
  for (const each of drawing.texts)
    svg.append(text(each, `ux-umap-${each.look || "plain"}`, each.text));
  page.order = Object.keys(page.modules).filter((name) => page.parts.has(name));
  page.parts.get(page.order[0]).setAttribute("tabindex", 0);
  return svg;
}

/** A module that can be pointed at, focused and opened: of the map, or of a drawing beside it. */
function part(page, name, look, ...children) {
  const { kind, axes } = page.modules[name];
  return draw("g", {
    class: `ux-umap-part ${look}`, role: "button", tabindex: 0, "data-name": name,
    "aria-label": `${name}, ${kind}, ${shape(axes)}`,
    onclick: () => set(page, "selected", name),
    onkeydown: (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      set(page, "selected", name);
    },
    onpointerenter: () => tell(page, name), onpointerleave: () => tell(page),
    onfocus: () => tell(page, name), onblur: () => tell(page),
  }, ...children);
}

function onMap(page, name, look, stage, ...children) {
  const group = part(page, name, look, ...children);
  const [fill, ink] = page.drawing.stages[stage];
  group.setAttribute("style", `--stage: ${fill}; --ink: ${ink}`);
  group.setAttribute("tabindex", -1); // one stop of the Tab key; the arrow keys do the rest
  page.parts.set(name, group);
  return group;
}

function frame(page, { name, stage, label, x, y, width, height }) {
  const look = `ux-umap-strong ${label.turn ? "ux-umap-end" : ""}`;
  const turned = `rotate(${label.turn} ${label.x} ${label.y})`;
  return onMap(page, name, "ux-umap-block", stage,
    draw("rect", { x, y, width, height, rx: 6, class: "ux-umap-shape" }),
    draw("text", { x: label.x, y: label.y, transform: turned, class: look }, name));
}

function boxOf(page, box) {
  const { x, y, width, height, name } = box, slope = 9;
  // Broad above, where the resolution is high, and narrow below.
  const [right, low] = [x + width, y + height];
  const corners = [[x, y], [right, y], [right - slope, low], [x + slope, low]];
  const outline = box.shape === "sampler"
    ? draw("polygon", { points: corners.join(" "), class: "ux-umap-shape" })
    : draw("rect", { x, y, width, height, rx: 4, class: "ux-umap-shape" });
  const label = draw("text", { x: x + width / 2, y: y + height / 2 }, box.label);
  const group = onMap(page, name, `ux-umap-${box.shape}`, box.stage, outline, label);
  page.boxes.set(name, { group, label, box });
  return group;
}

function pinAt(page, x, y, what) {
  const fill = page.drawing.stages[what][0];
  return draw("circle", { cx: x, cy: y, r: 3.5, class: "ux-umap-pin", fill });
}

function wire(points) {
  const [[a, b], [x, y]] = points.slice(-2);
  const [h, v] = [Math.sign(x - a), Math.sign(y - b)];
  const [back, low] = [x - 5 * h, y - 5 * v];
  const tip = [[x, y], [back - 3 * v, low - 3 * h], [back + 3 * v, low + 3 * h]];
  return draw("g", { class: "ux-umap-wire" },
    draw("polyline", { points: points.join(" ") }), draw("polygon", { points: tip.join(" ") }));
}

/** A skip: an arc over the U, with its shape. */
function arc(page, skip) {
  const { start, end, y } = skip, third = (end - start) / 3, high = y - 9;
  const d = `M${start} ${y} C${start + third} ${high} ${end - third} ${high} ${end - 1} ${y}`;
  const group = draw("g", {
    class: "ux-umap-skip", style: `--stage: ${page.drawing.stages[skip.stage][0]}`,
    onpointerenter: () => tellSkip(page, skip), onpointerleave: () => tell(page),
  },
    draw("path", { d, class: "ux-umap-reach" }), draw("path", { d, class: "ux-umap-arc" }),
    draw("polygon", { points: `${end},${y} ${end - 6},${y - 5} ${end - 5},${y + 2}` }),
    draw("text", { x: skip.x, y: y - 13, class: "ux-umap-small" }, skip.shape));
  page.skips.push({ skip, group });
  return group;
}

// ---- keys

function pressed(page, event) {
  const { key } = event;
  const name = document.activeElement?.dataset?.name ?? event.target.dataset?.name;
  if (key === "Escape" && page.model.get("selected")) {
    const home = homeOf(page, page.model.get("selected"));
    set(page, "selected", "");
    focus(page, home);
  } else if (key.startsWith("Arrow") && page.map.contains(event.target)) {
    const forward = key === "ArrowRight" || key === "ArrowDown";
    const at = page.order.indexOf(name) + (forward ? 1 : -1);
    if (at >= 0 && at < page.order.length) focus(page, page.order[at]);
  } else return;
  event.preventDefault();
  event.stopPropagation();
}

/** The module of the map that a module is, or is in. */
function homeOf(page, name) {
  while (name && !page.parts.has(name)) name = name.slice(0, Math.max(name.lastIndexOf("."), 0));
  return name;
}

function focus(page, name) {
  for (const [other, group] of page.parts) group.setAttribute("tabindex", other === name ? 0 : -1);
  page.parts.get(name)?.focus();
}

export default { render };
