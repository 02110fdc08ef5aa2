"""Draws a scene of the small world, at any size, and the true mask of each of its things.

A kind is a few filled outlines in the unit circle (x to the right, y downwards). They are drawn
four times too large and averaged down, which smooths the edges.
"""

from functools import cache
from math import cos, pi, sin

import numpy as np
from PIL import Image, ImageDraw

from .world import Scene, Thing

PALETTE = {
    "red": (224, 60, 58),
    "green": (52, 152, 86),
    "blue": (48, 104, 212),
    "yellow": (252, 208, 48),
    "purple": (132, 72, 188),
    "orange": (246, 136, 40),
    "black": (38, 40, 48),
    "white": (254, 254, 252),
    "pink": (244, 192, 202),
    "grey": (196, 202, 210),
    "mint": (174, 222, 186),
    "sand": (234, 216, 180),
    "lilac": (206, 192, 234),
    "aqua": (160, 212, 232),
}
INK, WOOD = (34, 30, 58), (142, 98, 66)
FINER = 4  # samples along each side of a pixel

Outline = tuple[tuple[float, float], ...]


def render(scene: Scene, size: int) -> np.ndarray:
    """The picture, uint8 (height, width, 3)."""
    picture = Image.new("RGB", (size * FINER, size * FINER), PALETTE[scene.ground])
    pen = ImageDraw.Draw(picture)
    for thing in scene.things:
        for tone, outline in parts(thing.kind):
            pen.polygon(_placed(outline, thing, size), fill=tint(thing.colour, tone))
    return np.asarray(picture.reduce(FINER))


def masks(scene: Scene, size: int) -> np.ndarray:
    """Which pixels belong to which thing, bool (thing, height, width)."""
    return np.stack([_mask(thing, size) for thing in scene.things])


def _mask(thing: Thing, size: int) -> np.ndarray:
    stencil = Image.new("L", (size * FINER, size * FINER))
    pen = ImageDraw.Draw(stencil)
    for _, outline in parts(thing.kind):
        pen.polygon(_placed(outline, thing, size), fill=255)
    return np.asarray(stencil.reduce(FINER)) > 127


def _placed(outline: Outline, thing: Thing, size: int) -> list[tuple[float, float]]:
    scale = size * FINER
    return [
        ((thing.x + x * thing.radius) * scale, (thing.y + y * thing.radius) * scale)
        for x, y in outline
    ]


@cache
def tint(colour: str, tone: str) -> tuple[int, int, int]:
    """The colour of a part: the thing's own ("main"), paler, deeper, or always the same."""
    own = PALETTE[colour]
    light = PALETTE["aqua" if colour == "white" else "white"]  # so that white shows on white
    tones = {
        "main": own,
        "wood": WOOD,
        "pale": _mix(own, light, 0.3 if colour == "black" else 0.5),
        "deep": _mix(own, INK, 0.14 if colour == "white" else 0.28),
        "dot": PALETTE["white" if colour == "black" else "black"],
    }
    return tones[tone]


def _mix(one: tuple, other: tuple, share: float) -> tuple[int, int, int]:
    return tuple(round(a + (b - a) * share) for a, b in zip(one, other, strict=True))


@cache
def parts(kind: str) -> tuple[tuple[str, Outline], ...]:
    """The (tone, outline) pairs of a kind, in the order in which they are drawn."""
    return tuple(SHAPES[kind]())


def ellipse(x: float, y: float, across: float, down: float, turn: float = 0.0) -> Outline:
    """An ellipse by its centre and radii, turned clockwise by `turn` radians."""
    angles = [2 * pi * step / 48 for step in range(48)]
    points = [(across * cos(angle), down * sin(angle)) for angle in angles]
    return tuple(
        (x + a * cos(turn) - b * sin(turn), y + a * sin(turn) + b * cos(turn)) for a, b in points
    )


def rounded(corners: Outline, cut: float) -> Outline:
    """A polygon whose corners are rounded, starting `cut` before each corner."""
    points = []
    for index, (x, y) in enumerate(corners):
        before, after = corners[index - 1], corners[(index + 1) % len(corners)]
        start, stop = _towards((x, y), before, cut), _towards((x, y), after, cut)
        for step in range(9):  # a quadratic curve with the corner as its control point
            t = step / 8
            a, b, c = (1 - t) ** 2, 2 * t * (1 - t), t * t
            points.append((a * start[0] + b * x + c * stop[0], a * start[1] + b * y + c * stop[1]))
    return tuple(points)


def _towards(point: tuple, target: tuple, distance: float) -> tuple[float, float]:
    across, down = target[0] - point[0], target[1] - point[1]
    share = min(distance / (across**2 + down**2) ** 0.5, 0.5)
    return point[0] + across * share, point[1] + down * share


def _circle():
    yield "main", ellipse(0, 0, 0.92, 0.92)


def _square():
    yield "main", rounded(((-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)), 0.14)


def _triangle():
    yield "main", rounded(((0, -1.0), (1.0, 0.8), (-1.0, 0.8)), 0.16)


def _star():
    corners = [
        (radius * sin(step * pi / 5), 0.04 - radius * cos(step * pi / 5))
        for step, radius in enumerate((1.04, 0.48) * 5)
    ]
    yield "main", rounded(tuple(corners), 0.1)


def _heart():
    angles = [2 * pi * step / 64 for step in range(64)]
    yield (
        "main",
        tuple(
            (
                0.96 * sin(a) ** 3,
                -0.1 - (13 * cos(a) - 5 * cos(2 * a) - 2 * cos(3 * a) - cos(4 * a)) / 16.5,
            )
            for a in angles
        ),
    )


def _house():
    yield "main", rounded(((-0.68, -0.2), (0.68, -0.2), (0.68, 0.9), (-0.68, 0.9)), 0.06)
    yield "deep", rounded(((0, -1.0), (1.0, -0.08), (-1.0, -0.08)), 0.1)
    yield "pale", rounded(((-0.46, 0.16), (-0.06, 0.16), (-0.06, 0.54), (-0.46, 0.54)), 0.05)
    yield "wood", rounded(((0.14, 0.22), (0.5, 0.22), (0.5, 0.9), (0.14, 0.9)), 0.05)


def _tree():
    yield "wood", rounded(((-0.15, 0.2), (0.15, 0.2), (0.2, 1.0), (-0.2, 1.0)), 0.06)
    for x, y, radius in ((-0.42, 0.0, 0.46), (0.42, 0.0, 0.46), (0, -0.46, 0.5), (0, 0, 0.46)):
        yield "main", ellipse(x, y, radius, radius)


def _fish():
    yield "deep", rounded(((0.3, 0), (1.0, -0.6), (0.86, 0), (1.0, 0.6)), 0.12)
    yield "main", ellipse(-0.22, 0, 0.78, 0.54)
    yield "pale", rounded(((-0.1, 0.02), (0.26, -0.2), (0.26, 0.24)), 0.08)
    yield "dot", ellipse(-0.62, -0.12, 0.1, 0.1)


def _boat():
    yield "wood", ((-0.06, -0.9), (0.06, -0.9), (0.06, 0.4), (-0.06, 0.4))
    yield "main", rounded(((0.1, -0.98), (0.84, 0.18), (0.1, 0.18)), 0.08)
    yield "pale", rounded(((-0.12, -0.66), (-0.12, 0.18), (-0.66, 0.18)), 0.08)
    yield "main", rounded(((-1.0, 0.32), (1.0, 0.32), (0.66, 0.9), (-0.66, 0.9)), 0.12)


def _butterfly():
    for side in (-1, 1):
        yield "main", ellipse(side * 0.52, -0.36, 0.54, 0.42, side * -0.6)
        yield "main", ellipse(side * 0.42, 0.42, 0.38, 0.44, side * -0.5)
        yield "pale", ellipse(side * 0.58, -0.4, 0.2, 0.2)
    yield "dot", ellipse(0, 0.04, 0.1, 0.66)


SHAPES = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
    "house": _house,
    "tree": _tree,
    "fish": _fish,
    "boat": _boat,
    "butterfly": _butterfly,
}
