// The explorer's menus: which layer, head, step and half of the batch the maps are of.

import { draw, LOST, make } from "./widget.js";
import { headButtons } from "./explorer_heads.js";

const BEAT = 500; // milliseconds between two steps that are played

/** The layers as a small U, a block each in its stage's colour; the menu says the same in words. */
function smallU(layers, choose) {
  const sides = [...new Set(layers.map((layer) => layer.size[0]))].sort((a, b) => b - a);
  const [wide, high] = [18, 14];
  const viewBox = `0 0 ${wide * layers.length} ${high * sides.length}`;
  const blocks = layers.map((layer, index) => {
    const [x, y] = [wide * index + 1, high * sides.indexOf(layer.size[0]) + 1];
    const title = draw("title");
    title.textContent = `${layer.label}, ${layer.size.join(" × ")}`;
    const shape = { x, y, width: wide - 2, height: high - 2, rx: 2, fill: layer.colour };
    return draw("rect", { ...shape, onclick: () => choose(layer.name) }, title);
  });
  const svg = draw("svg", { class: "ux-u", viewBox, "aria-hidden": "true" }, ...blocks);
  const fits = (name, wanted) =>
    wanted.endsWith("*") ? name.startsWith(wanted.slice(0, -1)) : name === wanted;
  const show = (wanted) =>
    layers.forEach(({ name }, i) => blocks[i].classList.toggle("ux-chosen", fits(name, wanted)));
  return { svg, show };
}

const option = (value, label) => make("option", { value }, label);
const group = (label, options) => make("optgroup", { label }, ...options);

function layerMenu({ layers, means }, choose) {
  const stages = [...new Set(layers.map((layer) => layer.stage))].map((stage) => {
    const its = layers.filter((layer) => layer.stage === stage);
    const options = its.map((one) => option(one.name, `${one.label} · ${one.size.join(" × ")}`));
    return group(stage, options);
  });
  const menu = make("select", { onchange: () => choose({ layer: menu.value, head: null }) });
  menu.append(group("means", means.map((mean) => option(mean.name, mean.label))), ...stages);
  return menu;
}

function stepSlider({ timesteps, texts, choice, steps, mean }, choose) {
  const max = timesteps.length - 1;
  const slider = make("input", { type: "range", min: 0, max, disabled: !steps });
  const all = make("input", { type: "checkbox", disabled: !steps || !mean });
  const text = make("span", { class: "ux-at" });
  const words = ({ step, half }) => {
    const count = texts[half]?.count;
    if (step === null) return count === 1 ? "its only step" : `the mean of all ${count} steps`;
    return `step ${step} of 0 to ${max}, t\u00a0=\u00a0${timesteps[step] ?? LOST}`;
  };
  slider.value = choice.step ?? Math.floor((2 * max) / 3);
  const moved = () => (text.textContent = words({ step: Number(slider.value) }));
  slider.addEventListener("input", moved);
  slider.addEventListener("change", () => choose({ step: Number(slider.value) }));
  all.addEventListener("change", () => choose({ step: all.checked ? null : Number(slider.value) }));
  const show = (choice) => {
    if (choice.step !== null) slider.value = choice.step;
    all.checked = choice.step === null;
    text.textContent = words(choice);
    slider.setAttribute("aria-valuetext", words(choice));
  };
  const box = make("label", { class: "ux-check" }, all, "all steps, their mean");
  const player = play(slider, max, choose);
  const under = make("div", { class: "ux-under" }, player.button, text, box);
  return { slider, under, show, words, settled: player.settled };
}

/** Step after step, each when the one before it is shown and a beat has passed. */
function play(slider, max, choose) {
  const onclick = () => (playing ? stop() : start());
  const button = make("button", { type: "button", disabled: slider.disabled || !max, onclick });
  let playing = false, timer = null;
  const next = () => choose({ step: Math.min(max, Number(slider.value) + 1) });
  const start = () => {
    [playing, button.textContent] = [true, "Pause"];
    if (Number(slider.value) === max) choose({ step: 0 });
    else next();
  };
  const stop = () => {
    clearTimeout(timer);
    [playing, button.textContent] = [false, "Play"];
  };
  const settled = (choice, wrong) => {
    if (!playing) return;
    if (wrong || choice.step === null || choice.step === max) stop();
    else timer = setTimeout(next, BEAT);
  };
  stop();
  return { button, settled };
}

function halfMenu({ texts }, choose) {
  const menu = make("select", { onchange: () => choose({ half: menu.value }) });
  menu.append(...Object.entries(texts).map(([half, { label }]) => option(half, label)));
  menu.disabled = menu.length === 1;
  return menu;
}

/**
 * All of them, after one of pictures, if there is one: choose({name: value}) hears what a hand chose,
 * show(choice) sets them.
 */
export function menus(about, choose, subject) {
  const layer = layerMenu(about, choose);
  const u = smallU(about.layers, (name) => choose({ layer: name, head: null }));
  const [head, step] = [headButtons(about, choose), stepSlider(about, choose)];
  const half = halfMenu(about, choose);
  const field = (name, control) => {
    control.setAttribute("aria-label", name); // else browsers differ on what the label says
    return make("label", { class: "ux-field" }, make("span", {}, name), control);
  };
  const element = make(
    "div", { class: "ux-fields" },
    subject && field("Picture", subject), field("Layer", layer), u.svg,
    make("div", { class: "ux-field" }, make("span", {}, "Head"), head.element),
    field("Step", step.slider), step.under, field("Half", half),
  );
  const show = (choice) => {
    [layer.value, half.value] = [choice.layer, choice.half];
    for (const each of [head, step]) each.show(choice);
    u.show(choice.layer);
  };
  const words = (choice) => {
    const where = [...about.means, ...about.layers].find((each) => each.name === choice.layer);
    const which = choice.head === null ? "mean of the heads" : `head ${choice.head}`;
    return [where.label, which, step.words(choice)].join(" · ");
  };
  return { element, show, words, drawHeads: head.draw, step };
}
