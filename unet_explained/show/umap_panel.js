// The panel beside the map of the U: what a module is, its inside, its source, what it did in a run.

const TABS = { inside: inside, source: source, "feature maps": features, attention: attention };
const [LANE, MAIN, SIDE, FRAME] = [[1, 99], [107, 122], [236, 99], [20, 314]]; // left edge, width
const MIDDLE = MAIN[0] + MAIN[1] / 2;

// ---- what is pointed at

/** Everything about a module in words; without a name, about the one that is open. */
function tell(page, name = page.model.get("selected")) {
  mark(page, name);
  if (!name) return page.info.replaceChildren(make("p", { class: "ux-umap-faint" }, HELP));
  const module = page.modules[name], { hints, totals } = page.drawing;
  const lines = [["gives", chips(module.axes)]];
  for (const axes of distinct(module)) lines.push(["and gives", chips(axes)]);
  for (const tensor of module.tensors) lines.push([tensor.name, chips(tensor.axes, tensor.how)]);
  if (module.skip) lines.push(["skip", module.skip]);
  lines.push(["parameters", share(module.params, totals.params)], ["FLOPs", share(module.flops, totals.flops)]);
  const activity = page.activity.get(page.model.get("step"))?.[name];
  if (activity !== undefined) lines.push([`at step ${page.model.get("step")}`, `root mean square ${activity}`]);
  const terms = lines.flatMap(([term, value]) => [make("dt", {}, term), make("dd", {}, value)]);
  page.info.replaceChildren(
    make("h3", {}, ...dotted(name)), make("p", {}, make("code", {}, module.kind), ` ${hints[module.kind]}`),
    make("dl", {}, ...terms));
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
  const sizes = axes.map(([axis, size]) =>
    make("span", { class: "ux-umap-axis" }, ...(axis === "1" ? ["1"] : [`${axis} `, make("b", {}, `${size}`)])));
  return make("span", {}, ...sizes, how && make("span", { class: "ux-umap-faint" }, how));
}

function share(part, whole) {
  return make("span", { class: "ux-umap-share" },
    make("span", {}, `${count(part)}, ${percent(part / whole)}`),
    make("i", { style: `--share: ${(100 * part) / whole}%` }));
}

function tellSkip(page, skip) {
  mark(page, skip.from, skip.to);
  const stay = make("span", { class: "ux-umap-faint" }, "channels from below + of the skip");
  const lines = [["from", skip.from], ["to", skip.to], ["carries", skip.shape],
    ["there", make("span", {}, `${skip.sum} `, stay)]];
  page.info.replaceChildren(make("h3", {}, "skip"),
    make("p", {}, "What the way down keeps, laid beside what comes up from below."),
    make("dl", {}, ...lines.flatMap(([term, value]) => [make("dt", {}, term), make("dd", {}, value)])));
}

/** Shows on the map what is pointed at, what is open, and their skips. */
function mark(page, ...names) {
  const pointed = names.map((name) => homeOf(page, name)), open = homeOf(page, page.model.get("selected"));
  for (const [name, group] of page.parts) {
    group.classList.toggle("ux-umap-pointed", pointed.includes(name));
    group.classList.toggle("ux-umap-open", name === open);
  }
  for (const { skip, group } of page.skips)
    group.classList.toggle("ux-umap-pointed", pointed.includes(skip.from) || pointed.includes(skip.to));
}

// ---- what is open

function open(page) {
  const name = page.model.get("selected");
  tell(page);
  page.root.classList.toggle("ux-umap-opened", Boolean(name));
  if (!name) return page.details.replaceChildren();
  const offered = Object.keys(TABS).filter((tab) => offers(page, name, tab));
  if (!offered.includes(page.tab)) page.tab = "inside";
  page.tabs = offered.map((tab) => make("button", {
    type: "button", role: "tab", "aria-selected": `${tab === page.tab}`, tabindex: tab === page.tab ? 0 : -1,
    onclick: () => turnTo(page, tab),
  }, tab));
  const wider = make("button", {
    type: "button", class: "ux-umap-wider", title: "the panel below the map, in full width",
    "aria-pressed": `${page.root.classList.contains("ux-umap-wide")}`,
    onclick: () => wider.setAttribute("aria-pressed", page.root.classList.toggle("ux-umap-wide")),
  }, "wider");
  const away = make("button", { type: "button", "aria-label": "close", onclick: () => set(page, "selected", "") }, "×");
  page.panel = make("div", { role: "tabpanel", class: "ux-umap-panel" });
  page.details.replaceChildren(
    make("div", { class: "ux-umap-top" }, crumbs(page, name), wider, away),
    make("div", { role: "tablist", class: "ux-umap-tabs", onkeydown: (e) => alongTabs(page, e) }, ...page.tabs),
    page.panel);
  show(page);
}

/** The module and those that it is in, each to be opened. */
function crumbs(page, name) {
  const names = [];
  for (let end = name.length; end > 0; end = name.lastIndexOf(".", end - 1))
    if (page.modules[name.slice(0, end)]) names.unshift(name.slice(0, end));
  const own = names.map((each, i) => each.slice(i ? names[i - 1].length + 1 : 0));
  return make("nav", { "aria-label": "where it stands" }, ...names.flatMap((each, i) => [
    i ? " › " : null,
    make("button", {
      type: "button", "aria-current": each === name ? "true" : null, onclick: () => set(page, "selected", each),
    }, own[i]),
  ]));
}

function offers(page, name, tab) {
  if (tab === "inside" || tab === "source") return true;
  if (!page.timesteps.length) return false;
  const { axes } = page.modules[name], has = (axis) => axes.some(([each]) => each === axis);
  if (tab === "feature maps") return has("height") || has("query");
  return Object.entries(page.modules).some(([each, module]) =>
    module.kind === "Attention" && (`${each}.`.startsWith(`${name}.`) || name.startsWith(`${each}.`)));
}

function turnTo(page, tab) {
  page.tab = tab;
  page.first = 0;
  for (const button of page.tabs) {
    button.setAttribute("aria-selected", button.textContent === tab);
    button.setAttribute("tabindex", button.textContent === tab ? 0 : -1);
  }
  show(page);
}

function alongTabs(page, event) {
  const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!move) return;
  const next = page.tabs[page.tabs.indexOf(event.target) + move];
  if (next) turnTo(page, next.textContent);
  next?.focus();
  event.preventDefault();
}

/** Fills the panel; an answer that comes after something else was chosen is dropped. */
async function show(page) {
  const turn = ++page.turn, name = page.model.get("selected");
  if (!name) return;
  const found = TABS[page.tab](page, name);
  if (found instanceof Promise) {
    page.panel.classList.add("ux-umap-waiting");
    if (!page.panel.firstChild) page.panel.append(make("p", { class: "ux-umap-faint" }, "looking …"));
  }
  let element;
  try {
    element = await found;
  } catch (error) {
    element = make("p", { class: "ux-error", role: "alert" }, error.message);
  }
  if (turn !== page.turn) return;
  page.panel.classList.remove("ux-umap-waiting");
  page.panel.replaceChildren(element);
}

// ---- its source

async function source(page, name) {
  const { content } = await page.ask({ source: page.modules[name].kind });
  const found = content.codes.flatMap((each) => each.einops.map((line) => [each, line]));
  const lines = found.map(([each, { code, pattern, first }]) => make("li", {},
    pattern && make("strong", {}, pattern), make("code", {}, code),
    make("span", { class: "ux-umap-faint" }, `${each.name}, line ${each.first + first - 1}`)));
  return make("div", {},
    make("h4", {}, lines.length ? "its einops lines" : "no einops line of its own"),
    make("ol", { class: "ux-umap-einops" }, ...lines),
    ...content.codes.flatMap((each) => [
      make("h4", {}, `${each.name} `, make("span", { class: "ux-umap-faint" }, `${each.file}, line ${each.first}`)),
      listing(each),
    ]));
}

/** The code, its einops lines marked. */
function listing({ code, einops }) {
  const marked = (n) => einops.some(({ first, last }) => first <= n && n <= last);
  const lines = code.trimEnd().split("\n").map((line, i) => make("span", { class: marked(i + 1) ? "ux-umap-marked" : null }, `${line}\n`));
  return make("pre", { tabindex: 0 }, make("code", {}, ...lines));
}

// ---- what it did at a step

function tiles(texts, buffers, look = "") {
  const each = texts.map((text, i) => {
    const url = URL.createObjectURL(new Blob([bytes(buffers[i])], { type: "image/png" }));
    const image = make("img", { src: url, alt: "", onload: () => URL.revokeObjectURL(url) });
    return make("figure", {}, image, make("figcaption", {}, text));
  });
  return make("div", { class: `ux-umap-tiles ${look}` }, ...each);
}

async function features(page, name) {
  const step = page.model.get("step");
  const { content, buffers } = await page.ask({ features: name, step, first: page.first });
  const go = (first, text) => make("button", {
    type: "button", disabled: first < 0 || first >= content.count,
    onclick: () => { page.first = first; show(page); },
  }, text);
  const size = content.next - page.first;
  const row = make("div", { class: "ux-row" }, go(page.first - size, "earlier channels"), go(content.next, "later channels"),
    make("span", { class: "ux-umap-faint" }, `step ${step}; red above 0, blue below; each on its own scale`));
  return make("div", {}, row, tiles(content.texts, buffers));
}

async function attention(page, name) {
  const step = page.model.get("step");
  const { content, buffers } = await page.ask({ attention: name, step });
  const words = content.kind === "cross"
    ? `Cross-attention at step ${step}: how much each place looks at a word. All words on one scale.`
    : `Self-attention at step ${step}: where nine places look, each on its own scale.`;
  const layers = `Mean of all heads of ${content.layers.length > 1 ? `${content.layers.length} layers` : content.layers[0]}.`;
  return make("div", {}, make("p", { class: "ux-umap-faint" }, `${words} ${layers}`),
    tiles(content.texts, buffers, content.kind === "self" ? "ux-umap-nine" : ""));
}

// ---- its inside, as a drawing from top to bottom

function inside(page, name) {
  const { kind, parts, axes } = page.modules[name];
  const rows = page.drawing.insides[kind] ?? parts.map((each) => ({ part: each }));
  if (!rows.length) return make("p", { class: "ux-umap-faint" }, "One operation: there is nothing smaller inside.");
  const plan = { page, name, y: 16, tops: [], items: [], calls: {}, wide: rows.some((row) => row.each) };
  write(plan, MIDDLE, 8, "in", "ux-umap-small");
  for (const row of rows) {
    plan.tops.push(plan.y + 14);
    (row.each ? eachOf : row.parts ? besides : row.op ? meeting : row.note ? note : one)(plan, row);
  }
  plan.items.push(wire([[MIDDLE, plan.y], [MIDDLE, plan.y + 14]]));
  write(plan, MIDDLE, plan.y + 22, `out ${shape(axes)}`, "ux-umap-small");
  const box = `0 0 336 ${plan.y + 32}`;
  return draw("svg", { viewBox: box, class: "ux-umap-inside", role: "group", "aria-label": `inside ${name}` }, ...plan.items);
}

function write(plan, x, y, text, look) {
  plan.items.push(draw("text", { x, y, class: look }, text));
}

/** A part with its name, class and shape; false if the module has no such part. */
function node(plan, own, [x, width], y, height = 30) {
  const { page, calls } = plan, name = `${plan.name}.${own}`, module = page.modules[name];
  if (!module) return false;
  const kind = module.cross === undefined ? module.kind : module.cross ? "cross-attention" : "self-attention";
  const fits = height > 25 && own.length * 6.6 + kind.length * 5.4 + 14 < width;
  calls[own] = (calls[own] ?? -1) + 1; // drawn in the order of its calls
  const axes = [module.axes, ...module.again][calls[own]] ?? module.axes;
  plan.items.push(part(page, name, "ux-umap-node",
    draw("rect", { x, y, width, height, rx: 4, class: "ux-umap-shape" }),
    draw("text", { x: x + width / 2, y: y + Math.min(9.5, height / 2) },
      draw("tspan", { class: "ux-umap-strong" }, height > 25 ? own : kind.replace("FeedForward", "feed-forward")),
      fits ? draw("tspan", { class: "ux-umap-faint", dx: 6 }, kind) : null),
    height > 25 ? draw("text", { x: x + width / 2, y: y + 21.5, class: "ux-umap-small" }, shape(axes)) : null));
  return true;
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
  given.forEach(([what, words], i) => arrives(plan, what, words, y + 15 + 14 * (i - (given.length - 1) / 2)));
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
    else plan.items.push(wire([[MIDDLE, plan.y], [MIDDLE, plan.y + 8], [centre, plan.y + 8], [centre, y]]));
    node(plan, own, [x, width], y);
    plan.items.push(wire([[centre, y + 30], [centre, y + 40], [MIDDLE, y + 40], [MIDDLE, y + 50]]));
  });
  plan.y = y + 36;
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
    ["attn1", "attn2", "ff"].forEach((own, i) => node(plan, own, [x + 7 + i * 102, 96], y + 20, 20));
    plan.name = kept;
    plan.items.push(...[1, 2].map((i) => wire([[x + 1 + i * 102, y + 30], [x + 7 + i * 102, y + 30]])));
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
