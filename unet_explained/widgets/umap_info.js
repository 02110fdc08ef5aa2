// Words about a part of the map of the U: what is pointed at, else what is open.

import { LOST, make } from "./widget.js";

const HELP =
  "Point at a part of the U, or go through it with Tab and the arrow keys. " +
  "Click, or press Enter, to look inside; Escape closes.";
const UNITS = [["T", 1e12], ["G", 1e9], ["M", 1e6], ["K", 1e3], ["", 0]];
export const count = (n) => {
  const [unit, size] = UNITS.find(([, least]) => n >= least);
  return `${Number((n / (size || 1)).toPrecision(3))} ${unit}`.trim();
};
export const percent = (share) =>
  `${share && share < 1e-4 ? "< 0.01" : Number((100 * share).toPrecision(2))} %`;
export const shape = (axes) => axes.map(([, size]) => size).join(" × ");

export const faint = (text) => make("span", { class: "ux-umap-faint" }, text);
const list = (lines) => make("dl", {},
  ...lines.flatMap(([term, value]) => [make("dt", {}, term), make("dd", {}, value)]));

export function set(page, name, value) {
  page.model.set(name, value);
  page.model.save_changes();
}

/** The module of the map that a module is, or is in. */
export function homeOf(page, name) {
  while (name && !page.parts.has(name)) name = name.slice(0, Math.max(name.lastIndexOf("."), 0));
  return name;
}

/** Everything about a module in words; without a name, about the one that is open. */
export function tell(page, name = page.model.get("selected")) {
  mark(page, name);
  if (!name) return page.info.replaceChildren(make("p", { class: "ux-umap-faint" }, HELP));
  const module = page.modules[name], { hints, totals } = page.drawing;
  const lines = [["gives", chips(module.axes)]];
  for (const axes of distinct(module)) lines.push(["and gives", chips(axes)]);
  for (const tensor of module.tensors) lines.push([tensor.name, chips(tensor.axes, tensor.how)]);
  if (module.skip) lines.push(["skip", module.skip]);
  lines.push(["parameters", share(module.params, totals.params)]);
  lines.push(["FLOPs", share(module.flops, totals.flops)]);
  const step = page.model.get("step"), activity = page.activity.get(step)?.[name];
  const size = activity === null ? `${LOST}: NaN or Inf` : activity;
  if (activity !== undefined) lines.push([`at step ${step}`, `root mean square ${size}`]);
  const given = page.at === null ? null : page.given.get(step)?.get(name);
  page.info.replaceChildren(
    given ? make("img", { src: given, alt: "what it gave: like colours, like features" }) : "",
    make("h3", {}, ...dotted(name)),
    make("p", {}, make("code", {}, module.kind), ` ${hints[module.kind]}`), list(lines));
}

/** A name that may break after its dots. */
function dotted(name) {
  return name.split(/(?<=\.)/).flatMap((each) => [each, make("wbr")]);
}

/** The axes of further calls, where they differ. */
function distinct({ axes, again }) {
  const seen = new Set([String(axes)]);
  return again.filter((each) => !seen.has(String(each)) && seen.add(String(each)));
}

function chips(axes, how) {
  const named = (axis, size) => (axis === "1" ? ["1"] : [`${axis} `, make("b", {}, `${size}`)]);
  const sizes = axes.map((each) => make("span", { class: "ux-umap-axis" }, ...named(...each)));
  return make("span", {}, ...sizes, how && faint(how));
}

function share(part, whole) {
  return make("span", { class: "ux-umap-share" },
    make("span", {}, `${count(part)}, ${percent(part / whole)}`),
    make("i", { style: `--share: ${(100 * part) / whole}%` }));
}

export function tellSkip(page, skip) {
  mark(page, skip.from, skip.to);
  const there = make("span", {}, `${skip.sum} `, faint("channels: from below + by the skip"));
  page.info.replaceChildren(make("h3", {}, "skip"),
    make("p", {}, "What the way down keeps, laid beside what comes up from below."),
    list([["from", skip.from], ["to", skip.to], ["carries", skip.shape], ["there", there]]));
}

/** Shows on the map what is pointed at, what is open, and their skips. */
function mark(page, ...names) {
  const pointed = names.map((name) => homeOf(page, name));
  const open = homeOf(page, page.model.get("selected"));
  for (const [name, group] of page.parts) {
    group.classList.toggle("ux-umap-pointed", pointed.includes(name));
    group.classList.toggle("ux-umap-open", name === open);
  }
  for (const { skip, group } of page.skips) {
    const ends = [skip.from, skip.to];
    group.classList.toggle("ux-umap-pointed", ends.some((end) => pointed.includes(end)));
  }
}
