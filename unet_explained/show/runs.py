"""A run: its pictures, one of its steps, and one forward before and after a change."""

from collections.abc import Sequence

import numpy as np
from einops import rearrange

from .bars import percent
from .colours import SIGNED
from .panels import GAP, Panels
from .picture import Picture
from .words import entitle

INK, PALE = "0.15", "0.6"  # of curves that belong to no stage


def pictures_row(
    images: Sequence[np.ndarray], titles: Sequence[str], *, title: str = "", columns: int = 4
) -> Picture:
    """Pictures, uint8 (height, width, 3), with a line of text over each."""
    side, (height, width) = min(2.5, 9.6 / min(columns, len(images)) - GAP), images[0].shape[:2]
    panels = Panels(titles, columns, side, height / width, title=title)
    for index, image in enumerate(images):
        panels.picture(index, image)
    return panels.figure


def step_view(
    latents: np.ndarray, preview: np.ndarray, kept: Sequence[float], step: int, title: str = ""
) -> Picture:
    """One step: the latents' four channels, the picture they are taken for, and how noisy they are.

    latents: (channel, height, width); preview: uint8 (height, width, 3); kept: of each step the
    share of the variance that is picture (the scheduler's alphas_cumprod).
    """
    ratio = preview.shape[0] / preview.shape[1]
    titles = ["the latents' four channels", "taken for this picture"]
    panels = Panels(titles, 2, 2.5, ratio, title=title, beside=3.4)
    four = rearrange(latents, "(row column) y x -> (row y) (column x)", row=2)
    panels.values(0, four, SIGNED, -3, 3)
    panels.divide(0, 2, 2, "white", 3)
    panels.picture(1, preview)
    _levels(panels.chart(left=0.45), np.asarray(kept), step)
    return panels.figure


def _levels(axis, kept: np.ndarray, step: int) -> None:
    """How much picture and how much noise each step's latents are made of; a dot at one step."""
    for values, name, colour in ((np.sqrt(kept), "a", INK), (np.sqrt(1 - kept), "b", PALE)):
        axis.plot(values, color=colour, label=name)
        axis.plot(step, values[step], "o", color=colour)
    axis.axvline(step, color="0.8", zorder=0)
    axis.set(xlabel="step", ylim=(-0.05, 1.15), xticks=range(0, len(kept), 1 + len(kept) // 12))
    entitle(axis, "latents = a · picture + b · noise", fontsize=10)
    axis.legend(fontsize=9, frameon=False, loc="center left")


def change_row(
    maps: Sequence[np.ndarray], images: Sequence[np.ndarray], *, share: float, title: str = ""
) -> Picture:
    """The prediction before and after, their difference; then the picture before and after.

    maps: two (height, width) of one channel; images: two of uint8 (height, width, 3).
    share: the size of the change in all channels, written over the difference.
    """
    before, after = maps
    titles = ["the prediction", "after the change", f"difference: {percent(share)}"]
    titles += ["the picture", "after the change"]
    panels = Panels(titles, 5, 2.2, before.shape[0] / before.shape[1], title=title)
    difference, reach = after - before, np.abs(before).max()
    greatest = max(np.abs(difference).max(), 1e-12)
    drawn = (before, reach), (after, reach), (difference, greatest)
    for index, (values, limit) in enumerate(drawn):
        panels.values(index, values, SIGNED, -limit, limit)
    for index, image in enumerate(images, len(drawn)):
        panels.picture(index, image)
    return panels.figure
