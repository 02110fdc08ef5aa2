"""Which modules stand side by side in the drawing of the U, and how long each is, by a shape table.

A line of the drawing is a skip, straight from where it leaves on the way down to where it arrives
on the way up. A module stands at the resolution of what it returns.
"""

import math
from dataclasses import dataclass, field

from ..recording.rows import Row
from ..recording.shapes import ShapeTable

BROAD, NARROW = 172, 130  # a resnet and its attention, of the most and of the fewest channels
BETWEEN = 9  # a resnet and its attention
SINGLE = 94  # a module that stands alone in its line, with the features' path in its middle


@dataclass
class Line:
    """A skip: the modules that make it on the left, those that take it on the right."""

    left: list[str]
    right: list[str]
    upsampler: str | None
    level: int


@dataclass
class Plan:
    """What stands on which line; lengths in the drawing's pixels."""

    table: ShapeTable
    rows: dict[str, Row] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)

    def shape(self, name: str) -> tuple[int, ...]:
        return self.rows[name].tensor.shape

    def depth(self, name: str) -> int:
        """How many transformer blocks a module has."""
        kinds = ((row.kind, row.name) for row in self.table.rows)
        own = f"{name}.transformer_blocks."
        return sum(kind == "BasicTransformerBlock" and n.startswith(own) for kind, n in kinds)

    def broad(self, name: str) -> float:
        """The length of a line: it grows with the square root of the channels."""
        most = max(self.shape(line.left[-1])[1] for line in self.lines)
        return max(NARROW, BROAD * math.sqrt(self.shape(name)[1] / most))

    def lengths(self, names: list[str]) -> list[float]:
        """Of the boxes of one line, side by side."""
        if "resnets" not in names[0]:
            return [SINGLE]
        whole = self.broad(names[0])
        return [0.4 * whole, 0.6 * whole - BETWEEN][: len(names)]

    def length(self, names: list[str]) -> float:
        return sum(self.lengths(names)) + BETWEEN * (len(names) - 1)

    def extent(self, block: str) -> float:
        """Of the longest line of a block."""
        parts = [side for line in self.lines for side in (line.left, line.right)]
        inside = [self.length(names) for names in parts if names[0].startswith(f"{block}.")]
        sampled = any(f"{block}.{kind}.0" in self.rows for kind in ("downsamplers", "upsamplers"))
        return max(inside + [SINGLE] * sampled)


def plan_of(table: ShapeTable) -> Plan:
    """The lines of the drawing, from the top, by the names of the modules on them."""
    plan = Plan(table, {row.name: row for row in table.rows})
    level = 0
    for source in [row for row in table.rows if row.skip.startswith("to ")]:
        target = source.skip.removeprefix("to ")
        level += "downsamplers" in source.name
        last = f"{target.rpartition('.resnets')[0]}.upsamplers.0"
        first = "downsamplers" in source.name or source.name == "conv_in"
        upsampler = last if first and last in plan.rows else None
        left, right = _beside(plan, source.name), _beside(plan, target)
        plan.lines.append(Line(left, right, upsampler, level))
    return plan


def _beside(plan: Plan, name: str) -> list[str]:
    """A resnet with the transformer that follows it; any other module alone."""
    pair = [name.replace("attentions", "resnets"), name.replace("resnets", "attentions")]
    return [module for module in dict.fromkeys(pair) if module in plan.rows]
