"""What a model of a small world paints, in words; and what there is to say of a prompt's others."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

from ..words import nearest

NUMBERS = "two three four five six seven eight nine ten twelve many several".split()  # noqa: SIM905
GROUND = "ground", "background"


@dataclass(frozen=True)
class Palette:
    """The words that a model was taught, by what they say; a place may take several words."""

    things: tuple[str, ...] = ()
    colours: tuple[str, ...] = ()  # of things
    grounds: tuple[str, ...] = ()  # colours of what is behind them
    sizes: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    relations: tuple[str, ...] = ()
    others: tuple[str, ...] = ()  # that say nothing alone

    @property
    def groups(self) -> dict[str, list[str]]:
        return {field.name: list(getattr(self, field.name)) for field in fields(self)}

    @property
    def words(self) -> frozenset[str]:
        every = (word for phrases in self.groups.values() for word in phrases)
        return frozenset(part for phrase in every for part in phrase.split())

    def doubt(self, prompt: Sequence[str]) -> str:
        """What to say, before it is run, of a prompt that names no thing; "" of any other."""
        return "; ".join(self.notes(prompt)) if self._nothing(prompt) else ""

    def _nothing(self, prompt: Sequence[str]) -> bool:
        """An empty prompt is no mistake."""
        return bool(prompt) and not {word.lower() for word in prompt} & set(self.things)

    def notes(self, prompt: Sequence[str]) -> Iterator[str]:
        """In a sentence each: words it was not shown, and words that it was shown as others."""
        words, known, nothing = [*map(str.lower, prompt)], self.words, self._nothing(prompt)
        if nothing:
            yield f"no thing that this model paints is in the prompt: {_list(self.things)}"
        for word in dict.fromkeys(words):
            if word.isdigit() or (word in NUMBERS and word not in known):
                yield f"{word!r}: this model was never shown a number; name each thing"
            elif word not in known:
                near, said = nearest(word, self.things), f"; it paints {_list(self.things)}"
                said = "" if nothing else said  # the first sentence lists them
                said = f"; the nearest thing: {near[0]}" if near else said
                yield f"{word!r}: this model was never shown this word{said}"
        for word, after in pairwise(words):
            if word in self.grounds and after in (*self.things, *self.sizes):
                yield f"{word!r} is a colour of the ground; things are {_list(self.colours)}"
            elif word in self.colours and after in GROUND:
                yield f"{word!r} is a colour of things; the ground is {_list(self.grounds)}"


def _list(words: tuple[str, ...]) -> str:
    return ", ".join(words)
