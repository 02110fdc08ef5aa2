"""The colours of the six stages, the same in every picture; and the colour map of attention."""

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_rgb

from ..recording.rows import stage_of

STAGE_COLOURS = {  # told apart by brightness too, and on a dark ground as on a white one
    "input": "#8d99ae",
    "time": "#9b5de5",
    "pre-process": "#5aa9e6",
    "down": "#2a9d8f",
    "mid": "#e0a100",
    "up": "#ee6c4d",
    "post-process": "#c9184a",
}
ATTENTION = "inferno"  # of a map over a picture
ALPHA = 0.78  # of that map
BLACK = -200  # the darkest of the grey picture beneath, were it black: 0 to 255 is its bright end
SIGNED, POSITIVE = "RdBu_r", "viridis"  # of values around 0; of values from 0 up
MARK = "#00e5ff"  # a pixel, a column: told apart from every colour of those maps
DARK, MUTED = "#22223b", "#6c6f7f"  # words


def colour_of(name: str) -> str:
    """The colour of the stage that a module of the UNet belongs to, by its name."""
    return STAGE_COLOURS[stage_of(name)]


def look() -> dict:
    """How a map is laid over a picture, for scripts: as draw_map does."""
    return dict(colours=table(ATTENTION), alpha=ALPHA, black=BLACK)


def table(name: str) -> list[list[int]]:
    """The 256 colours of a colour map, for scripts."""
    return colormaps[name](np.arange(256), bytes=True)[:, :3].tolist()


def ink(ground: str) -> str:
    """White or dark, whichever is read more easily on the ground."""
    red, green, blue = to_rgb(ground)
    return DARK if 0.3 * red + 0.59 * green + 0.11 * blue > 0.4 else "white"
