// A map over a picture: its colours, opacity and grey are Python's, as in its pictures (show/colours.py).

import { make, striped } from "./widget.js";

const FINE = 128; // pixels to which a small map is interpolated before it is coloured

/** Red, green and blue, 0 to 255, of a share from 0 to 1. */
export function heat({ colours }, share) {
  return colours[Math.min(255, Math.max(0, Math.round(255 * share)))];
}

/** `times` places in each of `size` pixels: the two pixels around a place, the second's share. */
export function between(size, times) {
  return Array.from({ length: size * times }, (_, index) => {
    const at = Math.min(size - 1, Math.max(0, (index + 0.5) / times - 0.5));
    const low = Math.floor(at);
    return [low, Math.min(size - 1, low + 1), at - low];
  });
}

/** A canvas of height by width whose pixels are told by row and column: [red, green, blue]. */
export function raster(height, width, colour) {
  const canvas = make("canvas", { width, height });
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  let at = 0;
  for (let row = 0; row < height; row++)
    for (let column = 0; column < width; column++) {
      const [red, green, blue] = colour(row, column);
      image.data[at++] = red;
      image.data[at++] = green;
      image.data[at++] = blue;
      image.data[at++] = 255;
    }
  context.putImageData(image, 0, 0);
  return canvas;
}

/** A picture of bytes (height, width, 3) as a canvas. */
export function pixels(data, [height, width]) {
  return raster(height, width, (row, column) => {
    const at = 3 * (row * width + column);
    return data.subarray(at, at + 3);
  });
}

/** A map of bytes times gain, on a canvas: interpolated first, then coloured: no colour is new. */
export function coloured(map, { height, width }, gain, look) {
  const times = Math.max(1, Math.ceil(FINE / Math.max(height, width)));
  const [across, down] = [between(width, times), between(height, times)];
  return raster(height * times, width * times, (row, column) => {
    const [above, below, low] = down[row], [left, right, along] = across[column];
    const upper = map[above * width + left] * (1 - along) + map[above * width + right] * along;
    const lower = map[below * width + left] * (1 - along) + map[below * width + right] * along;
    return heat(look, ((upper * (1 - low) + lower * low) * gain) / 255);
  });
}

/** What is drawn for a map that is not finite. */
export function lostMap({ height, width }) {
  const times = Math.max(1, Math.ceil(FINE / Math.max(height, width)));
  return raster(height * times, width * times, (row, column) => striped(column, row, FINE / 16));
}

/** A picture in bright grey, for under a map. black: what a colour of 0 would be, were it black. */
export function under(picture, { width, height }, { black }) {
  const canvas = make("canvas", { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0, width, height);
  const image = context.getImageData(0, 0, width, height);
  for (let at = 0; at < image.data.length; at += 4) {
    const mean = (image.data[at] + image.data[at + 1] + image.data[at + 2]) / 3;
    image.data.fill((255 * (mean - black)) / (255 - black), at, at + 3);
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

/** Lays a map over what is on a canvas. */
export function lay(canvas, map, { alpha }) {
  const context = canvas.getContext("2d");
  context.globalAlpha = alpha;
  context.imageSmoothingEnabled = true;
  context.drawImage(map, 0, 0, canvas.width, canvas.height);
  context.globalAlpha = 1;
}

/** The scale from 0 to an end that is told it: the colours, and what a number is. */
export function ramp({ colours }) {
  const stops = colours.filter((_, index) => index % 17 === 0).map((one) => `rgb(${one.join()})`);
  const bar = make("div", { class: "ux-ramp", role: "img", "aria-label": "from dark to light" });
  bar.style.background = `linear-gradient(to right, ${stops.join()})`;
  const end = make("span", { class: "ux-end" });
  const element = make("div", { class: "ux-scale" }, make("span", {}, "0"), bar, end);
  return { element, end };
}
