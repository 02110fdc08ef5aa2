"""Feature maps, pictures and differences side by side."""

from collections.abc import Sequence

import numpy as np

from .plots import Picture, entitle, grid

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
    figure.suptitle(title, fontsize=12, parse_math=False)
    signed = any(each.min() < 0 for each in maps)
    top = max(np.abs(each).max() for each in maps)
    for index, (axis, values) in enumerate(zip(axes, maps)):
        reach = max(top if same_scale else np.abs(values).max(), 1e-12)
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
    figure.suptitle(title, fontsize=12, parse_math=False)
    for axis, image, text in zip(axes, images, titles):
        axis.imshow(image)
        entitle(axis, text, fontsize=10, y=-0.13)
    return figure
