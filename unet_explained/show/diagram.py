"""The U in one picture, drawn from a shape table: any configuration, nothing known beforehand."""

import re
from itertools import pairwise

from matplotlib.patches import Rectangle

from ..recording.rows import Row
from ..recording.shapes import ShapeTable, shape_table
from .colours import STAGE_COLOURS, colour_of
from .layout import BETWEEN, LEFT, PATH, RIGHT, TOP, WIDTH, Line, Plan, plan_of
from .plots import Picture
from .strokes import DARK, MUTED, arrow, box, pin, rounded, sampler, sizes, tint, write

TEXT, TIME, PROMPT = STAGE_COLOURS["input"], STAGE_COLOURS["time"], "encoder_hidden_states"


def draw_u(what, **counts: int) -> Picture:
    """The six stages with every resnet, attention, sampler and skip, and the shapes that pass.

    what and counts: as for shape_table; or a ShapeTable of full depth, such as recording.shapes.
    """
    table = what if isinstance(what, ShapeTable) else shape_table(what, **counts)
    plan = plan_of(table)
    height = plan.bottom + 0.75
    figure = Picture(figsize=(WIDTH, height), facecolor="white")
    axis = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(height, 0))
    axis.set_axis_off()
    _levels(axis, plan)
    _blocks(axis, plan)
    for line in plan.lines:
        _skip(axis, plan, line)
    _arms(axis, plan)
    _mid(axis, plan)
    _ends(axis, plan)
    _conditions(axis, plan)
    _legend(axis, plan, height - 0.2)
    return figure


def _levels(axis, plan: Plan) -> None:
    """A band for each resolution, with its height and width."""
    for level in range(plan.lines[-1].level + 1):
        lines = [line for line in plan.lines if line.level == level]
        last = level == plan.lines[-1].level
        top = lines[0].y - lines[0].height / 2 - (0.27 if level else 0.16)
        end = plan.bottom + 0.36 if last else lines[-1].y + lines[-1].height / 2 + 0.16
        band = Rectangle((0, top), WIDTH, end - top, color="#f4f5f9" if level % 2 else "#fafafc")
        axis.add_patch(band).set_zorder(0)
        height, width = plan.shape(lines[0].left[-1])[2:]
        write(axis, WIDTH / 2, top - 0.1, f"height {height}, width {width}", 8, MUTED)


def _blocks(axis, plan: Plan) -> None:
    """Around the modules of each block, its name and its class beside it."""
    spans: dict[str, list[float]] = {}
    for line in plan.lines:
        for name in (*line.left, *line.right, line.upsampler or "conv_in"):
            block = ".".join(name.split(".")[:2])
            y = line.upsampler_y if name == line.upsampler else line.y
            spans.setdefault(block, []).extend((y - line.height / 2, y + line.height / 2))
    spans.pop("conv_in")
    for block, ys in spans.items():
        down, row = block.startswith("down"), plan.rows[block]
        length = plan.extent(block)
        x = LEFT - 0.08 if down else RIGHT - length - 0.15
        frame = (x, min(ys) - 0.07), length + (0.16 if down else 0.23), max(ys) - min(ys) + 0.14
        colour = colour_of(block)
        axis.add_patch(rounded(*frame, facecolor=tint(colour, 0.13), edgecolor=colour, lw=1.1))
        x, side = (LEFT - 0.17, "right") if down else (RIGHT + 0.17, "left")
        y = (min(ys) + max(ys)) / 2
        write(axis, x, y - 0.08, block, 8.5, DARK, side, weight="bold")
        write(axis, x, y + 0.09, row.kind, 7, MUTED, side)


def _arms(axis, plan: Plan) -> None:
    """The modules from the top: down on the left, up on the right; the path between them."""
    for line in plan.lines:
        _boxes(axis, plan, line.left, LEFT, line)
        _boxes(axis, plan, line.right, RIGHT - plan.length(line.right), line)
        _received(axis, plan, line)
    for above, below in pairwise(plan.lines):
        end, start = above.y + above.height / 2, below.y - below.height / 2
        _elbow(axis, (plan.leaves(above.left), end), (plan.enters(below.left), start))
        here, there = plan.leaves(below.right), plan.enters(above.right)
        if below.upsampler:
            up, y = RIGHT - PATH, below.upsampler_y
            sampler(axis, up, y, 0.24, STAGE_COLOURS["up"], "upsample")
            _elbow(axis, (here, start), (up, y + 0.12))
            x = max(up, there) + 0.1
            write(axis, x, y - 0.29, sizes(plan.shape(below.upsampler)), 7.5, DARK, "left")
            here, start = up, y - 0.12
        _elbow(axis, (here, start), (there, end))


def _elbow(axis, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Out of one module's edge and into the next one's, by right angles."""
    (x, y), (to_x, to_y) = start, end
    middle = y + (to_y - y) * 0.4
    axis.plot([x, x, to_x, to_x], [y, middle, middle, (middle + to_y) / 2], color=DARK, lw=1)
    arrow(axis, (to_x, middle), end, width=1)


def _boxes(axis, plan: Plan, names: list[str], x: float, line: Line) -> None:
    """The modules of one line side by side."""
    for i, (name, length) in enumerate(zip(names, plan.lengths(names))):
        if i:
            arrow(axis, (x - BETWEEN - 0.02, line.y), (x + 0.03, line.y), width=1)
        if "downsamplers" in name:
            sampler(axis, x + PATH, line.y, line.height, STAGE_COLOURS["down"], "downsample")
        else:
            _module(axis, plan, name, x, line.y, length, line.height)
        x += length + BETWEEN


def _module(axis, plan: Plan, name: str, x: float, y: float, length: float, height: float) -> None:
    """A resnet, a transformer (fainter, with its depth) or a single layer under its own name."""
    colour, top = colour_of(name), y - height / 2
    if "attentions" in name:
        depth = sum(row.startswith(f"{name}.transformer_blocks.") for row in plan.blocks)
        label = "attention" + (f" × {depth}" if depth > 1 else "")
        box(axis, x, y, length, height, tint(colour, 0.38), label, colour)
        pin(axis, x + length - 0.1, top, TEXT)
    elif "resnets" in name:
        box(axis, x, y, length, height, colour, "resnet", colour)
        pin(axis, x + 0.1, top, TIME)
    else:
        box(axis, x, y, length, height, colour, name, colour)


def _received(axis, plan: Plan, line: Line) -> None:
    """At the left edge of a resnet what it is given: the skip's channels above those from below."""
    both = plan.shape(f"{line.right[0]}.input_tensor")[1]
    skip = plan.shape(line.left[-1])[1]
    x, top = RIGHT - plan.length(line.right) - 0.09, line.y - line.height / 2
    cut = line.height * skip / both
    for y, height, end in ((top, cut, line.left[-1]), (top + cut, line.height - cut, "up_blocks")):
        colour = colour_of(end)
        axis.add_patch(Rectangle((x, y), 0.09, height, facecolor=colour, edgecolor="white"))
    x = RIGHT - plan.extent(line.right[0]) - 0.32
    write(axis, x, line.y - 0.085, f"{both - skip} + {skip} = {both}", 7.5, MUTED, "right")


def _skip(axis, plan: Plan, line: Line) -> None:
    """From the module that leaves it to the resnet that takes it, with its shape."""
    source = line.left[-1]
    start, end = LEFT + plan.length(line.left), RIGHT - plan.length(line.right) - 0.1
    arrow(axis, (start, line.y), (end, line.y), colour_of(source), 1.4)
    x = LEFT + plan.extent(source) + 0.2
    write(axis, x, line.y - 0.085, sizes(plan.shape(source)), 7.5, DARK, "left")


def _mid(axis, plan: Plan) -> None:
    """At the bottom, from left to right; without a mid block the path goes straight across."""
    y, last = plan.bottom, plan.lines[-1]
    down, up, lower = plan.leaves(last.left), plan.enters(last.right), last.y + last.height / 2
    names = [n for n in plan.rows if re.fullmatch(r"mid_block\.(resnets|attentions)\.\d+", n)]
    lengths = [1.25 if "attentions" in name else 0.85 for name in names]
    start = x = (WIDTH - sum(lengths) - 0.22 * max(len(names) - 1, 0)) / 2
    end = WIDTH - start
    axis.plot([down, down, start - 0.1], [lower, y, y], color=DARK, lw=1)
    axis.plot([end, up, up], [y, y, lower + 0.1], color=DARK, lw=1)
    arrow(axis, (up, lower + 0.15), (up, lower), width=1)
    write(axis, down - 0.1, y - 0.06, sizes(plan.shape(last.left[-1])), 7.5, DARK, "right")
    if not names:
        axis.plot([start - 0.1, end], [y, y], color=DARK, lw=1)
        return
    arrow(axis, (start - 0.2, y), (start, y), width=1)
    write(axis, up + 0.1, y - 0.06, sizes(plan.shape("mid_block")), 7.5, DARK, "left")
    colour, frame = STAGE_COLOURS["mid"], ((start - 0.08, y - 0.21), end - start + 0.16, 0.42)
    axis.add_patch(rounded(*frame, facecolor=tint(colour, 0.13), edgecolor=colour, lw=1.1))
    write(axis, WIDTH / 2 - 0.06, y - 0.31, "mid_block", 8.5, DARK, "right", weight="bold")
    write(axis, WIDTH / 2 + 0.02, y - 0.31, plan.rows["mid_block"].kind, 7, MUTED, "left")
    for name, length in zip(names, lengths):
        if x > start:
            arrow(axis, (x - 0.22, y), (x + 0.03, y), width=1)
        _module(axis, plan, name, x, y, length, 0.28)
        x += length + 0.22


def _ends(axis, plan: Plan) -> None:
    """What comes in at the top left, and stage 6 at the top right."""
    first = plan.lines[0]
    down, up, top = plan.enters(first.left), plan.leaves(first.right), first.y - first.height / 2
    write(axis, down, TOP - 1.01, "sample", 9, DARK, weight="bold")
    _axes(axis, plan.rows["sample"], down, TOP - 0.84)
    arrow(axis, (down, TOP - 0.6), (down, top), width=1)
    y, colour = TOP - 0.47, STAGE_COLOURS["post-process"]
    norm = ", ".join(name for name in ("conv_norm_out", "conv_act") if name in plan.rows)
    for names in filter(None, (norm, "conv_out")):
        arrow(axis, (up, top), (up, y + 0.13), width=1)
        box(axis, up - 0.85, y, 1.7, 0.26, colour, names, colour)
        y, top = y - 0.4, y - 0.13
    arrow(axis, (up, top), (up, y + 0.08), width=1)
    write(axis, up, y - 0.34, "prediction", 9, DARK, weight="bold")
    _axes(axis, plan.rows["conv_out"], up, y - 0.17)


def _axes(axis, row: Row, x: float, y: float) -> None:
    """The axes by name, in two lines."""
    names = str(row.tensor).split()
    write(axis, x, y, " ".join(names[:2]), 7.5)
    write(axis, x, y + 0.14, " ".join(names[2:]), 7.5)


def _conditions(axis, plan: Plan) -> None:
    """Time and text, between the tops of the arms, each with the mark it has where it arrives."""
    made = [row for row in plan.rows.values() if row.stage == 1 and row.depth == 1]
    given = [row for row in plan.rows.values() if row.stage == 0]
    timed = [row for row in given if row.name.startswith("timestep")]
    other = [row for row in given[1:] if row not in timed and row.name != PROMPT]
    y = TOP - 1.52
    for inputs, modules in ((timed, made[:2]), (other, made[2:])):
        _chain(axis, inputs, modules, y)
        y += 0.5 if modules else 0
    resnets = sum(row.kind == "ResnetBlock2D" for row in plan.rows.values())
    shape = sizes(plan.shape("time_embedding"))
    _arrival(axis, 2.95, y + 0.02, f"{shape}, into each of {resnets} resnets", TIME)
    x, y = 6.05, TOP - 1.52
    write(axis, x, y, PROMPT, 8, DARK, weight="bold")
    write(axis, x, y + 0.2, sizes(plan.shape(PROMPT)), 8)
    attentions = sum(row.kind == "Transformer2DModel" for row in plan.rows.values())
    _arrival(axis, x - 0.75, y + 0.4, f"into each of {attentions} attentions", TEXT)


def _chain(axis, inputs: list[Row], modules: list[Row], y: float) -> None:
    """Inputs in words, and below them the one or two modules that they pass."""
    names = (row.name.rpartition(".")[2] for row in inputs)
    write(axis, 4.02, y, ", ".join(names), 8, DARK, weight="bold")
    x = 4.02 - 0.58 * len(modules) - 0.08 * (len(modules) - 1)
    for i, row in enumerate(modules):
        if i:
            arrow(axis, (x - 0.16, y + 0.23), (x, y + 0.23))
        box(axis, x, y + 0.23, 1.16, 0.24, TIME, row.name, TIME)
        x += 1.32


def _arrival(axis, x: float, y: float, text: str, colour) -> None:
    pin(axis, x, y, colour)
    write(axis, x + 0.12, y, text, 8, DARK, "left")


def _legend(axis, plan: Plan, y: float) -> None:
    """What the words on the boxes stand for."""
    words = (
        "resnet: ResnetBlock2D", "attention: Transformer2DModel, × its depth",
        "down-, upsample: Downsample2D, Upsample2D", "shapes: batch × channel × height × width",
    )  # fmt: skip
    write(axis, WIDTH / 2, y, (5 * " ").join(words), 7.5, MUTED)
    write(axis, WIDTH / 2, 0.28, f"{plan.table.title}: {plan.table.given}", 11, DARK, weight="bold")
