"""The colours of the six stages, the same in every picture; and the colour map of attention."""

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
ATTENTION = "inferno"
DARK, MUTED = "#22223b", "#6c6f7f"  # words


def colour_of(name: str) -> str:
    """The colour of the stage that a module of the UNet belongs to, by its name."""
    return STAGE_COLOURS[stage_of(name)]


def ink(ground: str) -> str:
    """White or dark, whichever is read more easily on the ground."""
    red, green, blue = to_rgb(ground)
    return DARK if 0.3 * red + 0.59 * green + 0.11 * blue > 0.4 else "white"
