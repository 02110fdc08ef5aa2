// The inside of a module of the map of the U, as a drawing from top to bottom.

import { draw } from "./widget.js";
import { faint, shape } from "./umap_info.js";
import { part, pinAt, wire } from "./umap_map.js";

const [LANE, MAIN, SIDE, FRAME] = [[1, 99], [107, 122], [236, 99], [20, 314]]; // left edge, width
const MIDDLE = MAIN[0] + MAIN[1] / 2;

export function inside(page, name) {
  const { kind, parts, axes } = page.modules[name];
  const rows = page.drawing.insides[kind] ?? parts.map((each) => ({ part: each }));
  if (!rows.length) return faint("One operation: there is nothing smaller inside.");
  const wide = rows.some((row) => row.each);
  const plan = { page, name, wide, y: 16, tops: [], items: [], calls: {} };
  write(plan, MIDDLE, 8, "in", "ux-umap-small");
  for (const row of rows) {
    plan.tops.push(plan.y + 14);
    (row.each ? eachOf : row.parts ? besides : row.op ? meeting : row.note ? note : one)(plan, row);
  }
  plan.items.push(wire([[MIDDLE, plan.y], [MIDDLE, plan.y + 14]]));
  write(plan, MIDDLE, plan.y + 22, `out ${shape(axes)}`, "ux-umap-small");
  const look = { viewBox: `0 0 336 ${plan.y + 32}`, class: "ux-umap-inside" };
  return draw("svg", { ...look, role: "group", "aria-label": `inside ${name}` }, ...plan.items);
}

function write(plan, x, y, text, look) {
  plan.items.push(draw("text", { x, y, class: look }, text));
}

/** A part with its name, class and shape. */
function node(plan, own, [x, width], y, height = 30) {
  const { page, calls } = plan, name = `${plan.name}.${own}`, module = page.modules[name];
  const high = height > 25, centre = x + width / 2, kind = wordFor(module);
  const fits = high && own.length * 6.6 + kind.length * 5.4 + 14 < width;
  calls[own] = (calls[own] ?? -1) + 1; // drawn in the order of its calls
  const axes = [module.axes, ...module.again][calls[own]] ?? module.axes;
  plan.items.push(part(page, name, "ux-umap-node",
    draw("rect", { x, y, width, height, rx: 4, class: "ux-umap-shape" }),
    draw("text", { x: centre, y: y + Math.min(9.5, height / 2) },
      draw("tspan", { class: "ux-umap-strong" }, high ? own : kind),
      fits ? draw("tspan", { class: "ux-umap-faint", dx: 6 }, kind) : null),
    high ? draw("text", { x: centre, y: y + 21.5, class: "ux-umap-small" }, shape(axes)) : null));
}

function wordFor({ kind, cross }) {
  if (cross !== undefined) return cross ? "cross-attention" : "self-attention";
  return kind === "FeedForward" ? "feed-forward" : kind;
}

/** A part on the main path, and what arrives there from outside. */
function one(plan, { part: own }) {
  const y = plan.y + 14, module = plan.page.modules[`${plan.name}.${own}`];
  plan.items.push(wire([[MIDDLE, plan.y], [MIDDLE, y]]));
  node(plan, own, MAIN, y);
  plan.y = y + 30;
  const skip = module.tensors.find((tensor) => tensor.skip)?.skip.replace("from ", "");
  const given = [];
  if (skip) given.push([plan.page.drawing.skips.find((each) => each.from === skip).stage,
    `skip of ${plan.page.modules[skip].axes[1][1]}`]);
  if (module.kind === "ResnetBlock2D") given.push(["time", "time"]);
  if (module.cross || module.kind === "Transformer2DModel") given.push(["input", "text"]);
  if (module.kind === "Attend") {
    const weights = module.tensors.find((tensor) => tensor.name === "weights");
    write(plan, SIDE[0] + 4, y + 9, "weights", "ux-umap-start ux-umap-tiny");
    write(plan, SIDE[0] + 4, y + 21, shape(weights.axes), "ux-umap-start ux-umap-tiny");
  }
  const top = y + 15 - 7 * (given.length - 1);
  given.forEach(([what, words], i) => arrives(plan, what, words, top + 14 * i));
}

function arrives(plan, what, words, y, x = SIDE[0] + 12) {
  plan.items.push(pinAt(plan.page, x, y, what));
  write(plan, x + 8, y, words, "ux-umap-start ux-umap-small");
}

/** Parts side by side: queries from the picture, keys and values from what is looked at. */
function besides(plan, { parts }) {
  const y = plan.y + 20, width = 106, cross = plan.page.modules[plan.name].cross;
  parts.forEach((own, i) => {
    const x = i * 115, centre = x + width / 2;
    if (i && cross) arrives(plan, "input", "text", y - 9, centre + 10);
    else bend(plan, [MIDDLE, plan.y], plan.y + 8, [centre, y]);
    node(plan, own, [x, width], y);
    bend(plan, [centre, y + 30], y + 40, [MIDDLE, y + 50]);
  });
  plan.y = y + 36;
}

/** Down to a height, across, and down again. */
function bend(plan, [x, y], middle, [toX, toY]) {
  plan.items.push(wire([[x, y], [x, middle], [toX, middle], [toX, toY]]));
}

/** All transformer blocks: in each, the three that a pixel's numbers pass. */
function eachOf(plan, { each }) {
  const blocks = plan.page.modules[plan.name].parts.filter((own) => own.startsWith(each));
  for (const block of blocks) {
    const y = plan.y + 14, [x, width] = FRAME, name = `${plan.name}.${block}`;
    plan.items.push(wire([[MIDDLE, plan.y], [MIDDLE, y]]));
    plan.items.push(part(plan.page, name, "ux-umap-node ux-umap-frame",
      draw("rect", { x, y, width, height: 46, rx: 6, class: "ux-umap-shape" }),
      draw("text", { x: x + 8, y: y + 11, class: "ux-umap-strong ux-umap-start" }, block)));
    const kept = plan.name;
    plan.name = name;
    ["attn1", "attn2", "ff"].forEach((own, i) => {
      const left = x + 7 + i * 102;
      node(plan, own, [left, 96], y + 20, 20);
      if (i) plan.items.push(wire([[left - 6, y + 30], [left, y + 30]]));
    });
    plan.name = kept;
    plan.y = y + 46;
  }
}

/** Where paths meet: the one that went around, or what is told from outside. */
function meeting(plan, { op, from, through, side, given }) {
  const y = plan.y + 24, radius = 10;
  plan.items.push(wire([[MIDDLE, plan.y], [MIDDLE, y - radius]]));
  if (side) {
    const centre = SIDE[0] + SIDE[1] / 2, tops = plan.tops.slice(-1 - side.length, -1);
    arrives(plan, given, given, tops[0] - 10, centre - 16);
    side.forEach((own, i) => {
      if (i) plan.items.push(wire([[centre, tops[i - 1] + 30], [centre, tops[i]]]));
      node(plan, own, SIDE, tops[i]);
    });
    plan.items.push(wire([[centre, tops.at(-1) + 30], [centre, y], [MIDDLE + radius, y]]));
  } else {
    const start = plan.tops[from] - 9, has = Boolean(plan.page.modules[`${plan.name}.${through}`]);
    const clear = plan.wide ? FRAME[0] - 12 : LANE[1] - 8;
    const lane = has ? LANE[0] + LANE[1] / 2 : clear, top = (start + y) / 2 - 15;
    if (has) {
      plan.items.push(wire([[MIDDLE, start], [lane, start], [lane, top]]));
      node(plan, through, LANE, top);
    }
    const begin = has ? [[lane, top + 30]] : [[MIDDLE, start], [lane, start]];
    plan.items.push(wire([...begin, [lane, y], [MIDDLE - radius, y]]));
  }
  plan.items.push(draw("circle", { cx: MIDDLE, cy: y, r: radius, class: "ux-umap-op" }));
  write(plan, MIDDLE, y, op, "ux-umap-strong");
  plan.y = y + radius;
}

function note(plan, { note: words }) {
  plan.items.push(wire([[MIDDLE, plan.y], [MIDDLE, plan.y + 14]]));
  write(plan, MIDDLE, plan.y + 23, words, "ux-umap-small");
  plan.y += 32;
}
