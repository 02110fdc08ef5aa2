"""Feature maps and pictures side by side, and ways to see many channels at once: arrays in."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.patches import Rectangle

from .lost import STRIPES, in_words, largest
from .plots import Picture, entitle, grid, panels, tiles, words_over
from .words import headline

SIGNED, POSITIVE = "RdBu_r", "viridis"  # the colour maps of values around 0, and from 0 up


def feature_grid(
    maps: Sequence[np.ndarray],
    titles: Sequence[str] = (),
    *,
    title: str = "",
    columns: int = 8,
    same_scale: bool = False,
    bar: bool = False,
) -> Picture:
    """Feature maps, each (height, width): red above 0 and blue below; or all of one sign, viridis.

    same_scale: one scale for all, so that they can be compared; bar: a colour bar for that scale.
    """
    side = min(2.4, 9.6 / min(columns, len(maps)))
    room = dict(beside=0.9 * bar, above=0.5 * bool(title))
    figure, axes = grid(len(maps), columns, (side, side + 0.3), **room)
    headline(figure, title, fontsize=12)
    signed = any(values.min() < 0 for values in maps)
    top = largest(np.abs(values) for values in maps)
    for index, (axis, values) in enumerate(zip(axes, maps)):
        reach = max(top if same_scale else largest([np.abs(values)]), 1e-12)
        drawn = axis.imshow(
            values, SIGNED if signed else POSITIVE, vmin=-reach if signed else 0, vmax=reach
        )
        if index < len(titles):
            entitle(axis, titles[index], fontsize=10)
    if bar:
        figure.colorbar(drawn, ax=axes, shrink=0.7, pad=0.02)
    return figure


def pictures_row(
    images: Sequence[np.ndarray], titles: Sequence[str], *, title: str = "", columns: int = 4
) -> Picture:
    """Pictures, uint8 (height, width, 3), with a line of text under each."""
    figure, axes = grid(len(images), columns, (2.6, 2.95), above=0.4 * bool(title))
    headline(figure, title, fontsize=12)
    for axis, image, text in zip(axes, images, titles):
        axis.imshow(image)
        entitle(axis, text, fontsize=10, y=-0.13)
    return figure


def channels(features: np.ndarray, first: int = 0) -> Picture:
    """Eight feature maps of (channel, height, width), `first` and on: red above 0, blue below.

    Each on its own scale, whose end stands above it.
    """
    shown = features[first : first + 8]
    ratio = shown.shape[1] / shown.shape[2]
    figure, axis, places = tiles(len(shown), 4, 2.35, ratio, over=0.14)
    for channel, (values, place) in enumerate(zip(shown, places), start=first):
        reach = largest([np.abs(values)]) or 1.0
        axis.imshow(values, SIGNED, vmin=-reach, vmax=reach, extent=place)
        text = in_words(values, f"to ±{reach:.1f}")
        words_over(axis, place, f"channel {channel}, {text}", fontsize=9)
    return figure


def principal_colours(features: np.ndarray) -> np.ndarray:
    """(channel, height, width) as a picture, uint8 (height, width, 3), whose red, green and blue
    are the three directions in which places differ most: like colours, like features. Places
    with a number that is not finite are grey."""
    channel, height, width = features.shape
    places = features.reshape(channel, -1).T.astype(np.float64)
    finite = np.isfinite(places).all(axis=1, keepdims=True)
    places = np.where(finite, places, 0)
    places = places - places.mean(axis=0)
    _, _, directions = np.linalg.svd(places, full_matrices=False)
    along = places @ directions[:3].T
    along = np.pad(along, ((0, 0), (0, 3 - along.shape[1])))  # a place or two differ in fewer
    low, high = np.percentile(along, (1, 99), axis=0)
    scaled = np.clip((along - low) / np.maximum(high - low, 1e-12), 0, 1)
    colours = (scaled * 255).astype(np.uint8)
    return np.where(finite, colours, STRIPES[0]).reshape(height, width, 3)


def reach_grid(
    maps: Mapping[str, np.ndarray],
    sides: Mapping[str, int],
    pixel: tuple[int, int],
    size: tuple[int, int],
) -> Picture:
    """How far a change at one latent pixel went: log scale, over the latents' (height, width).

    maps: name -> (height, width). sides: how far convolutions alone can carry it, framed.
    """
    figure, axes = panels(len(maps), 4, 2.35, top=0.45)
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
