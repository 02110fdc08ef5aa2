"""What diagrams are drawn with: boxes, arrows and words on an axis measured in pixels of a page."""

from matplotlib.colors import to_rgb
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Polygon

from .colours import DARK, ink
from .words import shown

Place = tuple[float, float, float, float]  # x and y of the corner above left; width and height


def write(
    axis, x: float, y: float, text: str, size: float, colour=DARK, side="center", bold=False
) -> None:
    weight = "bold" if bold else "normal"
    style = dict(fontsize=size, color=colour, ha=side, va="center", weight=weight, zorder=5)
    axis.text(x, y, shown(text), parse_math=False, **style)


def box(axis, place: Place, fill, text: str, edge) -> None:
    x, y, width, height = place
    axis.add_patch(rounded(x, y, width, height, facecolor=fill, edgecolor=edge, lw=1, zorder=3))
    write(axis, x + width / 2, y + height / 2, text, 8, ink(fill))


def sampler(axis, place: Place, colour, text: str) -> None:
    """Broad above, where the resolution is high, and narrow below."""
    x, y, width, height = place
    right, low, slope = x + width, y + height, 9
    corners = [(x, y), (right, y), (right - slope, low), (x + slope, low)]
    axis.add_patch(Polygon(corners, facecolor="white", edgecolor=colour, lw=1.4, zorder=3))
    write(axis, x + width / 2, y + height / 2, text, 8)


def rounded(x: float, y: float, width: float, height: float, **style) -> FancyBboxPatch:
    corners = "round,pad=0,rounding_size=4"
    return FancyBboxPatch((x, y), width, height, boxstyle=corners, **style)


def arrow(axis, start, end, colour=DARK, width=1.2) -> None:
    style = dict(color=colour, lw=width, shrinkA=0, shrinkB=0, mutation_scale=8, zorder=2)
    axis.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", **style))


def pin(axis, x: float, y: float, colour) -> None:
    """Something from outside the U arrives here."""
    axis.plot([x], [y], "o", color=colour, ms=7, mec="white", mew=1, zorder=6)


def tint(colour, share: float) -> tuple[float, float, float]:
    """That share of the colour, the rest white."""
    red, green, blue = (1 - share * (1 - part) for part in to_rgb(colour))
    return red, green, blue
