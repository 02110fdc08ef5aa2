"""The U in one picture, drawn from a shape table: any configuration, nothing known beforehand."""

from typing import Any

from matplotlib.patches import Rectangle

from ..recording.shapes import ShapeTable, shape_table
from .colours import DARK, MUTED, STAGE_COLOURS
from .geometry import geometry_of
from .plots import Picture
from .strokes import arrow, box, pin, rounded, sampler, tint, write

INCH = 78  # pixels of the geometry
WIDTH, EDGE = 10 * INCH, 113  # of the drawing; room beside the arms for the blocks' names
HEAD, FOOT = 34, 38  # room for the title above, and the legend below
LEGEND = (
    "resnet: ResnetBlock2D     attention: Transformer2DModel, × its depth",
    "down-, upsample: Downsample2D, Upsample2D     shapes: batch × channel × height × width",
)


def draw_u(what: Any, **counts: int) -> Picture:
    """The six stages with every resnet, attention, sampler and skip, and the shapes that pass.

    what and counts: as for shape_table; or a ShapeTable of full depth, such as recording.shapes.
    """
    table = what if isinstance(what, ShapeTable) else shape_table(what, **counts)
    drawn = geometry_of(table, width=WIDTH, edge=EDGE)
    top, bottom = -HEAD, drawn["height"] + FOOT
    figure = Picture(figsize=(WIDTH / INCH, (bottom - top) / INCH), facecolor="white")
    axis = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(bottom, top))
    axis.set_axis_off()
    for level in drawn["levels"]:
        _level(axis, level)
    for block in drawn["blocks"]:
        _block(axis, block)
    for skip in drawn["skips"]:
        _skip(axis, skip)
    for points in drawn["wires"]:
        axis.plot(*zip(*points[:-1]), color=DARK, lw=1, zorder=2)
        arrow(axis, points[-2], points[-1], width=1)
    for bar in drawn["bars"]:
        place = (bar["x"], bar["y"]), bar["width"], bar["height"]
        colour = STAGE_COLOURS[bar["stage"]]
        axis.add_patch(Rectangle(*place, facecolor=colour, edgecolor="white", zorder=3))
    for module in drawn["boxes"]:
        _module(axis, module)
    for mark in drawn["pins"]:
        pin(axis, mark["x"], mark["y"], STAGE_COLOURS[mark["what"]])
    for text in drawn["texts"]:
        strong = text["look"] == "strong"
        side = "left" if text["side"] == "start" else "center"
        write(axis, text["x"], text["y"], text["text"], 8.5, DARK, side, bold=strong)
    write(axis, WIDTH / 2, top + 18, f"{table.title}: {table.given}", 11, DARK, bold=True)
    for line, text in enumerate(reversed(LEGEND)):
        write(axis, WIDTH / 2, bottom - 13 - 13 * line, text, 7.5, MUTED)
    return figure


def _level(axis, level: dict) -> None:
    """A band for a resolution, with its height and width."""
    colour = "#f4f5f9" if level["odd"] else "#fafafc"
    band = Rectangle((0, level["y"]), WIDTH, level["height"], color=colour, zorder=0)
    axis.add_patch(band)
    write(axis, level["x"], level["y"] - 9, level["text"], 8, MUTED)


def _block(axis, block: dict) -> None:
    """A frame around a block's modules; beside it, its name and its class."""
    x, y, height, colour = block["x"], block["y"], block["height"], STAGE_COLOURS[block["stage"]]
    frame = dict(facecolor=tint(colour, 0.13), edgecolor=colour, lw=1.1)
    axis.add_patch(rounded(x, y, block["width"], height, **frame))
    name, kind = block["name"], block["kind"]
    if block["stage"] == "mid":
        x, y = block["label"]["x"], block["label"]["y"]
        write(axis, x - 5, y, name, 8.5, DARK, "right", bold=True)
        write(axis, x + 2, y, kind, 7, MUTED, "left")
        return
    down = block["stage"] == "down"
    x, side = (EDGE - 14, "right") if down else (WIDTH - EDGE + 14, "left")
    write(axis, x, y + height / 2 - 6, name, 8.5, DARK, side, bold=True)
    write(axis, x, y + height / 2 + 7, kind, 7, MUTED, side)


def _skip(axis, skip: dict) -> None:
    """From the module that leaves it to the resnet that takes it, with its shape and the sum."""
    colour = STAGE_COLOURS[skip["stage"]]
    arrow(axis, (skip["start"], skip["y"]), (skip["end"] - 1, skip["y"]), colour, 1.4)
    left, right = skip["free"]
    write(axis, left + 7, skip["y"] - 7, skip["shape"], 7.5, DARK, "left")
    write(axis, right - 7, skip["y"] - 7, skip["sum"], 7.5, MUTED, "right")


def _module(axis, module: dict) -> None:
    """A resnet, a transformer (fainter, with its depth), a sampler or a single layer."""
    place = module["x"], module["y"], module["width"], module["height"]
    colour, label = STAGE_COLOURS[module["stage"]], module["label"]
    if module["shape"] == "sampler":
        sampler(axis, place, colour, label)
    else:
        box(axis, place, tint(colour, 0.38) if module["shape"] == "pale" else colour, label, colour)
