"""Time, as pictures: sinusoids, how alike timesteps are, and what a timestep does to a feature.

What a control redraws has fixed places: finding them anew would double the time of a redraw.
"""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np

from .colours import SIGNED, STAGE_COLOURS
from .panels import Panels
from .picture import Picture, chart
from .words import entitle

SHADES = ("#3c096c", "#7b2cbf", "#9b5de5", "#c08ad9", "#e0b0e8")  # of time's colour, dark to light
ACTUAL = STAGE_COLOURS["post-process"]
MOMENT: dict[str, Any] = {"color": ACTUAL, "markersize": 6}


def over_time(values: np.ndarray, timesteps: Sequence[float], *, title: str = "") -> Picture:
    """values (timestep, channel) as a heatmap, time from left to right: red above 0, blue below."""
    figure, axis = chart(9.2, 3.6, title)
    reach = max(np.abs(values).max(), 1e-12)
    extent = (timesteps[0], timesteps[-1], values.shape[1], 0)
    drawn = axis.imshow(
        values.T, SIGNED, vmin=-reach, vmax=reach, extent=extent, aspect="auto",
        interpolation="nearest",
    )  # fmt: skip
    axis.set(xlabel="timestep t", ylabel="channel")
    figure.colorbar(drawn, ax=axis, pad=0.01)
    return figure


def waves_at(waves: np.ndarray, t: int, channels: Sequence[int]) -> Picture:
    """waves (timestep, channel): some channels as curves over t, and all of them at one t."""
    figure = Picture(figsize=(9.2, 5.6))
    upper = figure.add_axes((0.06, 0.47, 0.92, 0.48))  # one axis: five take half as long again
    last = figure.add_axes((0.06, 0.09, 0.92, 0.24))
    heights = -2.5 * np.arange(len(channels))
    for height, channel, colour in zip(heights, channels, cycle(SHADES)):
        upper.plot(waves[:, channel] + height, color=colour, linewidth=1.2)
    upper.plot([t] * len(heights), waves[t, list(channels)] + heights, "o", **MOMENT)
    upper.axvline(t, color=ACTUAL, linewidth=1)
    upper.hlines(heights[1:] + 1.25, 0, len(waves) - 1, color="0.8", linewidth=0.8)
    upper.set(xlim=(0, len(waves) - 1), ylim=(heights[-1] - 1.25, 1.25))
    upper.set_yticks(heights, map(str, channels))
    for tick, colour in zip(upper.get_yticklabels(), cycle(SHADES)):
        tick.set_color(colour)
    upper.set_xticks([0, 250, 500, 750, 999])
    upper.set_xlabel("timestep t", labelpad=1)
    entitle(upper, "some channels, over time", fontsize=10, loc="left")

    count = waves.shape[1]
    last.plot(waves[t], color=STAGE_COLOURS["time"], linewidth=1.2)
    last.plot(channels, waves[t, list(channels)], "o", **MOMENT)
    last.axvline(count / 2 - 0.5, color="0.6", linestyle=":")
    last.set(xlim=(0, count - 1), ylim=(-1.8, 1.25), yticks=(-1, 0, 1), xlabel="channel")
    entitle(last, f"all {count} channels, at t = {t}", fontsize=10, loc="left")
    for place, name in ((0.25, "cosines"), (0.75, "sines")):
        last.text(place, 0.03, name, transform=last.transAxes, ha="center", color="0.4")
    return figure


def alike_at(matrices: Mapping[str, np.ndarray], timesteps: Sequence[int], t: int) -> Picture:
    """Square matrices of likeness between timesteps, each under its title; and the row of one t."""
    figure = Picture(figsize=(9.2, 6))
    curves = figure.add_axes((0.08, 0.08, 0.9, 0.28))
    low = min(0.0, *(float(matrix.min()) for matrix in matrices.values()))
    first, last, index = timesteps[0], timesteps[-1], list(timesteps).index(t)
    few = (first, timesteps[len(timesteps) // 2], last)  # most of a redraw's time goes into ticks
    for column, (title, matrix) in enumerate(matrices.items()):
        axis = figure.add_axes((0.08 + 0.39 * column, 0.49, 0.32, 0.45))
        sides = (first, last, last, first)
        axis.imshow(matrix, SIGNED, vmin=-1, vmax=1, extent=sides, interpolation="nearest")
        axis.axhline(t, color="black", linewidth=1)
        axis.set(xlabel="timestep", xticks=few, yticks=() if column else few)
        axis.set_ylabel("" if column else "timestep")
        entitle(axis, title, fontsize=11)
        colour = (STAGE_COLOURS["input"], STAGE_COLOURS["time"])[column % 2]
        curves.plot(timesteps, matrix[index], color=colour, linewidth=2, label=title)
    key = "cosine similarity:\nred 1, white 0, blue -1"
    figure.text(0.985, 0.94, key, ha="right", va="top", fontsize=9)
    curves.axvline(t, color="black", linewidth=1)
    curves.set(xlabel="timestep", xticks=few, yticks=(-1, 0, 1))
    curves.set(xlim=(first, last), ylim=(low - 0.05, 1.05))
    curves.set_ylabel(f"similarity to t = {t}")
    for text in curves.legend(loc="lower left", fontsize=9).get_texts():
        text.set_parse_math(False)
    return figure


def told_and_true(errors: Mapping[int, Sequence[float]], told: Sequence[int]) -> Picture:
    """For each true timestep, how far off the guess is when the network is told another."""
    figure, axis = chart(7.4, 3.4)
    for (true, values), colour in zip(errors.items(), SHADES[::2], strict=False):
        axis.plot(told, values, "o-", color=colour, label=f"the noise of t = {true}")
        axis.axvline(true, color=colour, linestyle=":")
    axis.set(xlabel="timestep that the network is told", ylim=(0, None))
    axis.set_ylabel("error of its guess\nof the clean latents")
    axis.legend(fontsize=9)
    return figure


def shift_view(
    shifts: np.ndarray, timesteps: Sequence[int], t: int, maps: Mapping[str, np.ndarray]
) -> Picture:
    """One channel's shift over time with a dot at t; and feature maps (height, width) on one scale.

    shifts (timestep,); maps: the map with the shift, and what follows, each under its title.
    """
    shift, first = shifts[list(timesteps).index(t)], next(iter(maps.values()))
    panels = Panels(list(maps), 2, 2.45, first.shape[0] / first.shape[1], beside=4.2)
    # The same at each t, or a shift would move the scale instead of the colours.
    reach = max(np.abs(first - shift).max() + np.abs(shifts).max(), 1e-12)
    for index, values in enumerate(maps.values()):
        drawn = panels.values(index, values, SIGNED, -reach, reach)
    panels.colour_bar(drawn)
    curve = panels.chart(left=1.4)
    curve.plot(timesteps, shifts, color=STAGE_COLOURS["time"], linewidth=2)
    curve.plot([t], [shift], "o", color=ACTUAL, markersize=8)
    curve.axhline(0, color="0.6", linewidth=0.8)
    curve.set(xlabel="timestep t", ylabel="shift of this channel")
    entitle(curve, f"t = {t}: {shift:+.2f}", fontsize=10)
    return panels.figure
