"""Where everything stands in the drawing of the U, read from a shape table. Lengths are inches.

A line of the drawing is a skip, straight from where it leaves on the way down to where it arrives
on the way up. A module stands at the resolution of what it returns.
"""

import math
from dataclasses import dataclass, field

from ..recording.rows import Row
from ..recording.shapes import ShapeTable

WIDTH, LEFT, RIGHT = 10.0, 1.45, 8.55  # of the picture; of the outer edges of the two arms
PATH = 0.6  # from an arm's outer edge to the line that the features follow
TOP, GAP, SPACE = 2.1, 0.58, 0.2  # above the first line; between two levels; between two boxes
BROAD, NARROW = 2.2, 1.66  # a resnet and its attention, of the most and of the fewest channels
BETWEEN = 0.12  # a resnet and its attention


@dataclass
class Line:
    """A skip: the modules that make it on the left, those that take it on the right."""

    left: list[str]
    right: list[str]
    upsampler: str | None
    level: int
    y: float = 0.0
    height: float = 0.0

    @property
    def upsampler_y(self) -> float:
        return self.y - self.height / 2 - 0.3


@dataclass
class Plan:
    """What is drawn where."""

    table: ShapeTable
    rows: dict[str, Row] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)

    @property
    def blocks(self) -> list[str]:
        """The names of all transformer blocks."""
        return [n for n, row in self.rows.items() if row.kind == "BasicTransformerBlock"]

    @property
    def bottom(self) -> float:
        """Where the mid block stands."""
        return self.lines[-1].y + 0.85

    def shape(self, name: str) -> tuple[int, ...]:
        return self.rows[name].tensor.shape

    def broad(self, name: str) -> float:
        """The length of a box: it grows with the square root of the channels."""
        most = max(self.shape(line.left[-1])[1] for line in self.lines)
        return max(NARROW, BROAD * math.sqrt(self.shape(name)[1] / most))

    def lengths(self, names: list[str]) -> list[float]:
        """Of the boxes of one line, side by side."""
        if "resnets" not in names[0]:
            return [2 * PATH]
        whole = self.broad(names[0])
        return [0.4 * whole, 0.6 * whole - BETWEEN][: len(names)]

    def length(self, names: list[str]) -> float:
        return sum(self.lengths(names)) + BETWEEN * (len(names) - 1)

    def extent(self, name: str) -> float:
        """Of the longest line of a module's block."""
        block = ".".join(name.split(".")[:2])
        parts = [side for line in self.lines for side in (line.left, line.right)]
        inside = [self.length(names) for names in parts if names[0].startswith(block)]
        sampled = any(f"{block}.{kind}.0" in self.rows for kind in ("downsamplers", "upsamplers"))
        return max(inside + [2 * PATH] * sampled)

    def enters(self, names: list[str]) -> float:
        """Where the path comes into a line: the middle of its first box."""
        return self._edge(names) + self.lengths(names)[0] / 2

    def leaves(self, names: list[str]) -> float:
        """Where the path goes out of a line: the middle of its last box."""
        return self._edge(names) + self.length(names) - self.lengths(names)[-1] / 2

    def _edge(self, names: list[str]) -> float:
        return RIGHT - self.length(names) if names[0].startswith("up") else LEFT


def plan_of(table: ShapeTable) -> Plan:
    """The lines of the drawing, from the top, by the names of the modules on them."""
    plan = Plan(table, {row.name: row for row in table.rows})
    level, y = 0, TOP
    for source in [row for row in table.rows if row.skip.startswith("to ")]:
        target = source.skip.removeprefix("to ")
        if "downsamplers" in source.name:
            level, y = level + 1, y + GAP
        last = f"{target.rpartition('.resnets')[0]}.upsamplers.0"
        first = "downsamplers" in source.name or source.name == "conv_in"
        line = Line(_layer(plan, source.name), _layer(plan, target), None, level)
        line.upsampler = last if first and last in plan.rows else None
        line.height = max(0.25, 0.34 - 0.03 * level)
        y += line.height / 2
        line.y = y
        y += line.height / 2 + SPACE
        plan.lines.append(line)
    return plan


def _layer(plan: Plan, name: str) -> list[str]:
    """A resnet with the transformer that follows it; any other module alone."""
    pair = [name.replace("attentions", "resnets"), name.replace("resnets", "attentions")]
    return [module for module in dict.fromkeys(pair) if module in plan.rows]
