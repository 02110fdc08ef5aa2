"""Features: maps of channels side by side, many channels at once, and how their values spread."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm

from .colours import POSITIVE, SIGNED, STAGE_COLOURS
from .lost import STRIPES, in_words, largest
from .panels import GAP, Panels
from .picture import Picture, chart
from .words import entitle, headline, shown


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
    side, ratio = min(2.3, 9.6 / min(columns, len(maps)) - GAP), maps[0].shape[0] / maps[0].shape[1]
    titles = [*titles, *[""] * len(maps)][: len(maps)]
    panels = Panels(titles, columns, side, ratio, title=title, beside=0.8 * bar)
    signed = any(values.min() < 0 for values in maps)
    top = largest(np.abs(values) for values in maps)
    for index, values in enumerate(maps):
        reach = max(top if same_scale else largest([np.abs(values)]), 1e-12)
        colours, low = (SIGNED, -reach) if signed else (POSITIVE, 0)
        drawn = panels.values(index, values, colours, low, reach)
    if bar:
        panels.colour_bar(drawn)
    return panels.figure


def channels(features: np.ndarray, first: int = 0) -> Picture:
    """Eight feature maps of (channel, height, width), `first` and on: red above 0, blue below.

    Each on its own scale, whose end stands above it.
    """
    chosen = features[first : first + 8]
    tops = [largest([np.abs(values)]) or 1.0 for values in chosen]
    titles = [
        f"channel {channel}, {in_words(values, f'to ±{top:.1f}')}"
        for channel, (values, top) in enumerate(zip(chosen, tops), first)
    ]
    panels = Panels(titles, 4, 2.25, chosen.shape[1] / chosen.shape[2], size=9)
    for index, (values, top) in enumerate(zip(chosen, tops)):
        panels.values(index, values, SIGNED, -top, top)
    return panels.figure


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
    titles = [f"{name}\n{values.shape[0]} x {values.shape[1]}" for name, values in maps.items()]
    panels = Panels(titles, 4, 2.25, size[0] / size[1], size=8.5, beside=0.9)
    for index, (name, values) in enumerate(maps.items()):
        exponent = np.log10(np.maximum(values / max(values.max(), 1e-30), 1e-6))
        panels.values(index, exponent, POSITIVE, -5, 0)
        if name in sides:
            panels.frame(index, pixel, size, sides[name], "white")
    label = "change, as a share of the greatest on each map"
    panels.colour_bar(ScalarMappable(LogNorm(1e-5, 1), POSITIVE), label)
    return panels.figure


def walk_view(stations: Mapping[str, np.ndarray]) -> Picture:
    """Feature maps (height, width) in the order in which they came about, each on its own scale."""
    height, width = next(iter(stations.values())).shape
    panels = Panels(list(stations), 5, 1.65, height / width, size=11, gap=0.24)
    for index, values in enumerate(stations.values()):
        reach = max(np.abs(values).max(), 1e-12)
        panels.values(index, values, SIGNED, -reach, reach)
        if index + 1 < len(stations):
            panels.arrow(index)
    return panels.figure


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


def channel_spread(stages: Mapping[str, np.ndarray], groups: int) -> Picture:
    """Features (channel, height, width) under a title each: mean and spread of every channel.

    A dot is a channel's mean, its bar one standard deviation up and down; a line a group's mean.
    """
    figure = Picture(figsize=(9.6, 3.1))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(1, len(stages), squeeze=False, sharey=True)[0]
    for axis, (title, values) in zip(axes, stages.items()):
        count, wide = len(values), len(values) / groups
        flat = values.reshape(count, -1)
        axis.errorbar(
            range(count), flat.mean(1), flat.std(1), fmt="o", markersize=3, linewidth=1,
            color=STAGE_COLOURS["pre-process"], ecolor="0.55",
        )  # fmt: skip
        for group, mean in enumerate(values.reshape(groups, -1).mean(1)):
            sides = group * wide - 0.5, (group + 1) * wide - 0.5
            axis.axvspan(*sides, color="0.92" if group % 2 else "white", zorder=0)
            axis.plot(sides, (mean, mean), color=STAGE_COLOURS["post-process"], linewidth=1.5)
        axis.axhline(0, color="0.3", linewidth=0.8)
        axis.set(xlim=(-0.5, count - 0.5), xlabel="channel")
        entitle(axis, title, fontsize=10)
    return figure


def activation_curve(inputs: np.ndarray, function, name: str) -> Picture:
    """An activation over the range of the values that it is given, and how many there are."""
    figure, axis = chart(5.6, 3)
    low, high = np.percentile(inputs, (0.1, 99.9))
    xs = np.linspace(min(low, -4), max(high, 4), 200, dtype=np.float32)
    many = axis.twinx()
    many.hist(inputs.ravel(), bins=80, range=(xs[0], xs[-1]), color="0.85")
    many.set(yticks=[])
    axis.set_zorder(many.get_zorder() + 1)
    axis.patch.set_visible(False)
    colour = STAGE_COLOURS["pre-process"]
    axis.plot(xs, function(xs), color=colour, linewidth=2.5, label=shown(name))
    axis.plot(xs, xs, color="0.5", linewidth=1, linestyle=":", label="unchanged")
    axis.set(xlabel="what comes in (grey: how often)", ylabel="what goes out")
    for text in axis.legend(fontsize=9).get_texts():
        text.set_parse_math(False)
    return figure
