"""Pictures of any kind in, PNG files out, in memory: what a page or a notebook is sent."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

DPI = 96
SHOWN = (), (3,), (4,)  # channels of a picture, behind its height and width


def figure_png(figure: Figure) -> bytes:
    """In the file format's quickest way: a little larger, in half the time."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI, pil_kwargs={"compress_level": 1})
    return file.getvalue()


def image_png(image: Image.Image) -> bytes:
    """With the format's usual compression."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def as_image(picture: Any) -> Image.Image:
    """One picture in RGB, of a file's name, an Image, or what numpy reads: (height, width) and
    channels behind, whole numbers to 255 or broken ones to 1. ValueError for anything else."""
    if isinstance(picture, str | Path):
        picture = Image.open(picture)
    if isinstance(picture, Image.Image):
        return picture.convert("RGB")
    values = np.asarray(picture)
    if values.dtype.kind not in "uif" or values.ndim not in (2, 3) or values.shape[2:] not in SHOWN:
        raise ValueError(
            f"image: expected one picture, (height, width, 3), got a {type(picture).__name__} of "
            f"shape {values.shape}; of several, pass one"
        )
    if values.dtype.kind == "f":
        values = (255 * values.clip(0, 1)).round()
    return Image.fromarray(values.astype(np.uint8)).convert("RGB")


def thumbnail(image: Image.Image, side: int) -> Image.Image:
    """A copy, no wider or higher than `side` pixels."""
    small = image.copy()
    small.thumbnail((side, side))
    return small
