"""Before and after a change, side by side; and how large each of several changes is."""

from collections.abc import Mapping, Sequence

import numpy as np

from .features import SIGNED
from .plots import Picture, entitle
from .words import headline, name_ticks


def change_row(
    maps: Sequence[np.ndarray], images: Sequence[np.ndarray], *, share: float, title: str = ""
) -> Picture:
    """The prediction before and after, their difference; then the picture before and after.

    maps: two (height, width) of one channel; images: two of uint8 (height, width, 3).
    share: the size of the change in all channels, written over the difference.
    """
    figure = Picture(figsize=(11.6, 2.75))
    headline(figure, title, fontsize=12, y=0.99)
    axes = figure.subplots(1, 5)
    # Set by hand: a layout engine takes longer than the drawing, and this is drawn while one waits.
    figure.subplots_adjust(left=0.005, right=0.995, bottom=0.01, top=0.84, wspace=0.04)
    before, after = maps
    reach = np.abs(before).max()
    difference = after - before
    greatest = max(np.abs(difference).max(), 1e-12)
    panels = (
        (before, reach, "the prediction"),
        (after, reach, "after the change"),
        (difference, greatest, f"difference: {percent(share)}"),
    )
    for axis, (values, limit, name) in zip(axes, panels):
        axis.imshow(values, SIGNED, vmin=-limit, vmax=limit)
        entitle(axis, name, fontsize=10)
    for axis, image, name in zip(axes[3:], images, ("the picture", "after the change")):
        axis.imshow(image)
        entitle(axis, name, fontsize=10)
    for axis in axes:
        axis.set_axis_off()
    return figure


def change_bars(
    shares: Mapping[str, float], colour: str, *, title: str = "", log: bool = False
) -> Picture:
    """A bar for each change, as long as its share of what was changed; log: on a log scale."""
    names, values = list(shares), list(shares.values())
    figure = Picture(figsize=(9.0, 0.3 * len(names) + 1.1))
    figure.set_layout_engine("compressed")
    axis = figure.subplots()
    entitle(axis, title, fontsize=12)
    bars = axis.barh(range(len(names)), values, color=colour, height=0.7)
    name_ticks(axis.yaxis, names)
    axis.bar_label(bars, [percent(value) for value in values], padding=4, fontsize=9)
    axis.invert_yaxis()  # the first on top
    if log:
        axis.set_xscale("log")
        axis.set_xlim(min(v for v in values if v > 0) / 2, max(values) * 6)
    else:
        axis.set_xlim(0, max([*values, 1e-12]) * 1.15)
    axis.set_xlabel("change of the prediction, as a share of it")
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
    return figure


def percent(share: float) -> str:
    """0.123 as 12 %, 0.00012 as 0.012 %."""
    return f"{100 * share:.0f} %" if share >= 0.0995 else f"{100 * share:.2g} %"
