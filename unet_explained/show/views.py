"""Views that keep up with a slider, and two ways to see many channels at once: arrays in."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.patches import Rectangle

from .colours import ATTENTION
from .features import POSITIVE, SIGNED
from .plots import Picture, draw_map, entitle, shrunk

MARK = "#3ddbd9"


def panels(count: int, columns: int, side: float, top: float = 0.3) -> tuple[Picture, list]:
    """Square panels at fixed places: finding a layout would take longer than drawing."""
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Picture(figsize=(side * columns, (side + top) * rows))
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    figure.subplots_adjust(0.01, 0.01, 0.99, 1 - top / (side + top) / rows, 0.04, top / side)
    for axis in axes:
        axis.set_axis_off()
    return figure, list(axes[:count])


def maps_over(
    image: np.ndarray,
    maps: Sequence[np.ndarray],
    titles: Sequence[str],
    *,
    top: float | None = None,
    pixel: tuple[int, int] | None = None,
    columns: int = 3,
) -> Picture:
    """The picture (PIL, or uint8 (height, width, 3)) and attention maps over it, on one scale.

    top: the end of the scale, by default the largest value. pixel: a (row, column) to be framed.
    """
    figure, axes = panels(len(maps) + 1, columns, 3.1)
    image = shrunk(np.asarray(image))
    axes[0].imshow(image)
    entitle(axes[0], "the picture", fontsize=11)
    top = max(float(each.max()) for each in maps) if top is None else top
    for axis, values, title in zip(axes[1:], maps, titles):
        draw_map(axis, image, values, top)
        entitle(axis, title, fontsize=11)
    if pixel is not None:
        high, wide = image.shape[0] / maps[0].shape[0], image.shape[1] / maps[0].shape[1]
        for axis in axes:
            corner = pixel[1] * wide, pixel[0] * high
            axis.add_patch(Rectangle(corner, wide, high, fill=False, color=MARK, lw=2))
    return figure


def channels(features: np.ndarray, first: int = 0, count: int = 8) -> Picture:
    """`count` feature maps of (channel, height, width) from the first on: red above 0, blue below.

    Each on its own scale, whose end stands above it.
    """
    shown, columns = features[first : first + count], 4
    ratio = shown.shape[1] / shown.shape[2]
    height = (ratio + 0.14) * -(-len(shown) // columns)
    figure = Picture(figsize=(2.35 * columns, 2.35 * height))
    axis = figure.add_axes((0, 0, 1, 1))  # one for all: eight would take three times as long
    axis.set_axis_off()
    for index, values in enumerate(shown):
        top, left = (ratio + 0.14) * (index // columns) + 0.13, index % columns
        reach = float(np.abs(values).max()) or 1.0
        place = (left + 0.02, left + 0.98, top + 0.98 * ratio, top)
        axis.imshow(values, SIGNED, vmin=-reach, vmax=reach, extent=place)
        text = f"channel {first + index}, to ±{reach:.1f}"
        axis.text(left + 0.5, top - 0.06, text, fontsize=9, ha="center", va="center")
    axis.set(xlim=(0, columns), ylim=(height, 0))
    return figure


def principal_colours(features: np.ndarray) -> np.ndarray:
    """(channel, height, width) as a picture, uint8 (height, width, 3), whose red, green and blue
    are the three directions in which places differ most: like colours, like features."""
    channel, height, width = features.shape
    places = features.reshape(channel, -1).T.astype(np.float64)
    places = places - places.mean(axis=0)
    _, _, directions = np.linalg.svd(places, full_matrices=False)
    along = places @ directions[:3].T
    low, high = np.percentile(along, (1, 99), axis=0)
    scaled = np.clip((along - low) / np.maximum(high - low, 1e-12), 0, 1)
    return (scaled * 255).astype(np.uint8).reshape(height, width, 3)


def reach_grid(
    maps: Mapping[str, np.ndarray],
    sides: Mapping[str, int],
    pixel: tuple[int, int],
    size: tuple[int, int],
    *,
    columns: int = 4,
) -> Picture:
    """How far a change at one latent pixel went: log scale, over the latents' (height, width).

    maps: name -> (height, width). sides: how far convolutions alone can carry it, framed.
    """
    figure, axes = panels(len(maps), columns, 2.35, top=0.45)
    height, width = size
    for axis, (name, values) in zip(axes, maps.items()):
        exponent = np.log10(np.maximum(values / max(values.max(), 1e-30), 1e-6))
        axis.imshow(exponent, POSITIVE, vmin=-5, vmax=0, extent=(0, width, height, 0))
        if name in sides:
            corner = pixel[1] + 0.5 - sides[name] / 2, pixel[0] + 0.5 - sides[name] / 2
            frame = Rectangle(corner, sides[name], sides[name], fill=False, color="white", lw=1.5)
            axis.add_patch(frame)
        shape = " x ".join(map(str, values.shape))
        entitle(axis, f"{name}\n{shape}", fontsize=8.5)
    scale = ScalarMappable(LogNorm(1e-5, 1), POSITIVE)
    bar = figure.colorbar(scale, ax=axes, location="bottom", shrink=0.5, fraction=0.04, pad=0.02)
    bar.set_label("change, as a share of the greatest on each map", fontsize=9)
    return figure


def looks_grid(looks: np.ndarray, image: np.ndarray | None = None) -> Picture:
    """Where each pixel of a small map looks: looks (height, width, height, width), a map of maps.

    Each little square is one pixel's whole map, at that pixel's place; each on its own scale.
    """
    height, width = looks.shape[:2]
    scaled = looks / looks.max(axis=(2, 3), keepdims=True)
    tiles = np.pad(scaled, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=np.nan)
    sheet = tiles.transpose(0, 2, 1, 3).reshape(height * (height + 1), width * (width + 1))
    figure, axes = panels(2 if image is not None else 1, 2, 4.7)
    axes[-1].imshow(sheet[:-1, :-1], ATTENTION, vmin=0, vmax=1, interpolation="nearest")
    entitle(axes[-1], "where each of them looks", fontsize=11)
    if image is not None:
        image = np.asarray(image)
        axes[0].imshow(image)
        high, wide = image.shape[0] / height, image.shape[1] / width
        axes[0].hlines([i * high for i in range(1, height)], 0, image.shape[1], MARK, lw=0.8)
        axes[0].vlines([i * wide for i in range(1, width)], 0, image.shape[0], MARK, lw=0.8)
        entitle(axes[0], f"the picture in {height} x {width} places", fontsize=11)
    return figure
