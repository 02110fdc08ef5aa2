"""Pictures of a run: its steps, its tokens, its word maps beside the truth, what it costs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from einops import rearrange
from matplotlib import colormaps

from ..recording.heatmaps import resize
from .colours import ATTENTION, STAGE_COLOURS, colour_of
from .features import SIGNED
from .lost import in_words, largest
from .plots import Picture, Place, draw_map, entitle, shrunk, tiles, words_over
from .words import headline, name_ticks, shown

HIT, MISS = ("o", "#5fe05f"), ("x", "black")  # a ring, a cross: told apart without colour as well
INK, PALE = "0.15", "0.6"  # of curves that belong to no stage


def step_view(
    latents: np.ndarray, preview: np.ndarray, kept: Sequence[float], step: int, title: str = ""
) -> Picture:
    """One step: the latents' four channels, the picture they are taken for, and how noisy they are.

    latents: (channel, height, width); preview: uint8 (height, width, 3); kept: of each step the
    share of the variance that is picture (the scheduler's alphas_cumprod).
    """
    figure = Picture(figsize=(8.6, 3.0))
    headline(figure, title, fontsize=12)
    # Fixed places: finding them anew would double the time of a redraw.
    places = (0.01, 0.03, 0.29, 0.77), (0.32, 0.03, 0.29, 0.77), (0.66, 0.16, 0.32, 0.64)
    left, middle, right = map(figure.add_axes, places)
    four = rearrange(latents, "(row column) y x -> (row y) (column x)", row=2)
    left.imshow(four, SIGNED, vmin=-3, vmax=3)
    left.axhline(four.shape[0] / 2 - 0.5, color="white", linewidth=3)
    left.axvline(four.shape[1] / 2 - 0.5, color="white", linewidth=3)
    entitle(left, "the latents' four channels", fontsize=10)
    middle.imshow(preview)
    entitle(middle, "taken for this picture", fontsize=10)
    for axis in (left, middle):
        axis.set_axis_off()
    _levels(right, np.asarray(kept), step)
    return figure


def _levels(axis, kept: np.ndarray, step: int) -> None:
    """How much picture and how much noise each step's latents are made of; a dot at one step."""
    for values, name, colour in ((np.sqrt(kept), "a", INK), (np.sqrt(1 - kept), "b", PALE)):
        axis.plot(values, color=colour, label=name)
        axis.plot(step, values[step], "o", color=colour)
    axis.axvline(step, color="0.8", zorder=0)
    axis.set(xlabel="step", ylim=(-0.05, 1.15), xticks=range(0, len(kept), 1 + len(kept) // 12))
    entitle(axis, "latents = a · picture + b · noise", fontsize=10)
    axis.legend(fontsize=9, ncols=2, frameon=False, loc="upper center")


def spreads(values: Mapping[str, np.ndarray], colour: str, title: str = "") -> Picture:
    """How often each value occurs, one row for each name, all on one scale."""
    figure = Picture(figsize=(8.5, 1.3 * len(values) + 0.8))
    figure.set_layout_engine("constrained")
    headline(figure, title, fontsize=12)
    everything = np.concatenate([numbers.ravel() for numbers in values.values()])
    low, high = np.percentile(everything, (0.2, 99.8))
    edges = np.linspace(low, high, 90)
    rows = figure.subplots(len(values), 1, sharex=True, squeeze=False).ravel()
    for axis, (name, numbers) in zip(rows, values.items()):
        axis.hist(numbers.ravel(), edges, color=colour)
        axis.axvline(0, color="0.4", linewidth=0.8)
        text = shown(f"{name}\nmean {numbers.mean():.2f}\nstd {numbers.std():.2f}")
        style = dict(ha="right", va="top", fontsize=9, parse_math=False)
        axis.text(0.99, 0.9, text, transform=axis.transAxes, **style)
        axis.set_yticks([])
    rows[-1].set_xlabel("value")
    return figure


def token_bars(tokens: Sequence[str], shares: Sequence[float], title: str = "") -> Picture:
    """The share of attention that each token gets; the padding after them is one bar."""
    values = np.asarray(shares, dtype=float)
    padding = len(values) - len(tokens)
    heights = [*values[: len(tokens)], values[len(tokens) :].sum()]
    names = [token.replace("</w>", "") for token in tokens] + [f"{padding} x padding"]
    figure = Picture(figsize=(max(7.0, 0.75 * len(names)), 3.4))
    figure.set_layout_engine("constrained")
    axis = figure.subplots()
    bars = axis.bar(range(len(names)), heights, color=colormaps[ATTENTION](0.62))
    axis.bar_label(bars, [f"{height:.1%}" for height in heights], fontsize=9)
    name_ticks(axis.xaxis, names, rotation=30, ha="right")
    axis.set_ylabel("share of attention")
    axis.set_ylim(0, 1.12 * max(heights))
    entitle(axis, title, fontsize=12)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def map_grid(
    image: np.ndarray,
    maps: Sequence[np.ndarray],
    titles: Sequence[str],
    *,
    title: str = "",
    columns: int = 6,
    truths: Sequence[np.ndarray] | None = None,
    same_scale: bool = False,
    side: float = 2.6,
) -> Picture:
    """Small maps over the picture, each with its largest value, or all on one scale.

    truths: masks, bool (height, width) of the image: outlined, with a sign where the map points.
    side: the most inches that a map is wide.
    """
    side = min(side, 10.2 / min(columns, len(maps)))
    lines = 2 + max(text.count("\n") for text in titles)
    image = shrunk(image)
    figure, axis, places = tiles(
        len(maps), columns, side, image.shape[0] / image.shape[1],
        over=(0.15 * lines + 0.04) / side, head=0.3 / side * bool(title),
    )  # fmt: skip
    high = 1 - 0.06 / figure.get_figheight()
    headline(figure, title, y=high, va="top", fontsize=12)
    top = largest(maps)
    for index, (place, values) in enumerate(zip(places, maps)):
        peak = largest([values])
        draw_map(axis, image, values, top if same_scale else peak, place)
        words_over(
            axis, place, f"{titles[index]}\n{in_words(values, f'max {peak:.3f}')}", fontsize=9
        )
        if truths is not None:
            _truth(axis, place, np.asarray(values), truths[index])
    return figure


def _truth(axis, place: Place, values: np.ndarray, mask: np.ndarray) -> None:
    """The outline of a mask, and where the map is largest: a ring if inside, else a cross."""
    (left, right, lower, upper), (height, width) = place, mask.shape

    def across(x):
        return left + (x + 0.5) / width * (right - left)

    def down(y):
        return upper + (y + 0.5) / height * (lower - upper)

    thin = slice(None, None, max(1, height // 128))  # an outline of thousands of corners takes long
    columns, rows = across(np.arange(width)[thin]), down(np.arange(height)[thin])
    outline = mask[thin, thin].astype(float)
    axis.contour(columns, rows, outline, [0.5], colors="white", linewidths=1.2)
    whole = resize(torch.as_tensor(values).float(), mask.shape)
    y, x = divmod(int(whole.argmax()), width)
    marker, colour = HIT if mask[y, x] else MISS
    sign = dict(marker=marker, fillstyle="none", clip_on=False, zorder=5)  # whole, also at an edge
    axis.plot(across(x), down(y), color="white", markersize=12, markeredgewidth=5, **sign)
    axis.plot(across(x), down(y), color=colour, markersize=12, markeredgewidth=2.5, **sign)


def picture_strip(images: Sequence[np.ndarray], titles: Sequence[str]) -> Picture:
    """A row of small pictures, uint8 (height, width, 3), with a line of text over each."""
    figure = Picture(figsize=(1.6 * len(images), 1.9))
    figure.set_layout_engine("constrained")
    for axis, image, text in zip(figure.subplots(1, len(images), squeeze=False)[0], images, titles):
        axis.imshow(image)
        entitle(axis, text, fontsize=9)
        axis.set_axis_off()
    return figure


def layer_bars(
    names: Sequence[str],
    values: Sequence[float],
    title: str,
    label: str,
    *,
    chance: float | None = None,
    log: bool = False,
) -> Picture:
    """One bar for each layer, from the first down, in the colour of its stage.

    On a log scale a dot instead: a bar would begin nowhere in particular.
    """
    figure = Picture(figsize=(9.2, 0.27 * len(names) + 1.2))
    figure.set_layout_engine("constrained")
    axis = figure.subplots()
    colours = [colour_of(name) if "block" in name else "0.35" for name in names]
    if log:
        axis.scatter(values, range(len(names)), color=colours, s=70, zorder=2)
        axis.set_xscale("log")
        axis.grid(color="0.9")
    else:
        axis.barh(range(len(names)), values, color=colours)
    name_ticks(axis.yaxis, [name.partition(".transformer")[0] for name in names])
    axis.tick_params(axis="y", labelsize=9)
    axis.invert_yaxis()
    if chance is not None:
        axis.axvline(chance, color="0.2", linestyle="--", label=f"chance {chance:.2f}")
        figure.legend(fontsize=9, loc="outside lower right")
    axis.set_xlabel(label)
    entitle(axis, title, fontsize=12)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def stage_bars(models: Mapping[str, Mapping[str, float]], title: str, unit: str) -> Picture:
    """For each model a bar, made of its stages: `models[name][stage]` in one unit."""
    figure = Picture(figsize=(9.2, 0.55 * len(models) + 1.4))
    figure.set_layout_engine("constrained")
    axis = figure.subplots()
    drawn: dict[str, Any] = {}
    for row, stages in enumerate(models.values()):
        start = 0.0
        for stage, value in stages.items():
            if not value:
                continue
            drawn[stage] = axis.barh(
                row, value, left=start, color=STAGE_COLOURS[stage], label=stage
            )
            start += value
        axis.text(start, row, f" {start:,.0f}", va="center", fontsize=10)
    name_ticks(axis.yaxis, list(models), fontsize=11)
    axis.invert_yaxis()
    axis.set_xlim(0, 1.12 * max(sum(stages.values()) for stages in models.values()))
    axis.set_xlabel(unit)
    entitle(axis, title, fontsize=12)
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(drawn.values(), drawn.keys(), loc="outside lower center", ncols=7, fontsize=9)
    return figure
