"""What diagrams are drawn with: boxes, arrows and words on an axis measured in inches."""

from matplotlib.colors import to_rgb
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Polygon

from .words import shown

DARK, MUTED = "#22223b", "#6c6f7f"


def write(axis, x: float, y: float, text: str, size: float, colour=DARK, side="center", **more):
    style = dict(fontsize=size, color=colour, ha=side, va="center", parse_math=False)
    axis.text(x, y, shown(text), **style, **more)


def box(axis, x: float, y: float, length: float, height: float, fill, text: str, edge) -> None:
    """From x to the right, y its middle."""
    inner = (x + 0.02, y - height / 2), length - 0.04, height
    axis.add_patch(rounded(*inner, facecolor=fill, edgecolor=edge, lw=1, zorder=3))
    write(axis, x + length / 2, y, text, 8, ink(fill), zorder=4)


def sampler(axis, x: float, y: float, height: float, colour, text: str) -> None:
    """x its middle: wide above, where the resolution is high, and narrow below."""
    top, bottom, wide, narrow = y - height / 2, y + height / 2, 0.58, 0.4
    corners = [(x - wide, top), (x + wide, top), (x + narrow, bottom), (x - narrow, bottom)]
    axis.add_patch(Polygon(corners, facecolor="white", edgecolor=colour, lw=1.4, zorder=3))
    write(axis, x, y, text, 8, zorder=4)


def rounded(corner, length: float, height: float, **style) -> FancyBboxPatch:
    return FancyBboxPatch(
        corner, length, height, boxstyle="round,pad=0,rounding_size=0.05", **style
    )


def arrow(axis, start, end, colour=DARK, width=1.2) -> None:
    style = dict(color=colour, lw=width, shrinkA=0, shrinkB=0, mutation_scale=8, zorder=2)
    axis.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", **style))


def pin(axis, x: float, y: float, colour) -> None:
    """Something from outside the U arrives here."""
    axis.plot([x], [y], "o", color=colour, ms=7, mec="white", mew=1, zorder=5)


def tint(colour, share: float) -> tuple[float, float, float]:
    """That share of the colour, the rest white."""
    red, green, blue = (1 - share * (1 - part) for part in to_rgb(colour))
    return red, green, blue


def ink(ground) -> str:
    """White or dark, whichever is read more easily on the ground."""
    red, green, blue = to_rgb(ground)
    return DARK if 0.3 * red + 0.59 * green + 0.11 * blue > 0.4 else "white"


def sizes(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
