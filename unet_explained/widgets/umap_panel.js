// The panel beside the map of the U: what is open, and its tabs.

import { make } from "./widget.js";
import { faint, set, tell } from "./umap_info.js";
import { inside } from "./umap_inside.js";
import { attention, features, source } from "./umap_tabs.js";

const TABS = { inside, source, "feature maps": features, attention };

export function open(page) {
  const name = page.model.get("selected"), within = page.details.contains(document.activeElement);
  tell(page);
  page.root.classList.toggle("ux-umap-opened", Boolean(name));
  if (!name) return page.details.replaceChildren(firstSteps(page));
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
    onclick: () => {
      wider.setAttribute("aria-pressed", page.root.classList.toggle("ux-umap-wide"));
      inSight(page);
    },
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
  show(page).then(() => inSight(page));
}

/** What there is to do, while nothing is open. */
function firstSteps(page) {
  const run = page.timesteps.length > 0;
  const lines = [
    "Point at a box: what it gives, and what it costs.",
    "Click it: what is inside, and its source" + (run ? "; what it gave, and where it looked." : "."),
    "Play: one forward, module by module" + (run ? ", with what each gave." : "."),
    "Colour by FLOPs or parameters: where the work and the weights are.",
  ];
  return make("ol", { class: "ux-umap-first" }, ...lines.map((line) => make("li", {}, line)));
}

/** What opened below the fold comes up, as far as it must. */
function inSight({ details }) {
  details.scrollIntoView({ block: "nearest" });
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
export async function show(page) {
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
