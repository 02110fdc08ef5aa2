"""The small world that the bundled model knows: one to three things on a coloured ground.

Positions and radii are fractions of the picture's side; x grows to the right and y downwards.
"""

from dataclasses import dataclass
from itertools import combinations
from random import Random

THINGS = 3  # the most in a scene
KINDS = (
    "circle",
    "square",
    "triangle",
    "star",
    "heart",
    "house",
    "tree",
    "fish",
    "boat",
    "butterfly",
)
COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "black", "white")
GROUNDS = ("pink", "grey", "mint", "sand", "lilac", "aqua")
SIZES = {"small": (0.11, 0.13), "large": (0.18, 0.21)}  # the range of radii
PLACES = {  # the place's name: its column and row, each 0, 1 or 2
    "middle": (1, 1),
    "left": (0, 1),
    "right": (2, 1),
    "top": (1, 0),
    "bottom": (1, 2),
    "top left": (0, 0),
    "top right": (2, 0),
    "bottom left": (0, 2),
    "bottom right": (2, 2),
}
CENTRES = (0.25, 0.5, 0.75)  # of the three columns, and of the three rows
LOOSE = 0.05  # so far from the centres of its column and of its row a thing may lie
MARGIN = 0.03  # kept free between things' circles, and at the edges


@dataclass(frozen=True)
class Thing:
    kind: str
    colour: str
    size: str
    x: float
    y: float
    radius: float

    @property
    def place(self) -> str:
        """The name of the place whose centre, by CENTRES, is nearest."""

        cell = _third(self.x), _third(self.y)
        return next(name for name, place in PLACES.items() if place == cell)


@dataclass(frozen=True)
class Scene:
    ground: str
    things: tuple[Thing, ...]


def _third(at: float) -> int:
    return min(range(3), key=lambda index: abs(at - CENTRES[index]))


def room(at: float, radius: float) -> tuple[float, float]:
    """The lowest and the highest position, in its column or row, of a thing that is at `at`."""
    centre, edge = CENTRES[_third(at)], radius + MARGIN
    return max(centre - LOOSE, edge), min(centre + LOOSE, 1 - edge)


def relation(first: Thing, second: Thing) -> str | None:
    """How `first` lies to `second`: the clearly larger distance decides; None on a diagonal."""
    across, down = first.x - second.x, first.y - second.y
    if abs(across) > 1.5 * abs(down):
        return "left of" if across < 0 else "right of"
    if abs(down) > 1.5 * abs(across):
        return "above" if down < 0 else "below"
    return None


def held_out_pair(colour: str, kind: str) -> bool:
    """True for the eight pairs that training never shows: each colour with one kind."""
    return COLOURS.index(colour) == KINDS.index(kind)


def held_out(scene: Scene) -> bool:
    """True if training never shows such a scene.

    One thing has the colour kept from its kind, or two of one kind stand in a relation.
    """
    return any(held_out_pair(thing.colour, thing.kind) for thing in scene.things) or any(
        one.kind == other.kind and relation(one, other)
        for one, other in combinations(scene.things, 2)
    )


def sample_scene(rng: Random, split: str = "train", count: int | None = None) -> Scene:
    """A random scene of one, two or three things, as 3 : 5 : 2, or of `count` things.

    ValueError if `split` is neither "train" nor "held_out".
    """
    if split not in ("train", "held_out"):
        raise ValueError(f'split is "train" or "held_out", not {split!r}')
    number = count or rng.choices(range(1, THINGS + 1), (3, 5, 2))[0]
    while True:
        scene = Scene(rng.choice(GROUNDS), tuple(_arrange(rng, number)))
        if fits(scene.things) and held_out(scene) == (split == "held_out"):
            return scene


def _arrange(rng: Random, count: int) -> list[Thing]:
    """`count` things in different places, in random order; they may still overlap."""
    if count == 2 and rng.random() < 0.7:  # side by side, or one above the other
        cells = rng.choice(([(0, 1), (2, 1)], [(1, 0), (1, 2)]))
    else:
        cells = rng.sample(sorted(PLACES.values()), count)
    looks = [(rng.choice(KINDS), rng.choice(COLOURS)) for _ in cells]
    return [
        _put(rng, kind, colour, cell)
        for (kind, colour), cell in zip(looks, rng.sample(cells, count), strict=True)
    ]


def _put(rng: Random, kind: str, colour: str, cell: tuple[int, int]) -> Thing:
    """A thing of random size near the centre of its place, inside the picture."""
    size = rng.choice(tuple(SIZES))
    radius = rng.uniform(*SIZES[size])
    edge = radius + MARGIN
    x, y = (min(max(CENTRES[index] + rng.uniform(-LOOSE, LOOSE), edge), 1 - edge) for index in cell)
    return Thing(kind, colour, size, round(x, 4), round(y, 4), round(radius, 4))


def fits(things: tuple[Thing, ...]) -> bool:
    """True if the things look different and none touches another."""
    pairs = list(combinations(things, 2))
    looks = {(thing.colour, thing.kind) for thing in things}
    apart = all(
        (a.x - b.x) ** 2 + (a.y - b.y) ** 2 > (a.radius + b.radius + MARGIN) ** 2 for a, b in pairs
    )
    return apart and len(looks) == len(things)
