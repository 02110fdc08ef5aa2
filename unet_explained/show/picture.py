"""Figures that show themselves in a notebook and are saved safely; those of a single chart."""

import io
import os
from pathlib import Path

from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..writing import write_file
from .files import picture_format
from .words import entitle


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


def chart(width: float, height: float, title: str = "") -> tuple[Picture, Axes]:
    """A figure of that many inches with one axis, for bars or curves; it finds room for all words.

    Finding it takes as long as drawing: what a slider moves has fixed places, such as Panels has.
    """
    figure = Picture(figsize=(width, height), layout="constrained")
    axis = figure.subplots()
    entitle(axis, title, fontsize=12)
    axis.spines[["top", "right"]].set_visible(False)
    return figure, axis
