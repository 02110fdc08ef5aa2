"""What is not finite, in pictures and in words: it is striped, and never a colour of a map."""

from collections.abc import Iterable

import numpy as np

LOST = "not finite"
STRIPES = np.array([[128, 128, 128], [96, 96, 96]], np.uint8)  # greys: no colour map has them
FINE = 128  # pixels over which the stripes of a small map are drawn


def largest(maps: Iterable[np.ndarray]) -> float:
    """The end of a scale: the largest finite number of all; 0 if there is none."""
    tops = (values[np.isfinite(values)].max(initial=-np.inf) for values in maps)
    top = max(tops, default=-np.inf)
    return float(top) if np.isfinite(top) else 0.0


def in_words(values: np.ndarray, otherwise: str) -> str:
    """What to write about numbers of which some may not be finite."""
    count = int(np.size(values) - np.isfinite(values).sum())
    if count in (0, np.size(values)):
        return LOST if count else otherwise
    return f"{LOST} in {count} place{'s' * (count > 1)}"


def striped(lost: np.ndarray, times: int = 1) -> np.ndarray:
    """uint8 (height, width, 4), `times` as large: stripes where `lost` is true, else clear."""
    large = lost.repeat(times, axis=0).repeat(times, axis=1)
    rows, columns = np.indices(large.shape)
    picture = np.zeros((*large.shape, 4), np.uint8)
    picture[..., :3] = STRIPES[(rows + columns) // max(1, times * len(lost) // 32) % 2]
    picture[..., 3] = 255 * large
    return picture
