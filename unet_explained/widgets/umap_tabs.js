// What a tab of the panel beside the map of the U asks Python for: source, features, attention.

import { bytes, make } from "./widget.js";
import { faint } from "./umap_info.js";
import { listing } from "./umap_listing.js";

export async function source(page, name) {
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

function tiles(texts, buffers, look = "") {
  const each = texts.map((text, i) => {
    const url = URL.createObjectURL(new Blob([bytes(buffers[i])], { type: "image/png" }));
    const image = make("img", { src: url, alt: "", onload: () => URL.revokeObjectURL(url) });
    return make("figure", {}, image, make("figcaption", {}, text));
  });
  return make("div", { class: `ux-umap-tiles ${look}` }, ...each);
}

export async function features(page, name) {
  const step = page.model.get("step");
  const { content, buffers } = await page.ask({ features: name, step, first: page.first });
  const go = (first, text) => make("button", {
    type: "button", disabled: first < 0 || first >= content.count,
    onclick: () => { page.first = first; page.show(); },
  }, text);
  const size = content.next - page.first;
  const row = make("div", { class: "ux-row" },
    go(page.first - size, "earlier channels"), go(content.next, "later channels"),
    faint(`step ${step}; red above 0, blue below; each on its own scale`));
  return make("div", {}, row, tiles(content.texts, buffers));
}

export async function attention(page, name) {
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
