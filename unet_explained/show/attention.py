"""Attention as it is computed: the matrix of weights, and where one pixel looks, and each."""

from collections.abc import Sequence

import numpy as np
from einops import rearrange
from matplotlib.patches import Rectangle

from .colours import ATTENTION, MARK
from .heatmaps import word_maps
from .lost import largest
from .overlay import shrunk
from .panels import Panels
from .picture import Picture
from .words import entitle, name_ticks


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
    image = shrunk(image)
    titles = ["the pixel", "self: the pixels it looks at"]
    panels = Panels(titles, 2, 2.9, image.shape[0] / image.shape[1], size=11, beside=3.6)
    panels.picture(0, image)
    panels.map(1, image, looks, largest([looks]))
    for index in (0, 1):  # a pixel of a fine map is too small to see: its frame is drawn larger
        panels.frame(index, pixel, looks.shape, side=max(1, max(looks.shape) / 32))
    bars = panels.chart(left=0.85)
    bars.barh(range(len(words)), weights, color="#b5367a")  # the middle of the attention map
    name_ticks(bars.yaxis, words, fontsize=10)
    bars.invert_yaxis()
    entitle(bars, "cross: the words it looks at", fontsize=11)
    bars.set_xlabel("attention weight")
    bars.spines[["top", "right"]].set_visible(False)
    return panels.figure


def looks_grid(looks: np.ndarray, image: np.ndarray) -> Picture:
    """Where each pixel of a small map looks: looks (height, width, height, width), a map of maps.

    Each little square is one pixel's whole map, at that pixel's place; each on its own scale.
    Beside it the picture (PIL, or uint8 (height, width, 3)), divided into those places.
    """
    height, width = looks.shape[:2]
    image = np.asarray(image)
    titles = [f"the picture in {height} x {width} places", "where each of them looks"]
    panels = Panels(titles, 2, 4.5, image.shape[0] / image.shape[1], size=11, gap=0.15)
    panels.picture(0, image)
    panels.divide(0, height, width, MARK, 0.8)
    scaled = looks / looks.max(axis=(2, 3), keepdims=True)
    padded = np.pad(scaled, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=np.nan)
    sheet = rearrange(padded, "row column y x -> (row y) (column x)")
    panels.values(1, sheet[:-1, :-1], ATTENTION, 0, 1)
    return panels.figure
