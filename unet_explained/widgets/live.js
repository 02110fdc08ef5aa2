// The view of `ux.live`: frames come as bytes while the run goes on; words are chosen here.

const SIDE = 288; // canvas pixels of a picture's longer side

/** Unsigned bytes (height, width, channels) as a canvas of that size. */
function raster(height, width, colour) {
  const canvas = make("canvas", { width, height });
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(width, height);
  for (let i = 0; i < width * height; i++) pixels.data.set(colour(i), 4 * i);
  context.putImageData(pixels, 0, 0);
  return canvas;
}

/** inferno, nearly: dark violet over red and orange to pale yellow, for 0 to 1. */
function heat(share) {
  const stops = [[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]];
  const at = Math.min(Math.max(share, 0), 1) * 4;
  const low = Math.min(Math.floor(at), 3);
  return stops[low].map((value, i) => value + (stops[low + 1][i] - value) * (at - low));
}

function render({ model, el }) {
  const { ask, close } = asking(model);
  let shown = null; // the frame on the page: {content, preview, maps, activity}
  let word = null; // the index of the word whose map is shown; null: the strongest

  const prompt = make("input", { type: "text", size: 44, "aria-label": "prompt" });
  const seed = make("input", { type: "number", min: 0, step: 1, "aria-label": "seed" });
  const start = make("button", { type: "submit" }, "Start"); // Enter in the prompt does it too
  const stop = make("button", { type: "button", onclick: () => act({ stop: true }) }, "Stop");
  const form = make("form", { class: "ux-row", onsubmit: begin },
    make("label", { class: "ux-live-prompt" }, "prompt ", prompt),
    make("label", {}, "seed ", seed), start, stop);

  const picture = make("canvas", { width: SIDE, height: SIDE, role: "img" });
  const overlay = make("canvas", { width: SIDE, height: SIDE, role: "img" });
  const words = make("div", {
    class: "ux-live-words", role: "group", "aria-label": "words of the prompt",
  });
  const overlayName = make("figcaption");
  const { width, height, stages, ...parts } = model.get("drawing");
  const boxes = new Map();
  const map = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  for (const points of parts.wires) map.append(draw("polyline", { points: points.flat().join(" ") }));
  for (const { start, end, y } of parts.skips) map.append(draw("line", { x1: start, x2: end, y1: y, y2: y }));
  for (const { name, stage, x, y, ...size } of parts.boxes) {
    const title = draw("title", {}, name);
    const shape = draw("rect", { x, y, width: size.width, height: size.height, rx: 4, stroke: stages[stage][0] }, title);
    boxes.set(name, { shape, title });
    map.append(shape);
  }
  const mapName = make("figcaption");
  const panel = (name, ...parts) => make("figure", { class: "ux-live-panel" }, ...parts, name);
  const pictureName = make("figcaption");
  const stage = make("div", { class: "ux-live-stage" },
    panel(pictureName, picture), panel(overlayName, overlay), panel(mapName, map));

  const bar = make("progress", { "aria-label": "steps done" });
  const said = make("span", { class: "ux-said", role: "status" });
  const step = make("input", { type: "range", min: 0, step: 1, oninput: back });
  const again = make("label", { class: "ux-live-again" }, "look back ", step);
  const note = make("div", { class: "ux-said" });
  const root = make("section", { class: "ux ux-live", "aria-label": model.get("title") },
    form, stage, words, make("div", { class: "ux-row" }, bar, said, again), note);
  el.append(root);

  function act(question) {
    return ask(question).catch((error) => say(error.message, true));
  }
  function begin(event) {
    event.preventDefault();
    word = null;
    return act({ start: { prompt: prompt.value, seed: Number(seed.value) || 0 } });
  }
  function back() {
    return act({ frame: Number(step.value) }).then((found) => found && show(found.content, found.buffers));
  }
  function say(text, wrong = false) {
    note.textContent = text;
    note.classList.toggle("ux-error", wrong);
  }

  function hear(message, buffers) {
    if (!message.frame) return;
    show(message.frame, buffers);
    // Python drops frames while the page is behind; so it is told what has been drawn.
    requestAnimationFrame(() => act({ shown: message.frame.index }));
  }
  function show(content, buffers) {
    const [preview, maps, activity] = buffers.map(bytes);
    shown = { content, preview, maps, activity };
    paint();
  }

  function paint() {
    status();
    if (!shown) return;
    const { content, preview, maps, activity } = shown;
    const [height, width] = content.preview;
    const small = raster(height, width, (i) => [preview[3 * i], preview[3 * i + 1], preview[3 * i + 2], 255]);
    enlarge(shaped(picture, small), small);
    pictureName.textContent = `${content.about} at t = ${Math.round(content.timestep)}`;
    paintMap(small, maps, content);
    content.modules.forEach((name, i) => {
      const { shape, title } = boxes.get(name) ?? {};
      if (!shape) return;
      const share = activity[i] / 255, lost = content.lost.modules.includes(name);
      // Most modules are far from the strongest: a square root keeps them apart.
      shape.style.fill = lost ? "" : `rgb(${heat(Math.sqrt(share)).map(Math.round)})`;
      shape.classList.toggle("ux-live-lost", lost);
      title.textContent = `${name}: ${lost ? LOST : (share * content.strongest).toPrecision(3)}`;
    });
    const missing = content.lost.modules.length ? `; dashed: ${LOST}` : "";
    mapName.textContent = `activity of each module (root mean square), dark to bright: 0 to ${content.strongest.toPrecision(3)}${missing}`;
    map.setAttribute("aria-label", mapName.textContent);
    bar.max = content.total;
    bar.value = content.step + 1;
    step.value = content.index;
  }

  function paintMap(small, maps, content) {
    const [count, height, width] = content.maps;
    overlay.parentElement.hidden = count === 0;
    if (count === 0) return;
    const peak = (i) => maps.subarray(i * height * width, (i + 1) * height * width).reduce((a, b) => Math.max(a, b), 0);
    const peaks = [...Array(count).keys()].map(peak);
    const chosen = word ?? peaks.indexOf(Math.max(...peaks));
    const values = maps.subarray(chosen * height * width, (chosen + 1) * height * width);
    const context = shaped(overlay, small).getContext("2d");
    context.filter = "grayscale(1)";
    enlarge(overlay, small);
    context.filter = "none";
    context.globalAlpha = 0.75;
    const lost = content.lost.maps.includes(chosen);
    const striping = (i) => striped(i % width, Math.floor(i / width), 1);
    const coloured = raster(height, width, (i) => [...(lost ? striping(i) : heat(values[i] / 255)), 255]);
    context.drawImage(coloured, 0, 0, overlay.width, overlay.height);
    context.globalAlpha = 1;
    const text = model.get("words")[chosen] ?? "";
    const most = lost ? LOST : `up to ${((peaks[chosen] / 255) * content.top).toFixed(3)}`;
    overlayName.textContent = `where pixels look at “${text}”: ${most}`;
    overlay.setAttribute("aria-label", overlayName.textContent);
    [...words.children].forEach((button, i) => {
      button.setAttribute("aria-pressed", i === chosen);
      button.style.setProperty("--share", peaks[i] / 255);
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

  function status() {
    const state = model.get("status");
    root.dataset.status = state;
    stop.disabled = state !== "running";
    // A frame may come before the word that there is one more.
    step.max = Math.max(model.get("count") - 1, shown?.content.index ?? 0);
    again.hidden = state === "running" || model.get("count") < 2;
    const left = shown && state === "running" ? `, about ${Math.ceil(shown.content.left)} s left` : "";
    const at = shown && model.get("count") ? `step ${shown.content.step + 1} of ${shown.content.total}` : "";
    said.textContent = [state, at].filter(Boolean).join(": ") + left;
    say(model.get("note"), state === "failed");
  }
  function finished() {
    const data = model.get("picture");
    if (!data || !data.byteLength) return;
    const image = new Image();
    const address = URL.createObjectURL(new Blob([data], { type: "image/png" }));
    image.onload = () => {
      enlarge(shaped(picture, image), image);
      pictureName.textContent = "the picture, decoded by the VAE";
      URL.revokeObjectURL(address);
    };
    image.src = address;
  }
  function anew() {
    prompt.value = model.get("prompt");
    seed.value = model.get("seed");
    words.replaceChildren(...model.get("words").map((text, i) =>
      make("button", { type: "button", onclick: () => { word = i; paint(); } }, text)));
    if (shown) paint();
  }

  const changes = { words: anew, prompt: anew, seed: anew, status, note: status, count: status, picture: finished };
  for (const [name, follow] of Object.entries(changes)) model.on(`change:${name}`, follow);
  model.on("msg:custom", hear);
  anew();
  status();
  const latest = model.get("count") - 1;
  if (latest >= 0) act({ frame: latest }).then((found) => {
    if (found) show(found.content, found.buffers);
    finished();
  });
  return () => {
    for (const [name, follow] of Object.entries(changes)) model.off(`change:${name}`, follow);
    model.off("msg:custom", hear);
    close();
  };
}

export default { render };
