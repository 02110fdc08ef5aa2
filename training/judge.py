"""Says what is in a picture of the small world: no network, only colours and outlines.

Pixels that differ from the ground form blobs; a blob's colour is the one whose tints most of its
pixels are nearest to, and its kind the one whose outline, laid over the blob, covers it best. Where
no colour has half of the pixels, or no outline fits, there is none: "". Blobs of a colour that
nearly touch, as a boat's hull and sails, are one thing if they fit better together.
"""

from dataclasses import dataclass
from functools import cache
from itertools import permutations

import numpy as np

from unet_explained.bundled.draw import PALETTE, WOOD, masks, tint
from unet_explained.bundled.world import COLOURS, GROUNDS, KINDS, Scene, Thing

SIDE = 128  # pictures are judged at this size
TEMPLATE = 40  # the side of a blob's window, in pixels
SMALLEST = 0.004  # of the picture's area: less is a speck
CONTRAST = 28.0  # from the ground, in RGB levels: pale green is at 33 from mint
FITS = 0.65  # IoU of a blob and an outline; of the drawings the least is 0.79, a boat
REACH = 2  # pixels around a blob: where those of two blobs meet, they may be parts of one thing
TINTS = {tint(colour, tone): colour for colour in COLOURS for tone in ("main", "pale", "deep")}


@dataclass(frozen=True)
class Found:
    """A blob as a Thing (its size is left open), its mask, and how well its outline fits (IoU)."""

    thing: Thing
    mask: np.ndarray
    fit: float


def judge_picture(picture: np.ndarray) -> tuple[str, list[Found]]:
    """The ground and the things in a picture, uint8 (height, width, 3), largest first."""
    small = _shrink(picture)
    edges = small[:3], small[-3:], small[:, :3], small[:, -3:]
    ground = np.median(np.concatenate([edge.reshape(-1, 3) for edge in edges]), axis=0)
    differs = np.linalg.norm(small - ground, axis=2) > CONTRAST
    near = differs
    for _ in range(REACH):
        near = np.any(_around(near), axis=0)
    found = [one for group in _blobs(near) for one in _things(small, group & differs)]
    name = GROUNDS[_nearest(ground[None], [PALETTE[each] for each in GROUNDS])[0]]
    return name, sorted(found, key=lambda one: one.mask.sum(), reverse=True)


def _things(small: np.ndarray, group: np.ndarray) -> list[Found]:
    """The one thing, or the several, that blobs near each other are."""
    blobs = sorted(_blobs(group), key=np.sum, reverse=True)
    parts = [_judge_blob(small, blob) for blob in blobs if blob.mean() > SMALLEST]
    whole = _judge_blob(small, group)
    colours = {part.thing.colour for part in parts} - {""}
    if (
        len(blobs) > 1
        and colours <= {whole.thing.colour}
        and whole.fit > _judge_blob(small, blobs[0]).fit
    ):
        return [whole]
    return parts


def match(found: list[Found], things: tuple[Thing, ...]) -> list[Found | None]:
    """For each thing the blob that is meant to be it: as many looks as possible agree.

    Of two ways that agree as much the one with more kinds; no blob that agrees in nothing.
    """

    def looks(blob: Found | None, thing: Thing) -> tuple[bool, bool]:
        return (
            blob is not None and blob.thing.kind == thing.kind,
            blob is not None and blob.thing.colour == thing.colour,
        )

    def agreement(chosen):
        kinds, colours = zip(*map(looks, chosen, things), strict=True)
        return sum(kinds) + sum(colours), sum(kinds)

    best = max(permutations([*found[:6], *[None] * len(things)], len(things)), key=agreement)
    return [
        blob if any(looks(blob, thing)) else None for blob, thing in zip(best, things, strict=True)
    ]


def _shrink(picture: np.ndarray) -> np.ndarray:
    step = len(picture) // SIDE
    return picture.reshape(SIDE, step, SIDE, step, 3).mean((1, 3))


def _nearest(pixels: np.ndarray, colours: list[tuple[int, int, int]]) -> np.ndarray:
    return np.linalg.norm(pixels[:, None] - np.array(colours, float), axis=2).argmin(1)


def _blobs(mask: np.ndarray) -> list[np.ndarray]:
    """The connected parts of a mask: each takes the highest number among its pixels."""
    numbers = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:
        spread = np.max(_around(numbers), axis=0) * mask
        if (spread == numbers).all():
            return [numbers == number for number in np.unique(numbers) if number]
        numbers = spread


def _around(grid: np.ndarray) -> list[np.ndarray]:
    """The grid, and the grid moved by one pixel in each of the four directions."""
    padded = np.pad(grid, 1)
    moved = padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]
    return [grid, *moved]


def _judge_blob(small: np.ndarray, blob: np.ndarray) -> Found:
    tints = [*TINTS, WOOD]  # wood is of any thing's colour: no vote
    nearest = np.bincount(_nearest(small[blob], tints), minlength=len(tints))
    votes = dict.fromkeys(COLOURS, 0)
    for colour, count in zip(TINTS.values(), nearest, strict=False):
        votes[colour] += count
    most = max(votes, key=votes.__getitem__)
    fits = [_overlap(_window(blob), template) for template in _templates()]
    best = int(np.argmax(fits))
    rows, columns = np.nonzero(blob)
    y, x = ((line.min() + line.max() + 1) / 2 / SIDE for line in (rows, columns))
    radius = (max(np.ptp(rows), np.ptp(columns)) + 1) / 2 / SIDE
    kind = KINDS[best] if fits[best] > FITS else ""
    colour = most if 2 * votes[most] > sum(votes.values()) else ""
    thing = Thing(kind, colour, "", x, y, radius)
    return Found(thing, blob, fits[best])


def _window(mask: np.ndarray) -> np.ndarray:
    """The mask's bounding box in the middle of a square of TEMPLATE pixels, its longer side full"""
    rows, columns = np.nonzero(mask)
    top, left = rows.min(), columns.min()
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    side = max(height, width)
    steps = (np.arange(TEMPLATE) + 0.5) / TEMPLATE * side
    down = np.floor(steps - (side - height) / 2).astype(int)
    across = np.floor(steps - (side - width) / 2).astype(int)
    inside = ((down >= 0) & (down < height))[:, None] & (across >= 0) & (across < width)
    box = mask[top : top + height, left : left + width]
    return inside & box[down.clip(0, height - 1)][:, across.clip(0, width - 1)]


@cache
def _templates() -> list[np.ndarray]:
    things = [Thing(kind, "red", "large", 0.5, 0.5, 0.4) for kind in KINDS]
    return [_window(masks(Scene("grey", (thing,)), 256)[0]) for thing in things]


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())
