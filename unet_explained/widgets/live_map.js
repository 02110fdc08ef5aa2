// The map of the U over a live run: of the run once it has ended, before that of the network alone.

import { make } from "./widget.js";
import { local } from "./local.js";
import { render } from "./umap_view.js";

/** Opens it at a module, "" for none, and at the step that is looked at. */
export async function openMap(page, name) {
  const found = await page.act({ map: null });
  if (!found) return;
  const { state } = found.content, step = page.shown?.content.step ?? 0;
  state.selected = name in state.modules ? name : "";
  state.step = step < state.timesteps.length ? step : 0;
  const view = make("div");
  const away = make("button", { type: "button", onclick: () => dialog.close() }, "close the map");
  const dialog = make("dialog", {
    class: "ux ux-live-map", "aria-label": "the map of the U", tabindex: -1,
    onclose: () => { close(); dialog.remove(); },
  }, away, view);
  page.root.append(dialog);
  dialog.showModal(); // Escape closes it, and the focus goes back to where it was
  const close = render({ model: local(state, (map) => page.ask({ map })), el: view });
  if (!state.timesteps.length && page.model.get("status") === "running")
    view.prepend(make("p", {}, "The run is still under way: what each module gave comes once it has ended."));
}
