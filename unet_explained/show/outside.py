"""What comes into the U from outside, and what goes out: time, text, the sample, the prediction."""

import re

from .parts import Parts, sizes

PROMPT = "encoder_hidden_states"


def conditions(parts: Parts, x: float, y: float) -> float:
    """Time and text around x, from y downwards; returns where they end."""
    plan = parts.plan
    made = [row.name for row in plan.rows.values() if row.stage == 1 and row.depth == 1]
    given = [row.name for row in plan.rows.values() if row.stage == 0]
    timed = [name for name in given if name.startswith("timestep")]
    other = [name for name in given[1:] if name not in timed and name != PROMPT]
    for inputs, names in ((timed, made[:2]), (other, made[2:])):
        if inputs:
            words = ", ".join(name.rpartition(".")[2] for name in inputs)
            parts.text(x, y, words, "strong")
            _chain(parts, names, x, y + 18)
            y += 46 if names else 16
    _arrival(parts, "time_embedding", "time", "resnets", x, y)
    parts.text(x, y + 23, PROMPT, "strong")
    _arrival(parts, PROMPT, "input", "attentions", x, y + 38)
    return y + 53


def _arrival(parts: Parts, name: str, what: str, into: str, x: float, y: float) -> None:
    """The mark of what is told to many modules, and to how many."""
    parts.pins.append(dict(x=x - 82, y=y, what=what, of=""))
    many = re.compile(rf".*\.{into}\.\d+")
    count = sum(bool(many.fullmatch(each)) for each in parts.plan.rows)
    text = f"{sizes(parts.plan.shape(name))}, into {count} {into}"
    parts.text(x - 74, y, text, side="start")


def _chain(parts: Parts, names: list[str], x: float, y: float) -> None:
    """One or two boxes side by side around x."""
    x -= (104 * len(names) + 14 * (len(names) - 1)) / 2
    for i, name in enumerate(names):
        if i:
            parts.wires.append([(x - 14, y), (x, y)])
        parts.box(name, x, y, 104, 18)
        x += 118


def ends(parts: Parts, down: float, up: float, top: float, *, axes: bool) -> None:
    """The sample above `down` and, above `up`, stage 6 and the prediction; axes: their axes too."""
    _end(parts, down, top - 38, "sample", "sample", axes)
    parts.wires.append([(down, top - 38), (down, top)])
    names = [n for n in ("conv_norm_out", "conv_act", "conv_out") if n in parts.plan.rows]
    for name in names:
        middle = top - 22 if name == names[0] else top - 18
        parts.wires.append([(up, top), (up, middle)])
        parts.box(name, up - 52, middle - 9, 104, 18)
        top = middle - 18
    parts.wires.append([(up, top), (up, top - 10)])
    _end(parts, up, top - 10, "prediction", "conv_out", axes)


def _end(parts: Parts, x: float, y: float, word: str, name: str, axes: bool) -> None:
    """What comes in or goes out, above the tip of its arrow: its shape, and of which axes."""
    if axes:
        names = (axis.partition("_")[0] for axis in parts.plan.rows[name].tensor.axes)
        parts.text(x, y - 8, " × ".join(names), "small")
        y -= 13
    parts.text(x, y - 23, word, "strong")
    parts.text(x, y - 8, sizes(parts.plan.shape(name)))
