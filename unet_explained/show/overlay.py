"""A map laid over a picture: its colours over the picture in grey, what is not finite striped."""

import numpy as np
from PIL import Image

from .colours import ALPHA, ATTENTION, BLACK
from .lost import FINE, striped

GREY = 128  # of 255: what maps lie over where there is no picture

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


def shrunk(image: np.ndarray) -> np.ndarray:
    """A picture for a panel of some 300 pixels; matplotlib would take long to shrink it itself."""
    return np.asarray(Image.fromarray(image).reduce(max(1, max(image.shape[:2]) // 256)))
