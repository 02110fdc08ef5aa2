// What a step of a live run looks like: the picture so far, a word's map over it, the U at work.

import { bytes, draw, LOST, make } from "./widget.js";
import { beside, stopAt } from "./keys.js";
import { openMap } from "./live_map.js";
import { coloured, heat, lay, lostMap, pixels, ramp, under } from "./over.js";

const SIDE = 288; // canvas pixels of a picture's longer side

/** The panels, empty; paint() fills them. */
export function panels(page) {
  const canvas = () => make("canvas", { width: SIDE, height: SIDE, role: "img" });
  const panel = (...parts) => make("figure", { class: "ux-live-panel" }, ...parts);
  for (const name of ["picture", "overlay"]) page[name] = canvas();
  for (const name of ["pictureName", "overlayName", "mapName"]) page[name] = make("figcaption");
  page.beside = make("figure", { class: "ux-live-beside" });
  for (const event of ["pointermove", "pointerleave"])
    page.overlay.addEventListener(event, (at) => {
      page.place = event === "pointermove" ? placeOf(page.overlay, at) : null;
      if (page.mapped) nameMap(page);
    });
  page.scale = ramp(page.look);
  page.map = smallU(page);
  const whole = make("button", { type: "button", onclick: () => openMap(page, "") }, "open the map of the U");
  return make("div", { class: "ux-live-stage" },
    page.beside, panel(page.picture, page.pictureName), panel(page.overlay, page.overlayName),
    panel(page.map, page.scale.element, page.mapName, whole));
}

/** The U, as the map of the U draws it, without its words. */
function smallU(page) {
  const { width, height, stages, wires, skips, boxes } = page.model.get("drawing");
  const onkeydown = (event) => pressed(page, event);
  const map = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", onkeydown });
  for (const points of wires) map.append(draw("polyline", { points: points.flat().join(" ") }));
  for (const { start, end, y } of skips)
    map.append(draw("line", { x1: start, x2: end, y1: y, y2: y }));
  page.boxes = new Map();
  for (const { name, stage, x, y, ...size } of boxes) {
    const shape = draw("rect", {
      x, y, width: size.width, height: size.height, rx: 4, stroke: stages[stage][0],
      role: "button", "aria-label": name, tabindex: page.boxes.size ? -1 : 0,
      onpointerenter: () => point(page, name), onpointerleave: () => point(page, null),
      onfocus: () => point(page, name), onblur: () => point(page, null),
      onclick: () => openMap(page, name),
    });
    page.boxes.set(name, shape);
    map.append(shape);
  }
  return map;
}

function pressed(page, event) {
  const names = [...page.boxes.keys()], name = event.target.getAttribute("aria-label");
  const next = beside(names, name, event);
  if (next) stopAt(page.boxes, next);
  else if (event.key === "Enter" || event.key === " ") openMap(page, name);
  else return;
  event.preventDefault();
}

/** Names a module of the U, and how active it was. */
function point(page, name) {
  page.pointed = name;
  if (page.shown) nameU(page);
}

function nameU(page) {
  const { content, activity } = page.shown, index = content.modules.indexOf(page.pointed);
  const lost = content.lost.modules.length ? `; dashed: ${LOST}` : "";
  const all = `activity of each module (root mean square)${lost}`;
  const value = () => ((activity[index] / 255) * content.strongest).toPrecision(3);
  const one = content.lost.modules.includes(page.pointed) ? LOST : index < 0 ? "" : value();
  page.mapName.textContent = index < 0 ? all : `${page.pointed}: ${one}`;
  page.map.setAttribute("aria-label", all);
}

export function paint(page) {
  if (!page.shown) return;
  const { content, preview, beside } = page.shown, small = pixels(preview, content.preview);
  page.beside.hidden = !beside.length;
  page.beside.replaceChildren(...content.beside.flatMap(({ about, size }, i) => {
    const canvas = make("canvas", { role: "img", "aria-label": about });
    enlarge(shaped(canvas, small), pixels(beside[i], size));
    return [canvas, make("figcaption", {}, about)];
  }));
  enlarge(shaped(page.picture, small), small);
  name(page, `${content.about} at t = ${Math.round(content.timestep)}`);
  paintMap(page, small);
  paintU(page);
}

function name(page, text) {
  page.pictureName.textContent = text;
  page.picture.setAttribute("aria-label", text);
}

function paintU(page) {
  const { content, activity } = page.shown;
  content.modules.forEach((name, i) => {
    const shape = page.boxes.get(name), lost = content.lost.modules.includes(name);
    if (!shape) return;
    // Most modules are far from the strongest: a square root keeps them apart.
    shape.style.fill = lost ? "" : `rgb(${heat(page.look, Math.sqrt(activity[i] / 255)).join()})`;
    shape.classList.toggle("ux-live-lost", lost);
  });
  page.scale.end.textContent = content.strongest.toPrecision(3);
  nameU(page);
}

/** The map of the chosen word over the picture; where no word was chosen, of the first noun. */
function paintMap(page, small) {
  const { content, maps } = page.shown, [count, height, width] = content.maps;
  page.overlay.parentElement.hidden = count === 0;
  if (count === 0) return;
  const of = (i) => maps.subarray(i * height * width, (i + 1) * height * width);
  const peaks = Array.from({ length: count }, (_, i) => of(i).reduce((a, b) => Math.max(a, b), 0));
  const chosen = page.word ?? Math.min(page.model.get("first"), count - 1);
  const lost = content.lost.maps.includes(chosen), size = { height, width };
  shaped(page.overlay, small);
  enlarge(page.overlay, under(small, page.overlay, page.look));
  lay(page.overlay, lost ? lostMap(size) : coloured(of(chosen), size, 1, page.look), page.look);
  const text = page.model.get("words")[chosen] ?? "";
  page.mapped = { text, map: of(chosen), height, width, lost, peak: peaks[chosen], top: content.top };
  nameMap(page);
  page.overlay.setAttribute("aria-label", page.overlayName.textContent);
  [...page.words.children].forEach((button, i) => {
    button.setAttribute("aria-pressed", i === chosen);
    button.style.setProperty("--share", peaks[i] / 255);
  });
}

/** Where a pointer is on a canvas that is shown whole in its box, as shares of its sides. */
function placeOf({ width, height, offsetWidth, offsetHeight }, { offsetX, offsetY }) {
  const scale = Math.min(offsetWidth / width, offsetHeight / height);
  const share = (offset, box, side) => Math.min(0.9999, Math.max(0, (offset - box / 2) / (side * scale) + 0.5));
  return { y: share(offsetY, offsetHeight, height), x: share(offsetX, offsetWidth, width) };
}

/** What the map is, and the weight of the word where the pointer is, else the largest. */
function nameMap({ mapped, place, overlayName }) {
  const { text, map, height, width, lost, peak, top } = mapped;
  const [row, column] = place ? [Math.floor(place.y * height), Math.floor(place.x * width)] : [];
  const weight = ((place ? map[row * width + column] : peak) / 255) * top;
  const where = place ? `${weight.toFixed(3)} at row ${row}, column ${column}` : `up to ${weight.toFixed(3)}`;
  overlayName.textContent = `where pixels look at “${text}”: ${lost ? LOST : where}`;
}

/** The picture that the run became, once it is finished. */
export function finished(page) {
  const data = page.model.get("picture");
  if (!data || !data.byteLength) return;
  createImageBitmap(new Blob([bytes(data)], { type: "image/png" })).then((image) => {
    enlarge(shaped(page.picture, image), image);
    name(page, "the picture, decoded by the VAE");
  });
}

/** The canvas, with the proportions of a picture; to set its size would also empty it. */
function shaped(canvas, { width, height }) {
  const scale = SIDE / Math.max(width, height);
  const size = { width: Math.round(width * scale), height: Math.round(height * scale) };
  if (canvas.width !== size.width || canvas.height !== size.height) Object.assign(canvas, size);
  return canvas;
}

function enlarge(canvas, small) {
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = true;
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
}
