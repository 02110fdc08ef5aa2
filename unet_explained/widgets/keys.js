// Many parts that are one stop of the Tab key: the arrow keys go from one to the next.

const MOVES = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };

/** The name that an arrow key leads to; undefined for other keys, and at the ends. */
export const beside = (names, name, { key }) => names[names.indexOf(name) + MOVES[key]];

/** Gives the focus, and the stop, to one of the parts, a Map by name. */
export function stopAt(parts, name) {
  for (const [other, part] of parts) part.setAttribute("tabindex", other === name ? 0 : -1);
  parts.get(name)?.focus();
}
