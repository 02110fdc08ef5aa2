// The panel beside the map of the U: what a module is, its source, and what it did in a run.

const TABS = { inside: inside, source: source, "feature maps": features, attention: attention };

const faint = (text) => make("span", { class: "ux-umap-faint" }, text);
const list = (lines) => make("dl", {},
  ...lines.flatMap(([term, value]) => [make("dt", {}, term), make("dd", {}, value)]));

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
  lines.push(["parameters", share(module.params, totals.params)]);
  lines.push(["FLOPs", share(module.flops, totals.flops)]);
  const step = page.model.get("step"), activity = page.activity.get(step)?.[name];
  const size = activity === null ? `${LOST}: NaN or Inf` : activity;
  if (activity !== undefined) lines.push([`at step ${step}`, `root mean square ${size}`]);
  page.info.replaceChildren(
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

function tellSkip(page, skip) {
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

// ---- what is open

function open(page) {
  const name = page.model.get("selected"), within = page.details.contains(document.activeElement);
  tell(page);
  page.root.classList.toggle("ux-umap-opened", Boolean(name));
  if (!name) return page.details.replaceChildren();
  const offered = Object.keys(TABS).filter((tab) => offers(page, name, tab));
  if (!offered.includes(page.tab)) page.tab = "inside";
  page.tabs = offered.map((tab) => make("button", {
    type: "button", role: "tab", "aria-selected": `${tab === page.tab}`,
    tabindex: tab === page.tab ? 0 : -1,
    onclick: () => turnTo(page, tab),
  }, tab));
  const wider = make("button", {
    type: "button", class: "ux-umap-wider", title: "the panel below the map, in full width",
    "aria-pressed": `${page.root.classList.contains("ux-umap-wide")}`,
    onclick: () => wider.setAttribute("aria-pressed", page.root.classList.toggle("ux-umap-wide")),
  }, "wider");
  const away = make("button", {
    type: "button", "aria-label": "close", onclick: () => set(page, "selected", ""),
  }, "×");
  page.panel = make("div", { role: "tabpanel", class: "ux-umap-panel" });
  page.details.replaceChildren(
    make("div", { class: "ux-umap-top" }, crumbs(page, name), wider, away),
    make("div", {
      role: "tablist", class: "ux-umap-tabs", onkeydown: (event) => alongTabs(page, event),
    }, ...page.tabs),
    page.panel);
  if (within) page.details.querySelector("[aria-current]").focus();
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
      type: "button", "aria-current": each === name ? "true" : null,
      onclick: () => set(page, "selected", each),
    }, own[i]),
  ]));
}

function offers(page, name, tab) {
  if (tab === "inside" || tab === "source") return true;
  if (!page.timesteps.length) return false;
  const { axes } = page.modules[name], has = (axis) => axes.some(([each]) => each === axis);
  const { features, cross, self } = page.answers;
  if (tab === "feature maps")
    return (has("height") || has("query")) && (features === null || features.includes(name));
  const nested = (inner, outer) => `${inner}.`.startsWith(`${outer}.`);
  const all = Object.entries(page.modules).filter(([, { kind }]) => kind === "Attention");
  const inside = all.filter(([each]) => nested(each, name));
  const found = inside.length ? inside : all.filter(([each]) => nested(name, each));
  return found.length > 0 && (found.some(([, module]) => module.cross) ? cross : self);
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
    if (!page.panel.firstChild) page.panel.append(faint("looking …"));
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
    faint(`${each.name}, line ${each.first + first - 1}`)));
  return make("div", {},
    make("h4", {}, lines.length ? "its einops lines" : "no einops line of its own"),
    make("ol", { class: "ux-umap-einops" }, ...lines),
    ...content.codes.flatMap((each) => [
      make("h4", {}, `${each.name} `, faint(`${each.file}, line ${each.first}`)),
      listing(each),
    ]));
}

/** The code, its einops lines marked. */
function listing({ code, einops }) {
  const marked = (n) => einops.some(({ first, last }) => first <= n && n <= last);
  const lines = code.trimEnd().split("\n").map((line, i) =>
    make("span", { class: marked(i + 1) ? "ux-umap-marked" : null }, `${line}\n`));
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
  const row = make("div", { class: "ux-row" },
    go(page.first - size, "earlier channels"), go(content.next, "later channels"),
    faint(`step ${step}; red above 0, blue below; each on its own scale`));
  return make("div", {}, row, tiles(content.texts, buffers));
}

async function attention(page, name) {
  const step = page.model.get("step");
  const { content, buffers } = await page.ask({ attention: name, step });
  const { kind, layers, texts } = content;
  const words = {
    cross: `Cross-attention at step ${step}: how much each place looks at a word, all on one scale.`,
    tokens: `Cross-attention at step ${step}: how much each place looks at a token, each on its own scale.`,
    self: `Self-attention at step ${step}: where nine places look, each on its own scale.`,
  }[kind];
  const whose = layers.length > 1 ? `${layers.length} layers` : layers[0];
  return make("div", {}, make("p", {}, faint(`${words} Mean of all heads of ${whose}.`)),
    tiles(texts, buffers, kind === "self" ? "ux-umap-nine" : ""));
}
