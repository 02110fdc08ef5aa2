// The map of the U. Python says what there is and where it stands; this draws and colours it.

import { asking, make } from "./widget.js";
import { controls, paint } from "./umap_colours.js";
import { beside, stopAt } from "./keys.js";
import { homeOf, set } from "./umap_info.js";
import { drawMap } from "./umap_map.js";
import { open, show } from "./umap_panel.js";
import { follow, halt, player } from "./umap_play.js";
import { subjectMenu, turning } from "./subjects.js";

function build(model, el, before) {
  const { ask, close } = asking(model);
  const page = {
    model, ask, tab: before?.tab ?? "inside", turn: 0, first: 0,
    boxes: new Map(), parts: new Map(), skips: [], pins: [], activity: new Map(),
    drawing: model.get("drawing"), modules: model.get("modules"), timesteps: model.get("timesteps"),
    answers: model.get("answers"), show: () => show(page),
  };
  page.map = drawMap(page);
  page.legend = make("div", { class: "ux-row ux-umap-legend" });
  page.info = make("div", { class: "ux-umap-info" });
  page.details = make("section", { class: "ux-umap-details", "aria-label": "the chosen module" });
  const side = make("div", { class: "ux-umap-side" }, page.info, page.details);
  const said = make("span", { role: "status" }), which = subjectMenu(page, (text, wrong) => {
    said.textContent = text;
    said.classList.toggle("ux-error", wrong);
  });
  page.root = make(
    "section", {
      class: "ux ux-umap", "aria-label": `the map of the U: ${model.get("title")}`, onkeydown: (event) => pressed(page, event),
    },
    make("div", { class: "ux-umap-title" },
      make("strong", {}, model.get("title")), ` ${model.get("given")}`),
    which && make("div", { class: "ux-row" }, make("label", {}, "picture ", which), said),
    controls(page), player(page), page.legend, make("div", { class: "ux-umap-body" }, page.map, side),
  );
  const heard = {
    "change:selected": () => { page.first = 0; open(page); },
    "change:colour": () => paint(page),
    "change:step": () => stepped(page),
  };
  for (const [event, hear] of Object.entries(heard)) model.on(event, hear);
  el.replaceChildren(page.root);
  paint(page);
  open(page);
  page.close = () => {
    page.gone = true;
    halt(page);
    clearTimeout(page.timer);
    for (const [event, hear] of Object.entries(heard)) model.off(event, hear);
    close();
  };
  return page;
}

export const render = turning(build);

function stepped(page) {
  paint(page);
  if (page.at !== null) follow(page);
  clearTimeout(page.timer);
  // A slider under way passes many steps; each picture costs a forward of the model.
  const follows = ["feature maps", "attention"].includes(page.tab);
  if (follows) page.timer = setTimeout(() => show(page), 150);
}

function pressed(page, event) {
  const { key } = event;
  const name = document.activeElement?.dataset?.name ?? event.target.dataset?.name;
  if (key === "Escape" && page.model.get("selected")) {
    const home = homeOf(page, page.model.get("selected"));
    set(page, "selected", "");
    stopAt(page.parts, home);
  } else if (key.startsWith("Arrow") && page.map.contains(event.target)) {
    const next = beside(page.order, name, event);
    if (next) stopAt(page.parts, next);
  } else return;
  event.preventDefault();
  event.stopPropagation();
}
