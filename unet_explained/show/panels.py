"""Panels: pictures and maps in lines and columns, each with words; the layout of all such figures.

All panels of a figure stand on one axis, at places that are known beforehand. An axis for each
would take three times as long to draw, and finding a layout as long again: too long for a slider.
"""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from .colours import MARK
from .overlay import Place, draw_map
from .picture import Picture
from .words import headline, shown, wrapped

# In inches, as all sizes here.
EDGE, GAP = 0.06, 0.08  # around all panels; between two of them
HEAD, HEADLINE = 0.34, 12  # for the headline of one line, and its letters, in points
BAR, TICKS = 0.13, 0.45  # a colour bar's width; room for the numbers under a chart
POINT = 1 / 72


class Panels:
    """A figure of one panel for each of `titles`, line after line, in `columns`.

    side: a panel's width; ratio: its height by its width; size: of the titles, in points; gap:
    between panels, beside: to the right of all, under: below each, for what is drawn there.
    """

    def __init__(
        self,
        titles: Sequence[str],
        columns: int,
        side: float,
        ratio: float = 1.0,
        *,
        title: str = "",
        size: float = 10,
        bold: bool = False,
        gap: float = GAP,
        under: float = 0.0,
        beside: float = 0.0,
    ) -> None:
        columns = min(columns, len(titles))
        lines = max(shown(text).count("\n") + 1 if text != "" else 0 for text in titles)
        over = lines * 1.25 * size * POINT + (0.06 if lines else 0)
        width = 2 * EDGE + columns * (side + gap) - gap + beside
        title = shown(wrapped(title, width - 2 * EDGE, HEADLINE))
        head = HEAD + title.count("\n") * 1.2 * HEADLINE * POINT if title else EDGE
        tall = over + ratio * side + under + gap
        height = head + math.ceil(len(titles) / columns) * tall + EDGE - gap
        self.figure = Picture(figsize=(width, height))
        self.axis = self.figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
        self.axis.set_axis_off()
        headline(self.figure, title, fontsize=HEADLINE, y=1 - 0.08 / height, va="top")
        self.places: list[Place] = []
        for index, text in enumerate(titles):
            row, column = divmod(index, columns)
            left, upper = EDGE + column * (side + gap), head + row * tall + over
            self.places.append((left, left + side, upper + ratio * side, upper))
            if text != "":
                self.write(index, text, fontsize=size, fontweight="bold" if bold else "normal")
        self._gap, self._beside = gap, width - beside  # where the room to the right of all begins

    def write(self, index: int, text: str, *, at: str = "center", **style) -> None:
        """Words over a panel, in its middle or from its left edge. style: as for Axes.text."""
        left, right, _, upper = self.places[index]
        x = left if at == "left" else (left + right) / 2
        self.axis.text(x, upper - 0.05, shown(text), ha=at, va="bottom", parse_math=False, **style)

    def remark(self, index: int, text: str) -> None:
        """Words under a panel, small and grey."""
        left, right, lower, _ = self.places[index]
        middle = (left + right) / 2, lower + 0.03
        self.axis.text(
            *middle, shown(text), ha="center", va="top", fontsize=8, color="0.35", parse_math=False
        )

    def picture(self, index: int, image: np.ndarray) -> None:
        """uint8 (height, width, 3)."""
        self.axis.imshow(image, extent=self.places[index])

    def values(
        self, index: int, values: np.ndarray, colours: str, low: float, high: float
    ) -> AxesImage:
        """(height, width) in a colour map from low to high."""
        place = self.places[index]
        return self.axis.imshow(values, colours, vmin=low, vmax=high, extent=place)

    def map(self, index: int, image: np.ndarray, values: np.ndarray, top: float) -> None:
        """(height, width), laid over a picture."""
        draw_map(self.axis, image, values, top, self.places[index])

    def frame(
        self,
        index: int,
        pixel: tuple[float, float],
        size: tuple[int, int],
        side: float = 1,
        colour: str = MARK,
    ) -> None:
        """A square of `side` pixels around one (row, column) of a map of that (height, width)."""
        left, right, lower, upper = self.places[index]
        wide, high = (right - left) / size[1], (lower - upper) / size[0]
        row, column = (at + 0.5 - side / 2 for at in pixel)
        corner = left + column * wide, upper + row * high
        frame = Rectangle(corner, side * wide, side * high, fill=False, color=colour, lw=1.8)
        self.axis.add_patch(frame)
        panel = Rectangle((left, upper), right - left, lower - upper, transform=self.axis.transData)
        frame.set_clip_path(panel)

    def divide(self, index: int, rows: int, columns: int, colour: str, width: float) -> None:
        """Into rows and columns, by lines of that colour and width in points."""
        left, right, lower, upper = self.places[index]
        across, down = np.linspace(upper, lower, rows + 1), np.linspace(left, right, columns + 1)
        self.axis.hlines(across[1:-1], left, right, colour, linewidth=width)
        self.axis.vlines(down[1:-1], upper, lower, colour, linewidth=width)

    def arrow(self, index: int) -> None:
        """After a panel: what stands in the next one comes of it."""
        _, right, lower, upper = self.places[index]
        middle = right + self._gap / 2, (upper + lower) / 2
        self.axis.text(*middle, "›", ha="center", va="center", fontsize=16)

    def colour_bar(self, drawn: ScalarMappable, label: str = "") -> None:
        """In the room beside."""
        upper, lower = self.places[0][3], self.places[-1][2]
        high = 0.7 * (lower - upper)
        axis = self._axes(self._beside + 0.1, (upper + lower - high) / 2, BAR, high)
        self.figure.colorbar(drawn, cax=axis).set_label(label, fontsize=9)

    def chart(self, left: float) -> Axes:
        """An axis in the room beside; left: what of it the names along its side need."""
        upper, lower, start = self.places[0][3], self.places[-1][2], self._beside + left
        width = self.figure.get_figwidth() - start - 3 * EDGE
        return self._axes(start, upper, width, lower - upper - TICKS)

    def _axes(self, x: float, y: float, width: float, height: float) -> Axes:
        """An axis of its own, by its corner above left."""
        wide, high = self.figure.get_size_inches()
        place = x / wide, 1 - (y + height) / high, width / wide, height / high
        return self.figure.add_axes(place)
