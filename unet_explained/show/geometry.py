"""The geometry of the U: where each module, skip and word stands, as data that anything can draw.

All of it is JSON. A unit is a pixel of a page; y grows downwards. The still picture, the map of the
U and the small U of a live run draw these boxes.
"""

import re
from itertools import pairwise

from ..recording.rows import stage_of
from ..recording.shapes import ShapeTable
from .plan import BETWEEN, SINGLE, Line, plan_of
from .sheet import BOX, Sheet, sizes

WIDTH, EDGE = 546, 30  # of the drawing; from its sides to the arms
SPACE, SAMPLER = 12, 30  # between two lines; room for an upsampler
TOP = 158  # above the first line
PROMPT = "encoder_hidden_states"


def geometry_of(table: ShapeTable, *, width: int = WIDTH, edge: int = EDGE) -> dict:
    """Boxes, blocks, skips, wires, texts and levels, each with its place.

    table: of full depth. width: of the drawing; edge: what it keeps free at either side.
    """
    drawing = _Drawing(table, width, edge)
    return drawing.as_json(drawing.bottom + 34)


class _Drawing(Sheet):
    """What is drawn where."""

    def __init__(self, table: ShapeTable, width: int, edge: int) -> None:
        super().__init__(plan_of(table), width)
        self.left, self.right = edge, width - edge  # the arms' outer edges
        y = max(self._conditions(14) + 24, TOP)
        self.lines: list[tuple[Line, float]] = []
        for line in self.plan.lines:
            y += SAMPLER if self.lines and line.level > self.lines[-1][0].level else 0
            self.lines.append((line, y + BOX / 2))
            y += BOX + SPACE
        self.bottom = y + 34
        self._blocks()
        self._arms()
        self._mid()
        self._ends()
        self._levels()

    def _levels(self) -> None:
        """A band for each resolution, with its height and width."""
        for level in range(self.lines[-1][0].level + 1):
            own = [(line, y) for line, y in self.lines if line.level == level]
            last = level == self.lines[-1][0].level
            top, end = own[0][1] - BOX / 2 - 8, own[-1][1] + BOX / 2 + 8
            height, width = self.plan.shape(own[0][0].left[-1])[2:]
            size = (self.bottom + 26 if last else end) - top
            skips = [skip for skip in self.skips if own[0][1] <= skip["y"] <= own[-1][1]]
            # All words of a level stand in the middle of what its arms leave free.
            x = (max(skip["start"] for skip in skips) + min(skip["end"] for skip in skips)) / 2
            for skip in skips:
                skip["x"] = x
            text = f"height {height}, width {width}"
            self.levels.append(dict(x=x, y=top, height=size, text=text, odd=level % 2 == 1))

    def _blocks(self) -> None:
        """A frame around the modules of each block."""
        spans: dict[str, list[float]] = {}
        for line, y in self.lines:
            for name in (*line.left, *line.right, line.upsampler or "conv_in"):
                middle = _upsampler(y) if name == line.upsampler else y
                block = ".".join(name.split(".")[:2])
                spans.setdefault(block, []).extend((middle - BOX / 2, middle + BOX / 2))
        spans.pop("conv_in")
        for name, ys in spans.items():
            inner, down = self._frame(name), name.startswith("down")
            x = self.left - 7 if down else inner
            wide, high = (inner if down else self.right + 7) - x, max(ys) - min(ys) + 8
            label = (
                dict(x=self.left - 17, y=min(ys)) if down else dict(x=self.right + 17, y=max(ys))
            )
            label |= dict(turn=-90 if down else 90)
            self.block(name, label, x, min(ys) - 4, wide, high)

    def _arms(self) -> None:
        """Down on the left, up on the right, and the path through both."""
        for line, y in self.lines:
            self._row(line.left, y)
            self._row(line.right, y)
            self._skip(line, y)
        for (above, high), (below, low) in pairwise(self.lines):
            end, start = high + BOX / 2, low - BOX / 2
            self.elbow((self._leaves(above.left), end), (self._enters(below.left), start))
            here, there = self._leaves(below.right), self._enters(above.right)
            if below.upsampler:
                up, y = self.right - SINGLE / 2, _upsampler(low)
                self.box(below.upsampler, self.right - SINGLE, y, SINGLE)
                self.elbow((here, start), (up, y + BOX / 2))
                here, start = up, y - BOX / 2
            self.elbow((here, start), (there, end))

    def _begins(self, names: list[str]) -> float:
        """The left edge of a line's modules."""
        up = names[0].startswith("up")
        return self.right - self.plan.length(names) if up else self.left

    def _enters(self, names: list[str]) -> float:
        """Where the path comes into a line: the middle of its first box."""
        return self._begins(names) + self.plan.lengths(names)[0] / 2

    def _leaves(self, names: list[str]) -> float:
        """Where the path goes out of a line: the middle of its last box."""
        return self._begins(names) + self.plan.length(names) - self.plan.lengths(names)[-1] / 2

    def _row(self, names: list[str], y: float) -> None:
        """The modules of one line."""
        x = self._begins(names)
        for i, (name, length) in enumerate(zip(names, self.plan.lengths(names))):
            if i:
                self.wires.append([(x - BETWEEN, y), (x, y)])
            self.box(name, x, y, length)
            x += length + BETWEEN

    def _skip(self, line: Line, y: float) -> None:
        """From the module that leaves it to the resnet that takes it, whose left edge shows the
        skip's channels above those that come from below."""
        source, target = line.left[-1], line.right[0]
        start, end = self.left + self.plan.length(line.left), self._begins(line.right) - 7
        both, skip = self.plan.shape(f"{target}.input_tensor")[1], self.plan.shape(source)[1]
        cut = BOX * skip / both
        # Its words stand between the frames of the two blocks.
        free = [max(start, self._frame(source)), min(end, self._frame(target))]
        for top, height, owner in ((0, cut, source), (cut, BOX - cut, "up_blocks")):
            place = dict(x=end, y=y - BOX / 2 + top, width=6, height=height)
            self.bars.append(dict(stage=stage_of(owner)) | place)
        self.skips.append(
            {"from": source, "to": target, "shape": sizes(self.plan.shape(source))}
            | dict(start=start, end=end, y=y, stage=stage_of(source))
            | dict(sum=f"{both - skip} + {skip} = {both}", free=free)
        )

    def _frame(self, name: str) -> float:
        """The inner edge of the frame around a module's block."""
        length = self.plan.extent(".".join(name.split(".")[:2])) if "blocks" in name else 0
        return self.right - length - 14 if name.startswith("up") else self.left + length + 7

    def _mid(self) -> None:
        """At the bottom, from left to right; without a mid block the path goes straight across."""
        y, (line, last) = self.bottom, self.lines[-1]
        down, up = self._leaves(line.left), self._enters(line.right)
        inner = re.compile(r"mid_block\.(resnets|attentions)\.\d+")
        names = [name for name in self.plan.rows if inner.fullmatch(name)]
        lengths = [88 if "attentions" in name else 62 for name in names]
        x = (self.width - sum(lengths) - 18 * max(len(names) - 1, 0)) / 2
        here = (down, last + BOX / 2)
        if names:
            label = dict(x=self.width / 2, y=y - 22, turn=0)
            self.block("mid_block", label, x - 7, y - 15, self.width - 2 * x + 14, 30)
            # Around the block's edge, where the arms stand closer than the block is long.
            turn, side = last + BOX / 2 + 9, min(down, x - 24)
            self.wires.append([here, (down, turn), (side, turn), (side, y), (x, y)])
        for i, (name, length) in enumerate(zip(names, lengths)):
            if i:
                self.wires.append([(x - 18, y), (x, y)])
            self.box(name, x, y, length)
            x += length + 18
        turn, side = last + BOX / 2 + 9, max(up, x - 18 + 24) if names else up
        start = [(x - 18, y)] if names else [here, (down, y)]
        self.wires.append([*start, (side, y), (side, turn), (up, turn), (up, last + BOX / 2)])

    def _ends(self) -> None:
        """What comes in at the top left, and stage 6 at the top right."""
        line, y = self.lines[0]
        down, up = self._enters(line.left), self._leaves(line.right)
        top = y - BOX / 2
        self.text(down, top - 62, "sample", "strong")
        self.text(down, top - 46, sizes(self.plan.shape("sample")))
        self.wires.append([(down, top - 38), (down, top)])
        names = [n for n in ("conv_norm_out", "conv_act", "conv_out") if n in self.plan.rows]
        for name in names:
            middle = top - 22 if name == names[0] else top - 18
            self.wires.append([(up, top), (up, middle)])
            self.box(name, up - 52, middle - 9, 104, 18)
            top = middle - 18
        self.wires.append([(up, top), (up, top - 10)])
        self.text(up, top - 32, "prediction", "strong")
        self.text(up, top - 17, sizes(self.plan.shape("conv_out")))

    def _conditions(self, y: float) -> float:
        """Time and text, between the tops of the arms; returns where they end."""
        plan, x = self.plan, self.width / 2 + 10
        made = [row.name for row in plan.rows.values() if row.stage == 1 and row.depth == 1]
        given = [row.name for row in plan.rows.values() if row.stage == 0]
        timed = [name for name in given if name.startswith("timestep")]
        other = [name for name in given[1:] if name not in timed and name != PROMPT]
        for inputs, names in ((timed, made[:2]), (other, made[2:])):
            if inputs:
                words = ", ".join(name.rpartition(".")[2] for name in inputs)
                self.text(x, y, words, "strong")
                self.chain(names, x, y + 18)
                y += 46 if names else 16
        self._arrival("time_embedding", "time", "resnets", x, y)
        self.text(x, y + 23, PROMPT, "strong")
        self._arrival(PROMPT, "input", "attentions", x, y + 38)
        return y + 53

    def _arrival(self, name: str, what: str, into: str, x: float, y: float) -> None:
        """The mark of what is told to many modules, and to how many."""
        self.pins.append(dict(x=x - 82, y=y, what=what, of=""))
        many = re.compile(rf".*\.{into}\.\d+")
        count = sum(bool(many.fullmatch(each)) for each in self.plan.rows)
        text = f"{sizes(self.plan.shape(name))}, into {count} {into}"
        self.text(x - 74, y, text, side="start")


def _upsampler(y: float) -> float:
    """The middle of the upsampler above a line."""
    return y - (BOX + SPACE + SAMPLER) / 2
