"""Words in pictures: shown as they are written, dollar signs too, and never longer than a line."""

import textwrap
from collections.abc import Sequence
from unicodedata import east_asian_width

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure

from ..plain import plain

LONGEST, LINES = 150, 4  # characters of a line, and lines of a text


def headline(figure: Figure, text: str, **style) -> None:
    """A title over a whole figure, shown as it is written. style: as for Figure.suptitle."""
    figure.suptitle(shown(text), parse_math=False, **style)


def entitle(axis: Axes, text: str, **style) -> None:
    """A title, shown as it is written, dollar signs too. style: as for Axes.set_title.

    Its place is fixed: to look for one, matplotlib would make all ticks, even those nobody sees.
    """
    axis.set_title(shown(text), y=1.0, parse_math=False, **style)


def wrapped(text: str, width: float, size: float) -> str:
    """A text in lines of at most so many inches, at so many points a letter."""
    wide = any(east_asian_width(letter) in "WF" for letter in text)
    letters = max(1, int(width * 72 / (size * (1.1 if wide else 0.54))))
    lines = (textwrap.wrap(line, letters) or [""] for line in shown(text).split("\n"))
    return "\n".join(line for some in lines for line in some)


def name_ticks(axis: Axis, names: Sequence[str], **style) -> None:
    """Names along figure.axes[n].xaxis or yaxis, 0 and up, as they are written."""
    axis.set_ticks(range(len(names)), [*map(shown, names)], parse_math=False, **style)


def shown(text: object) -> str:
    """A text as a picture can hold it: what no font has written out, what is too long cut off."""
    lines = [plain(line) for line in str(text).split("\n")]
    lines = [*lines[:LINES], "…"] if len(lines) > LINES else lines
    return "\n".join(f"{line[:LONGEST]}…" if len(line) > LONGEST else line for line in lines)
