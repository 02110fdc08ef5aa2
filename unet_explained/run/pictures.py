"""Pictures as people have them: a file's name, an Image, or what numpy reads."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SHOWN = (), (3,), (4,)  # channels of a picture, behind its height and width


def as_image(picture: Any) -> Image.Image:
    """One picture in RGB, of a file's name, an Image, or what numpy reads: (height, width) and
    channels behind, whole numbers to 255 or broken ones to 1; also alone in a list, as pipelines
    give it. ValueError for anything else."""
    match picture:
        case [Image.Image() as only]:
            picture = only
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
