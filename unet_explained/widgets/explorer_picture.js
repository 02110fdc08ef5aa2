// The explorer's picture: a map laid over it, and the pixel that is pointed at.

import { make } from "./widget.js";
import { lay, under } from "./over.js";

const NONE = "#808080"; // in the place of a picture that was not given
const MARK = "#00e5ff"; // told apart from every colour of the maps

/** The canvas that all is drawn on, for latents of this height and width. */
export function easel([height, width], look) {
  const longest = Math.max(height, width);
  const scale = Math.min(1024, Math.max(512, 8 * longest)) / longest;
  const size = { width: Math.round(width * scale), height: Math.round(height * scale) };
  const canvas = make("canvas", { ...size, class: "ux-picture", tabindex: 0, role: "application" });
  const context = canvas.getContext("2d");
  /** What maps are laid on: a picture (null: none) in its colours, and in grey. */
  const ground = (picture) => {
    const plain = make("canvas", size), colour = plain.getContext("2d");
    colour.fillStyle = NONE;
    colour.fillRect(0, 0, size.width, size.height);
    if (picture) colour.drawImage(picture, 0, 0, size.width, size.height);
    return { plain, grey: under(plain, size, look) };
  };
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
  /** map: a canvas or null; cell: a pixel of the grid to frame, or null. */
  const draw = ({ plain, grey }, map, cell, grid) => {
    context.drawImage(map ? grey : plain, 0, 0);
    if (map) lay(canvas, map, look);
    if (cell) frame(cell, grid);
  };
  return { canvas, ground, draw };
}
