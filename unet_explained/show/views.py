"""Views that keep up with a slider, and two ways to see many channels at once: arrays in."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.patches import Rectangle

from .colours import ATTENTION
from .features import POSITIVE, SIGNED
from .plots import Picture, Place, draw_map, entitle, shrunk, tiles, words_over

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
    image = shrunk(np.asarray(image))
    ratio = image.shape[0] / image.shape[1]
    figure, axis, places = tiles(len(maps) + 1, columns, 3.1, ratio, over=0.1)
    axis.imshow(image, extent=places[0])
    top = max(float(each.max()) for each in maps) if top is None else top
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
    return Rectangle(corner, wide, high, fill=False, color=MARK, lw=2)


def channels(features: np.ndarray, first: int = 0, count: int = 8) -> Picture:
    """`count` feature maps of (channel, height, width) from the first on: red above 0, blue below.

    Each on its own scale, whose end stands above it.
    """
    shown = features[first : first + count]
    ratio = shown.shape[1] / shown.shape[2]
    figure, axis, places = tiles(len(shown), 4, 2.35, ratio, over=0.14)
    for channel, (values, place) in enumerate(zip(shown, places), start=first):
        reach = float(np.abs(values).max()) or 1.0
        axis.imshow(values, SIGNED, vmin=-reach, vmax=reach, extent=place)
        words_over(axis, place, f"channel {channel}, to ±{reach:.1f}", fontsize=9)
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
    padded = np.pad(scaled, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=np.nan)
    sheet = padded.transpose(0, 2, 1, 3).reshape(height * (height + 1), width * (width + 1))
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
