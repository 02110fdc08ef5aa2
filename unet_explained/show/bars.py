"""Bars: one number for each token, layer, module, change or stage."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps

from ..recording.rows import stage_of
from .colours import ATTENTION, STAGE_COLOURS, colour_of
from .picture import Picture, chart
from .words import name_ticks


def token_bars(tokens: Sequence[str], shares: Sequence[float], title: str = "") -> Picture:
    """The share of attention that each token gets; the padding after them is one bar."""
    values = np.asarray(shares, dtype=float)
    padding = len(values) - len(tokens)
    heights = [*values[: len(tokens)], values[len(tokens) :].sum()]
    names = [token.replace("</w>", "") for token in tokens] + [f"{padding} x padding"]
    figure, axis = chart(max(7.0, 0.75 * len(names)), 3.4, title)
    bars = axis.bar(range(len(names)), heights, color=colormaps[ATTENTION](0.62))
    axis.bar_label(bars, [f"{height:.1%}" for height in heights], fontsize=9)
    name_ticks(axis.xaxis, names, rotation=30, ha="right")
    axis.set_ylabel("share of attention")
    axis.set_ylim(0, 1.12 * max(heights))
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
    figure, axis = chart(9.2, 0.27 * len(names) + 1.2, title)
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
    return figure


def stage_bars(models: Mapping[str, Mapping[str, float]], title: str, unit: str) -> Picture:
    """For each model a bar, made of its stages: `models[name][stage]` in one unit."""
    figure, axis = chart(9.2, 0.55 * len(models) + 1.4, title)
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
    figure.legend(drawn.values(), drawn.keys(), loc="outside lower center", ncols=7, fontsize=9)
    return figure


def halves_apart(names: Sequence[str], differences: Sequence[float]) -> Picture:
    """How far the two halves of the batch are apart after each module, in its stage's colour."""
    figure, axis = chart(9.6, 4.4)
    stages = [stage_of(name) for name in names]
    axis.bar(range(len(names)), differences, color=[STAGE_COLOURS[stage] for stage in stages])
    for stage in dict.fromkeys(stages):
        axis.bar([0], [0], color=STAGE_COLOURS[stage], label=stage)
    name_ticks(axis.xaxis, [_short(name) for name in names], rotation=90, fontsize=8)
    axis.set_ylabel("difference, as a share of the size")
    axis.set_xlim(-0.8, len(names) - 0.2)
    axis.legend(fontsize=9, title="stage")
    return figure


def _short(name: str) -> str:
    """down_blocks.0.attentions.1 as down 0 attention 1."""
    for long, short in (("_blocks", ""), ("_block", ""), ("attentions", "attention")):
        name = name.replace(long, short)
    return name.replace("resnets", "resnet").replace(".", " ")


def change_bars(
    shares: Mapping[str, float], colour: str, *, title: str = "", log: bool = False
) -> Picture:
    """A bar for each change, as long as its share of what was changed; log: on a log scale."""
    names, values = list(shares), list(shares.values())
    figure, axis = chart(9.0, 0.3 * len(names) + 1.1, title)
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
    axis.tick_params(axis="y", length=0)
    return figure


def percent(share: float) -> str:
    """0.123 as 12 %, 0.00012 as 0.012 %."""
    return f"{100 * share:.0f} %" if share >= 0.0995 else f"{100 * share:.2g} %"
