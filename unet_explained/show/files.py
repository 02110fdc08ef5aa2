"""What a picture's file may be named. Imports nothing heavy but matplotlib."""

from pathlib import Path

from matplotlib.backend_bases import FigureCanvasBase


def picture_format(path: Path) -> str:
    """What a file of this name holds, PNG without a suffix. ValueError for an unknown one."""
    kinds = sorted(set(FigureCanvasBase.get_supported_filetypes()) - {"pgf"})  # which takes LaTeX
    kind = path.suffix.lower().removeprefix(".") or "png"
    if kind not in kinds:
        raise ValueError(
            f"{path}: no picture can be written as {path.suffix!r}, expected one of "
            f"{', '.join(kinds)}: name it {path.with_suffix('.png')}"
        )
    return kind
