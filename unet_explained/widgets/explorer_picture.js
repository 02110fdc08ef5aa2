// The explorer's picture: a map of bytes coloured in the page and laid over the picture in grey.

const ALPHA = 0.78; // of a map over the picture, as in the still pictures
const FINE = 128; // pixels to which a small map is interpolated before it is coloured
const NONE = "#808080"; // in the place of a picture that was not given
const MARK = "#00e5ff"; // told apart from every colour of the maps

/** `times` places in each of `size` pixels: the two pixels around a place, the second's share. */
function between(size, times) {
  return Array.from({ length: size * times }, (_, index) => {
    const at = Math.min(size - 1, Math.max(0, (index + 0.5) / times - 0.5));
    const low = Math.floor(at);
    return [low, Math.min(size - 1, low + 1), at - low];
  });
}

/** A map times gain as a canvas: interpolated first and then coloured, so that no colour is new. */
function coloured(map, { height, width }, gain, colours) {
  const times = Math.max(1, Math.ceil(FINE / Math.max(height, width)));
  const canvas = make("canvas", { width: width * times, height: height * times });
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  const across = between(width, times);
  let at = 0;
  for (const [above, below, down] of between(height, times))
    for (const [left, right, along] of across) {
      const high = map[above * width + left] * (1 - along) + map[above * width + right] * along;
      const low = map[below * width + left] * (1 - along) + map[below * width + right] * along;
      const colour = 3 * Math.min(255, Math.round((high * (1 - down) + low * down) * gain));
      image.data[at++] = colours[colour];
      image.data[at++] = colours[colour + 1];
      image.data[at++] = colours[colour + 2];
      image.data[at++] = 255;
    }
  context.putImageData(image, 0, 0);
  return canvas;
}

/** What is drawn for a map that is not finite. */
function lostMap({ height, width }) {
  const times = Math.max(1, Math.ceil(FINE / Math.max(height, width)));
  const canvas = make("canvas", { width: width * times, height: height * times });
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  for (let at = 0; at < canvas.width * canvas.height; at++) {
    const grey = striped(at % canvas.width, Math.floor(at / canvas.width), FINE / 16);
    image.data.set([...grey, 255], 4 * at);
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

/** The canvas that all is drawn on; draw(map, cell, grid): a canvas or null, a frame or null. */
function easel([height, width], png, loaded) {
  const longest = Math.max(height, width);
  const scale = Math.min(1024, Math.max(512, 8 * longest)) / longest;
  const size = { width: Math.round(width * scale), height: Math.round(height * scale) };
  const canvas = make("canvas", { ...size, class: "ux-picture", tabindex: 0, role: "application" });
  const [plain, grey] = [make("canvas", size), make("canvas", size)];
  const context = canvas.getContext("2d");
  const prepare = (picture) => {
    const colour = plain.getContext("2d", { willReadFrequently: true });
    colour.fillStyle = NONE;
    colour.fillRect(0, 0, size.width, size.height);
    if (picture) colour.drawImage(picture, 0, 0, size.width, size.height);
    const image = colour.getImageData(0, 0, size.width, size.height);
    for (let at = 0; at < image.data.length; at += 4) {
      const mean = (image.data[at] + image.data[at + 1] + image.data[at + 2]) / 3;
      image.data.fill((255 * (mean + 200)) / 455, at, at + 3); // light, as under the still maps
    }
    grey.getContext("2d").putImageData(image, 0, 0);
    loaded();
  };
  if (png.length) createImageBitmap(new Blob([png], { type: "image/png" })).then(prepare);
  else setTimeout(prepare);
  const frame = ({ row, column }, grid) => {
    const [high, wide] = [size.height / grid.height, size.width / grid.width];
    const side = Math.max(high, size.width / 40); // a pixel of a fine map is too small to see
    const [x, y] = [(column + 0.5) * wide - side / 2, (row + 0.5) * high - side / 2];
    for (const [colour, line] of [["#000000", 6], [MARK, 3]]) {
      context.strokeStyle = colour;
      context.lineWidth = line;
      context.strokeRect(x, y, side, side);
    }
  };
  const draw = (map, cell, grid) => {
    context.drawImage(map ? grey : plain, 0, 0);
    context.globalAlpha = ALPHA;
    if (map) context.drawImage(map, 0, 0, size.width, size.height);
    context.globalAlpha = 1;
    if (cell) frame(cell, grid);
  };
  return { canvas, draw };
}

/** The scale from 0 to an end that is told it: the colours, and what a weight is. */
function ramp(colours) {
  const stops = Array.from({ length: 16 }, (_, i) => 3 * 17 * i);
  const named = stops.map((at) => `rgb(${colours.slice(at, at + 3).join()})`);
  const bar = make("div", { class: "ux-ramp", role: "img", "aria-label": "from dark to light" });
  bar.style.background = `linear-gradient(to right, ${named.join()})`;
  const end = make("span", { class: "ux-end" });
  const element = make("div", { class: "ux-scale" }, make("span", {}, "0"), bar, end);
  return { element, end };
}
