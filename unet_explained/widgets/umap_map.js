// The map itself: the geometry of the U as an SVG, whose parts can be pointed at and opened.

import { draw } from "./widget.js";
import { set, shape, tell, tellSkip } from "./umap_info.js";

export function drawMap(page) {
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
  for (const { x, y, what, of } of drawing.pins) {
    const circle = pinAt(page, x, y, what);
    page.pins.push({ circle, of });
    svg.append(circle);
  }
  for (const each of drawing.texts)
    svg.append(text(each, `ux-umap-${each.look || "plain"}`, each.text));
  page.order = Object.keys(page.modules).filter((name) => page.parts.has(name));
  page.flow = page.order.filter((name) => page.boxes.has(name));
  page.parts.get(page.order[0]).setAttribute("tabindex", 0);
  return svg;
}

/** A module that can be pointed at, focused and opened: of the map, or of a drawing beside it. */
export function part(page, name, look, ...children) {
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

export function pinAt(page, x, y, what) {
  const fill = page.drawing.stages[what][0];
  return draw("circle", { cx: x, cy: y, r: 3.5, class: "ux-umap-pin", fill });
}

export function wire(points) {
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
