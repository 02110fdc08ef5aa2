"""Still pictures: arrays in, Figure out; the functions that take a Run are adapters over these."""

import io
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from PIL import Image

from ..recording import Recording
from ..run.pictures import as_image
from ..writing import write_file
from .colours import ALPHA, ATTENTION, BLACK
from .files import picture_format
from .lost import FINE, in_words, largest, striped
from .words import headline, shown

GREY = 128  # of 255: what maps lie over where there is no picture


class Picture(Figure):
    """A Figure that a notebook shows by itself, with no pyplot and no state shared by threads."""

    def _repr_png_(self) -> bytes:
        png = io.BytesIO()
        self.savefig(png, format="png", dpi=96, bbox_inches="tight")
        return png.getvalue()

    def savefig(self, fname, *, format: str | None = None, **options) -> None:
        """As matplotlib's; into a file it is written aside and renamed. Errors as write_file."""
        if not isinstance(fname, str | os.PathLike):
            return super().savefig(fname, format=format, **options)
        path = Path(fname)
        if format is None and not path.suffix:
            path = Path(f"{path}.{rcParams['savefig.format']}")
        kind, content = picture_format(path) if format is None else format, io.BytesIO()
        super().savefig(content, format=kind, **options)
        write_file(path, content.getvalue())


def plot_heatmaps(run, recording, /, *, same_scale: bool = True, **where) -> Picture:
    """The picture and one map for each word of its prompt.

    run: a Run, or a picture that PIL or numpy reads; then its words are the record's.
    same_scale: one scale for all words, so that strong words look strong; else each word its own.
    where: layer=, head=, step=, run=, picture= and half= as for Recording.attention; of several
    recorded runs a Run finds itself.
    """
    if not isinstance(recording, Recording):
        kind = "None" if recording is None else f"a {type(recording).__name__}"
        raise TypeError(f"expected a Recording, which `with record(...) as rec` gives, got {kind}")
    own = getattr(run, "recording", None)
    origins = [recorded.origin for recorded in recording.runs]
    if own and own.runs[0].origin in origins:
        where = {"run": origins.index(own.runs[0].origin)} | where
    text, maps = recorded_text(recording, where), word_maps(recording, **where)
    if not maps:
        raise ValueError(f"the prompt {text.text!r} has no words that maps could be of")
    seen = np.asarray(as_image(getattr(run, "image", run)))  # of a Run it is decoded only now
    return heatmap_grid(seen, text.words, maps, title=text.text, same_scale=same_scale)


def word_maps(recording, **where) -> list[np.ndarray]:
    """One map for each word of a recorded prompt; of a repeated word, one for each occurrence.

    where: as for Recording.attention.
    """
    text = recorded_text(recording, where)
    return [
        recording.attention(word, occurrence=text.words[:index].count(word), **where).cpu().numpy()
        for index, word in enumerate(text.words)
    ]


def recorded_text(recording, where: dict):
    """The text that a choice of Recording.attention speaks of."""
    return recording.text(**{key: where[key] for key in ("run", "half", "picture") if key in where})


def heatmap_grid(
    image: np.ndarray | None,
    titles: Sequence[str],
    maps: Sequence[np.ndarray],
    *,
    title: str = "",
    same_scale: bool = True,
) -> Picture:
    """A picture, uint8 (height, width, 3), and maps, float (height, width), laid over it in grey.

    The number under a map is its largest weight: what the colour bar's end stands for. Without a
    picture the maps alone are drawn, over a plain grey. What is not finite is striped, and said.
    """
    seen = np.full((*maps[0].shape, 3), GREY, np.uint8) if image is None else image
    panel = 2.3, 2.3 * seen.shape[0] / seen.shape[1] + 0.45
    first = int(image is not None)
    figure, axes = grid(len(maps) + first, 5, panel, beside=0.6, above=0.5)
    headline(figure, f"“{title}”" if title else "", fontsize=13)
    if image is not None:
        axes[0].imshow(image)
        entitle(axes[0], "the picture", fontsize=11, style="italic")

    top = largest(maps)
    for axis, name, values in zip(axes[first:], titles, maps):
        draw_map(axis, seen, values, top if same_scale else largest([values]))
        entitle(axis, name, fontsize=12, fontweight="bold")
        axis.text(
            0.5, -0.02, in_words(values, f"max {values.max():.3f}"),
            transform=axis.transAxes, ha="center", va="top", fontsize=8, color="0.35",
        )  # fmt: skip
    scale = ScalarMappable(Normalize(0, (top if same_scale else 0) or 1), ATTENTION)
    label = "attention to the word" if same_scale else "attention, share of each map's maximum"
    figure.colorbar(scale, ax=axes, shrink=0.6, pad=0.01).set_label(label, fontsize=9)
    return figure


def grid(
    count: int, columns: int, panel: tuple[float, float], *, beside: float = 0, above: float = 0
) -> tuple[Picture, list[Axes]]:
    """A figure and at least `count` axes without frames, line after line, for matplotlib to place.

    panel: one axis's width and height in inches; beside, above: more room, for what belongs to all.
    """
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    figure = Picture(figsize=(panel[0] * columns + beside, panel[1] * rows + above))
    figure.set_layout_engine("compressed")
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for axis in axes:
        axis.set_axis_off()
    return figure, axes


def panels(count: int, columns: int, side: float, top: float = 0.3) -> tuple[Picture, list[Axes]]:
    """Square panels at fixed places: finding a layout would take longer than drawing."""
    figure, axes = grid(count, columns, (side, side + top))
    figure.set_layout_engine(None)
    figure.subplots_adjust(0.01, 0.01, 0.99, 1 - top / figure.get_figheight(), 0.04, top / side)
    return figure, axes[:count]


Place = tuple[float, float, float, float]  # left, right, bottom, top: matplotlib's extent


def draw_map(
    axis, image: np.ndarray, values: np.ndarray, top: float, place: Place | None = None
) -> None:
    """One map over the picture in grey: the colour from 0 to top, both stretched to one size.

    place: where on the axis, by default a unit for each of the image's pixels.
    """
    height, width = image.shape[:2]
    place = place or (0, width, height, 0)
    axis.imshow(image.mean(axis=2), cmap="gray", vmin=BLACK, vmax=255, extent=place)
    axis.imshow(
        values, cmap=ATTENTION, vmin=0, vmax=top or 1, alpha=ALPHA, extent=place,
        interpolation="bilinear",
    )  # fmt: skip
    if (lost := ~np.isfinite(values)).any():
        times = max(1, FINE // max(values.shape))
        axis.imshow(striped(lost, times), extent=place, interpolation="nearest")


def tiles(
    count: int, columns: int, side: float, ratio: float, *, over: float, head: float = 0.0
) -> tuple[Picture, Axes, list[Place]]:
    """A figure with one axis and the places of `count` panels on it, a unit wide with their margin.

    An axis for each would take three times as long to draw, and to find a layout as long again.
    side: a panel's width in inches; ratio: its height by its width; over and head: what is left
    free over each panel and over all, for words, in panel widths.
    """
    columns = min(columns, count)
    tall, rows = ratio + over, math.ceil(count / columns)
    height = head + tall * rows
    figure = Picture(figsize=(side * columns, side * height))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set_axis_off()
    axis.set(xlim=(0, columns), ylim=(height, 0))
    places = []
    for index in range(count):
        row, column = divmod(index, columns)
        upper = head + row * tall + over
        places.append((column + 0.02, column + 0.98, upper + 0.96 * ratio, upper))
    return figure, axis, places


def words_over(axis, place: Place, text: str, **style) -> None:
    """Words over a panel of `tiles`. style: as for Axes.text."""
    left, right, _, upper = place
    style = dict(ha="center", va="bottom", parse_math=False) | style
    axis.text((left + right) / 2, upper - 0.03, shown(text), **style)


def shrunk(image: np.ndarray) -> np.ndarray:
    """A picture for a panel of some 300 pixels; matplotlib would take long to shrink it itself."""
    return np.asarray(Image.fromarray(image).reduce(max(1, max(image.shape[:2]) // 256)))


def entitle(axis, text: str, *, y: float = 1.0, **style) -> None:
    """A title, shown as it is written, dollar signs too. style: as for Axes.set_title.

    Its place is fixed: to look for one, matplotlib would make all ticks, even those nobody sees.
    """
    axis.set_title(shown(text), y=y, parse_math=False, **style)
