"""The language of the small world: a caption for a scene, in many phrasings, and its words."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random

from .world import COLOURS, GROUNDS, KINDS, Scene, Thing, relation

NOUNS = {kind: (kind,) * 4 for kind in KINDS} | {  # the plain word most often
    "circle": ("circle",) * 3 + ("disc",),
    "boat": ("boat",) * 3 + ("sailboat",),
}
SIZE_WORDS = {"small": ("small", "small", "little", "tiny"), "large": ("large", "large", "big")}
PLACE_WORDS = {
    "middle": ("in the middle", "in the middle", "in the centre"),
    "left": ("on the left", "on the left", "at the left", "on the left side"),
    "right": ("on the right", "on the right", "at the right", "on the right side"),
    "top": ("at the top", "at the top", "on top"),
    "bottom": ("at the bottom",),
    **{
        f"{row} {side}": (
            f"in the {row} {side}",
            f"at the {row} {side}",
            f"in the {row} {side} corner",
        )
        for row in ("top", "bottom")
        for side in ("left", "right")
    },
}
RELATION_WORDS = {
    "left of": ("left of", "left of", "to the left of"),
    "right of": ("right of", "right of", "to the right of"),
    "above": ("above", "above", "over"),
    "below": ("below", "below", "under"),
}
GROUND_WORDS = ("ground", "ground", "background")
OPENINGS = ("",) * 6 + ("a picture of ", "a drawing of ")

OTHERS = (
    "a", "an", "and", "next to", "beside", "on", "a picture of", "a drawing of", *GROUND_WORDS[1:],
)  # fmt: skip


def _each(phrases: Mapping[str, tuple[str, ...]]) -> list[str]:
    return [*dict.fromkeys(phrase for several in phrases.values() for phrase in several)]


PALETTE = {  # every word of the language, by what it says
    "things": _each(NOUNS),
    "colours": list(COLOURS),
    "grounds": list(GROUNDS),
    "sizes": _each(SIZE_WORDS),
    "places": _each(PLACE_WORDS),
    "relations": _each(RELATION_WORDS),
    "others": list(OTHERS),
}
WORDS = tuple(
    sorted({word for phrases in PALETTE.values() for phrase in phrases for word in phrase.split()})
)


@dataclass(frozen=True)
class Caption:
    """A caption and what it says of each thing, in the order of `Scene.things`.

    A place is None where the caption does not name it. `relation` is (index of one thing, relation,
    index of the other); None where the caption names none, or says no more than "next to".
    """

    text: str
    nouns: tuple[str, ...]
    colours: tuple[str, ...]
    places: tuple[str | None, ...]
    relation: tuple[int, str, int] | None = None


def describe(scene: Scene, rng: Random, places: bool = True) -> Caption:
    """One of the many true captions of a scene; without `places` none of the places is told."""
    nouns = tuple(rng.choice(NOUNS[thing.kind]) for thing in scene.things)
    names = [_name(thing, noun, rng) for thing, noun in zip(scene.things, nouns, strict=True)]
    told, body, related = _body(scene.things, names, rng, places)
    text = _with_ground(body, scene.ground, rng)
    told_places = tuple(
        thing.place if index in told else None for index, thing in enumerate(scene.things)
    )
    colours = tuple(thing.colour for thing in scene.things)
    return Caption(text, nouns, colours, told_places, related)


def _name(thing: Thing, noun: str, rng: Random) -> str:
    size = rng.choice(SIZE_WORDS[thing.size]) + " " if rng.random() < 0.4 else ""
    return _article(f"{size}{thing.colour} {noun}")


def _article(phrase: str) -> str:
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def _body(
    things: tuple, names: list[str], rng: Random, places: bool
) -> tuple[set, str, tuple | None]:
    """Which things' places are told, the caption without its ground, and the relation told."""
    order = rng.sample(range(len(things)), len(things))
    first, second = order[0], order[min(1, len(order) - 1)]
    how = relation(things[first], things[second]) if len(things) > 1 else None
    if how and rng.random() < 0.6:
        words, how = _relation_words(how, rng)
        told, body = set(), f"{names[first]} {words} {names[second]}"
        if len(things) == 3:
            third = _with_place(things, names, order[2], rng) if places else names[order[2]]
            told, body = {order[2]} if places else set(), f"{body} and {third}"
        return told, body, (first, how, second) if how else None
    told = set(order) if rng.random() < 0.75 and places else set()
    phrases = [_with_place(things, names, index, rng) if told else names[index] for index in order]
    return told, " and ".join([", ".join(phrases[:-1])] * (len(phrases) > 1) + phrases[-1:]), None


def _relation_words(how: str, rng: Random) -> tuple[str, str | None]:
    """Words for a relation, and what they tell of it."""
    if how in ("left of", "right of") and rng.random() < 0.1:
        return rng.choice(("next to", "beside")), None
    return rng.choice(RELATION_WORDS[how]), how


def _with_place(things: tuple, names: list[str], index: int, rng: Random) -> str:
    return f"{names[index]} {rng.choice(PLACE_WORDS[things[index].place])}"


def _with_ground(body: str, ground: str, rng: Random) -> str:
    """Three captions in five tell the ground's colour, before or after the rest."""
    ground = _article(f"{ground} {rng.choice(GROUND_WORDS)}")
    opening = rng.choice(OPENINGS)
    return rng.choice(
        (
            opening + body,
            opening + body,
            f"{opening}{body} on {ground}",
            f"{opening}{body} on {ground}",
            f"on {ground}, {body}",
        )
    )


def mentioned(caption: Caption) -> list[int]:
    """The things' indices in the order in which the caption names them."""
    starts = [
        caption.text.index(f"{colour} {noun}")
        for colour, noun in zip(caption.colours, caption.nouns, strict=True)
    ]
    return sorted(range(len(starts)), key=starts.__getitem__)


def spoken(caption: Caption, role: str) -> Iterator[tuple[int, str, int]]:
    """Each thing's index, its "noun" or "colour" word, and which of the word's occurrences it is.

    In the order in which the caption names the things.
    """
    words, order = {"noun": caption.nouns, "colour": caption.colours}[role], mentioned(caption)
    for position, index in enumerate(order):
        before = [words[other] for other in order[:position]]
        yield index, words[index], before.count(words[index])
