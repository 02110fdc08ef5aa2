// The heads of a chosen layer: each a small map of the word that is shown, and a button.

import { make } from "./widget.js";

const SIDE = 48; // pixels of a head's map, on its longer side

/** A button for the mean and each head; choose({head}) hears what a hand chose. */
export function headButtons({ layers }, choose) {
  const element = make("div", { class: "ux-heads", role: "group", "aria-label": "Head" });
  let of = null, buttons = [];
  const known = layers.some((one) => one.heads);
  const alone = known ? "the mean; choose one layer to see each" : "the mean: no head was kept";
  const show = ({ layer, head }) => {
    const heads = layers.find((one) => one.name === layer)?.heads ?? 0;
    if (layer !== of) {
      buttons = heads > 1 ? [null, ...Array(heads).keys()].map((each) => buttonOf(each, choose)) : [];
      const text = heads === 1 ? "there is one" : alone;
      element.replaceChildren(...(buttons.length ? buttons : [make("span", {}, text)]));
      of = layer;
    }
    for (const [i, button] of buttons.entries())
      button.setAttribute("aria-pressed", `${(i ? i - 1 : null) === head}`);
  };
  /** Maps as canvases, the mean's first; null where there is none yet. */
  const draw = (maps) => maps.forEach((map, i) => {
    const canvas = buttons[i]?.querySelector("canvas");
    if (!map || !canvas) return;
    const scale = SIDE / Math.max(map.width, map.height);
    Object.assign(canvas, { width: map.width * scale, height: map.height * scale });
    canvas.getContext("2d").drawImage(map, 0, 0, canvas.width, canvas.height);
  });
  return { element, show, draw };
}

function buttonOf(head, choose) {
  const name = head === null ? "mean" : `head ${head}`;
  const canvas = make("canvas", { width: SIDE, height: SIDE, "aria-hidden": "true" });
  const onclick = () => choose({ head });
  return make("button", { type: "button", class: "ux-head", title: name, onclick },
    canvas, make("span", {}, name));
}
