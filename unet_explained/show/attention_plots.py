"""Attention, as pictures: the matrix, maps over a picture, where a pixel looks, the two halves."""

from collections.abc import Sequence

import numpy as np
from matplotlib.patches import Rectangle

from ..recording.rows import stage_of
from .colours import ATTENTION, STAGE_COLOURS
from .lost import largest
from .plots import Picture, Place, draw_map, entitle, panels, shrunk, tiles, word_maps, words_over
from .words import name_ticks

MARK = "#00e5ff"  # told apart from every colour of the attention map
FRAME = "#3ddbd9"


def weight_matrix(
    weights: np.ndarray, tokens: Sequence[str], column: int, size: tuple[int, int]
) -> Picture:
    """weights (query, key) as they are; and one of its columns as the picture's (height, width)."""
    figure = Picture(figsize=(9.2, 4.6))
    figure.set_layout_engine("constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.3, 1])
    shown = weights[:, : len(tokens)]
    # By far the most goes to the first token: on its scale the words would be black.
    several = shown.shape[1] > 1 and np.isfinite(shown).all()
    top = float(np.percentile(shown[:, 1:], 99.5)) if several else largest([shown])
    extent = (-0.5, len(tokens) - 0.5, len(weights), 0)
    left.imshow(
        shown, ATTENTION, vmin=0, vmax=top, extent=extent, aspect="auto", interpolation="nearest"
    )
    left.set(ylabel=f"query: {len(weights)} pixels, line after line")
    left.set_xlabel(f"key: the first {len(tokens)} of {weights.shape[1]} tokens")
    name_ticks(left.xaxis, tokens, rotation=60, ha="right", fontsize=9)
    left.add_patch(
        Rectangle((column - 0.5, 0), 1, len(weights), fill=False, color=MARK, linewidth=2)
    )
    values = weights[:, column].reshape(size)
    drawn = right.imshow(values, ATTENTION, vmin=0, vmax=top, interpolation="nearest")
    right.set_axis_off()
    text = f"the column “{tokens[column]}”, as {size[0]} x {size[1]}"
    entitle(right, text, fontsize=11)
    figure.colorbar(drawn, ax=right, shrink=0.7, extend="max").set_label("attention weight")
    return figure


def pixel_looks(run, recording, layer: str, place: tuple[int, int]) -> Picture:
    """pixel_view of a run's picture, from a recording with self-attention.

    layer: a Transformer2DModel's name; place: (row, column) among the latents.
    """
    cross = f"{layer}.*attn2"
    start = recording.attention(token=0, layer=cross)
    pixel = tuple(
        at * size // full for at, size, full in zip(place, start.shape, run.latents.shape[-2:])
    )
    maps = word_maps(recording, layer=cross)
    weights = [start[pixel].item(), *(heat[pixel].item() for heat in maps)]
    looks = recording.self_attention(layer=f"{layer}.transformer_blocks.0.attn1", pixel=pixel)
    labels = ["start", *run.prompt.words, "the rest"]
    shares = [*weights, max(0.0, 1 - sum(weights))]
    return pixel_view(np.asarray(run.image), pixel, looks.cpu().numpy(), labels, shares)


def pixel_view(
    image: np.ndarray,
    pixel: tuple[int, int],
    looks: np.ndarray,
    words: Sequence[str],
    weights: Sequence[float],
) -> Picture:
    """Where one pixel (row, column) of a map looks (height, width), and how much at each word."""
    figure = Picture(figsize=(9.6, 3.4))
    # Fixed places: finding them anew would double the time of a redraw.
    places = (0.01, 0.03, 0.3, 0.86), (0.32, 0.03, 0.3, 0.86), (0.71, 0.15, 0.27, 0.74)
    picture, around, bars = map(figure.add_axes, places)
    image = shrunk(image)
    high, wide = (side / count for side, count in zip(image.shape[:2], looks.shape))
    picture.imshow(image)
    draw_map(around, image, looks, largest([looks]))
    for axis in (picture, around):
        # A pixel of a fine map is too small to see: its frame is drawn larger.
        corner, side = (pixel[1] * wide, pixel[0] * high), max(wide, high, image.shape[0] / 32)
        middle = (corner[0] + wide / 2 - side / 2, corner[1] + high / 2 - side / 2)
        axis.add_patch(Rectangle(middle, side, side, fill=False, color=MARK, linewidth=2))
        axis.set_axis_off()
    entitle(picture, "the pixel", fontsize=11)
    entitle(around, "self: the pixels it looks at", fontsize=11)
    bars.barh(range(len(words)), weights, color="#b5367a")  # the middle of the attention map
    name_ticks(bars.yaxis, words, fontsize=10)
    bars.invert_yaxis()
    entitle(bars, "cross: the words it looks at", fontsize=11)
    bars.set_xlabel("attention weight")
    bars.spines[["top", "right"]].set_visible(False)
    return figure


def maps_over(
    image: np.ndarray,
    maps: Sequence[np.ndarray],
    titles: Sequence[str],
    *,
    top: float | None = None,
    pixel: tuple[int, int] | None = None,
) -> Picture:
    """The picture (PIL, or uint8 (height, width, 3)) and attention maps over it, on one scale.

    top: the end of the scale, by default the largest value. pixel: a (row, column) to be framed.
    """
    image = shrunk(np.asarray(image))
    ratio = image.shape[0] / image.shape[1]
    figure, axis, places = tiles(len(maps) + 1, 3, 3.1, ratio, over=0.1)
    axis.imshow(image, extent=places[0])
    top = largest(maps) if top is None else top
    for place, values in zip(places[1:], maps):
        draw_map(axis, image, values, top, place)
    for place, title in zip(places, ["the picture", *titles]):
        words_over(axis, place, title, fontsize=10.5)
        if pixel is not None:
            axis.add_patch(_frame(place, pixel, maps[0].shape))
    return figure


def _frame(place: Place, pixel: tuple[int, int], size: tuple[int, int]) -> Rectangle:
    """Around one (row, column) of a map of that (height, width)."""
    left, right, lower, upper = place
    wide, high = (right - left) / size[1], (lower - upper) / size[0]
    corner = left + pixel[1] * wide, upper + pixel[0] * high
    return Rectangle(corner, wide, high, fill=False, color=FRAME, lw=2)


def looks_grid(looks: np.ndarray, image: np.ndarray) -> Picture:
    """Where each pixel of a small map looks: looks (height, width, height, width), a map of maps.

    Each little square is one pixel's whole map, at that pixel's place; each on its own scale.
    Beside it the picture (PIL, or uint8 (height, width, 3)), divided into those places.
    """
    height, width = looks.shape[:2]
    scaled = looks / looks.max(axis=(2, 3), keepdims=True)
    padded = np.pad(scaled, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=np.nan)
    sheet = padded.transpose(0, 2, 1, 3).reshape(height * (height + 1), width * (width + 1))
    figure, (left, right) = panels(2, 2, 4.7)
    right.imshow(sheet[:-1, :-1], ATTENTION, vmin=0, vmax=1, interpolation="nearest")
    entitle(right, "where each of them looks", fontsize=11)
    image = np.asarray(image)
    left.imshow(image)
    high, wide = image.shape[0] / height, image.shape[1] / width
    left.hlines([i * high for i in range(1, height)], 0, image.shape[1], FRAME, lw=0.8)
    left.vlines([i * wide for i in range(1, width)], 0, image.shape[0], FRAME, lw=0.8)
    entitle(left, f"the picture in {height} x {width} places", fontsize=11)
    return figure


def halves_apart(names: Sequence[str], differences: Sequence[float]) -> Picture:
    """How far the two halves of the batch are apart after each module, in its stage's colour."""
    figure = Picture(figsize=(9.6, 4.4))
    figure.set_layout_engine("constrained")
    axis = figure.subplots()
    stages = [stage_of(name) for name in names]
    axis.bar(range(len(names)), differences, color=[STAGE_COLOURS[stage] for stage in stages])
    for stage in dict.fromkeys(stages):
        axis.bar([0], [0], color=STAGE_COLOURS[stage], label=stage)
    name_ticks(axis.xaxis, [_short(name) for name in names], rotation=90, fontsize=8)
    axis.set_ylabel("difference, as a share of the size")
    axis.set_xlim(-0.8, len(names) - 0.2)
    axis.legend(fontsize=9, title="stage")
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def _short(name: str) -> str:
    """down_blocks.0.attentions.1 as down 0 attention 1."""
    for long, short in (("_blocks", ""), ("_block", ""), ("attentions", "attention")):
        name = name.replace(long, short)
    return name.replace("resnets", "resnet").replace(".", " ")
