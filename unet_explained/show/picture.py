"""A matplotlib Figure of this package's: shows itself in a notebook, and is saved safely."""

import io
import os
from pathlib import Path

from matplotlib import rcParams
from matplotlib.figure import Figure

from ..writing import write_file
from .files import picture_format


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
