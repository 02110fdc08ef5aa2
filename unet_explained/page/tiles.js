// Small pictures of what one module did, a pixel a place, after widgets/umap_pictures.py.

import { principalColours } from "./principal.js";

const SMALL = 24; // places of a side of what is drawn in a box of the map
const LOST = "not finite";
const STRIPES = [128, 96]; // greys, which no map of colours has

/** All channels in three colours, then `count` channels from `first`: red above 0, blue below. */
export function featureTiles({ data, dims }, first, count, colours) {
  const [, channels, ...size] = dims, places = size[0] * size[1];
  const texts = ["all channels: like colours, like features"];
  const pictures = [{ size, data: principalColours(data, channels) }];
  for (let index = first; index < Math.min(first + count, channels); index++) {
    const values = data.subarray(index * places, (index + 1) * places);
    const reach = largest([values.map(Math.abs)]) || 1;
    texts.push(`channel ${index}, ${inWords(values, `to ±${general(reach, 3)}`)}`);
    pictures.push(coloured(values, size, colours, -reach, reach));
  }
  return { texts, pictures };
}

/** For each word, {text, map, size}, who looked at it, all on one scale. */
export function wordTiles(words, colours) {
  const top = largest(words.map(({ map }) => map));
  const texts = words.map(({ text, map }) =>
    `${text}, ${inWords(map, `to ${general(largest([map]), 2)}`)}`);
  return { texts, pictures: words.map(({ map, size }) => coloured(map, size, colours, 0, top)) };
}

/** What a module gave, in few places: like colours, like features. */
export function smallPicture({ data, dims }) {
  const [, channels, height, width] = dims, times = Math.ceil(Math.max(height, width) / SMALL);
  const [high, wide] = [height, width].map((side) => Math.floor(side / times));
  const few = new Float32Array(channels * high * wide);
  for (let c = 0; c < channels; c++)
    for (let y = 0; y < high * times; y++)
      for (let x = 0; x < wide * times; x++) {
        const at = (c * high + Math.floor(y / times)) * wide + Math.floor(x / times);
        few[at] += data[(c * height + y) * width + x] / times ** 2;
      }
  return { size: [high, wide], data: principalColours(few, channels) };
}

/** Numbers through colours whose ends are low and high; striped where they are not finite. */
function coloured(values, size, colours, low, high) {
  const picture = new Uint8Array(3 * values.length), [height, width] = size;
  const thick = Math.max(1, Math.floor(height / 32));
  values.forEach((value, i) => {
    const share = Math.min(Math.max((value - low) / Math.max(high - low, 1e-12), 0), 1);
    const place = Math.floor(i / width) + (i % width);
    const grey = STRIPES[Math.floor(place / thick) % 2];
    const last = colours.length - 1;
    const colour = Number.isFinite(value)
      ? colours[Math.min(Math.floor(share * colours.length), last)] : [grey, grey, grey];
    picture.set(colour, 3 * i);
  });
  return { size, data: picture };
}

/** The largest finite number of all; 0 if there is none. */
function largest(maps) {
  let top = -Infinity;
  for (const map of maps)
    for (const value of map) if (Number.isFinite(value) && value > top) top = value;
  return Number.isFinite(top) ? top : 0;
}

function inWords(values, otherwise) {
  const count = values.length - values.filter(Number.isFinite).length;
  if (count === 0 || count === values.length) return count ? LOST : otherwise;
  return `${LOST} in ${count} place${count > 1 ? "s" : ""}`;
}

/** A number in so many digits, as Python's "g" writes it. */
function general(value, digits) {
  const [head, tail] = value.toExponential(digits - 1).split("e"), power = Number(tail);
  if (power >= -4 && power < digits) return `${Number(value.toPrecision(digits))}`;
  const sign = power < 0 ? "-" : "+";
  return `${Number(head)}e${sign}${`${Math.abs(power)}`.padStart(2, "0")}`;
}
