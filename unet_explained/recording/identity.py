"""Whose forward this is: who runs a UNet says it around each call; who records it asks."""

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor, nn

# Of a further row of the same text, role and picture the name goes on with "#2", "#3" ...
ROLES = ("conditional", "unconditional")


@dataclass(frozen=True)
class Word:
    """One word of a prompt and where its sub-tokens stand in the sequence the UNet is given."""

    text: str
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Text:
    """A text as the UNet is given it, token by token."""

    text: str
    tokens: tuple[str, ...]  # start and end token included, padding not
    places: tuple[tuple[int, int], ...]  # of each token in the text: its first character, its end
    spans: tuple[Word, ...]  # in reading order; a repeated word stands here each time
    second: "Text | None" = None  # what another text encoder read, at the same places

    @property
    def words(self) -> tuple[str, ...]:
        """The words that maps exist for, in reading order; punctuation has none."""
        return tuple(word.text for word in self.spans)

    @property
    def cut_off(self) -> str:
        """What stands behind the last token: of a prompt longer than its encoder reads."""
        return self.text[max((end for _, end in self.places), default=0) :]

    def find(self, phrase: str) -> list[tuple[int, ...]]:
        """The tokens of each occurrence of a word, of several in a row, or of a placeholder.

        Upper case may differ if nothing is written just so. Start and end token go by their names.
        """
        outside = (i for i, (first, end) in enumerate(self.places) if first == end)
        named: list[tuple[int, ...]] = [(i,) for i in outside if self.tokens[i] == phrase.strip()]
        exact = self._occurrences(phrase, re.NOFLAG)
        found = exact or named or self._occurrences(phrase, re.IGNORECASE)
        beside = self.second.find(phrase) if self.second else []
        return found + [tokens for tokens in beside if tokens not in found]

    def _occurrences(self, phrase: str, flags: re.RegexFlag) -> list[tuple[int, ...]]:
        pattern = r"\s+".join(map(re.escape, phrase.split()))
        if not pattern or len("".join(phrase.split())) > len(self.text):
            return []  # of a phrase without end the pattern alone would take minutes
        # Whole words alone: "cat" is in neither "cathedral" nor "cat-toy"; a placeholder may begin
        # and end with anything.
        before = r"(?<!\w)(?<!\w['’-])" if re.match(r"\w", phrase.strip()) else ""
        after = r"(?!\w)(?!['’-]\w)" if re.search(r"\w$", phrase.strip()) else ""
        spans = (match.span() for match in re.finditer(before + pattern + after, self.text, flags))
        found = [(end, tokens_at(self.places, start, end)) for start, end in spans]
        # What is cut off at the encoder's length is not there, in part as little as as a whole.
        return [tokens for end, tokens in found if tokens and self.places[tokens[-1]][1] >= end]


def tokens_at(places, start: int, end: int) -> tuple[int, ...]:
    """Positions of the tokens whose characters overlap a part of a text; padding covers none."""
    return tuple(i for i, (first, last) in enumerate(places) if first < end and last > start)


class Row(NamedTuple):
    """Whom one row of a forward's batch is for; None for what is not known."""

    text: Text | None = None
    picture: int | None = None  # counted as the run returns its pictures
    role: str | None = None  # one of ROLES, or that and "#2"
    content: str | None = None  # tells embeddings apart that no text encoder was seen to make


@dataclass(eq=False)
class Origin:
    """One run of somebody's loop: its forwards name it, in whatever order they come."""

    forwards: int | None = None  # how many there will be, if that is known
    finished: bool = False
    told: bool = False  # it was said that it is not finite, or it is looked at because of that
    ended: bool = False  # finished, or given up: no further forward will come


ASIDE = Origin(told=True)  # of forwards that are run again to look closer: no recorder files them


@dataclass(frozen=True)
class Identity:
    """Who makes a forward: of which run it is, and whom each row of its batch is for."""

    origin: Origin | None  # None: of a loop that does not say where it begins
    rows: tuple[Row, ...]


class Said(NamedTuple):
    """What identified() was told, and how many calls of the UNet it then stood in."""

    identity: Identity
    unet: nn.Module | None
    depth: int


_CURRENT: ContextVar[Said | None] = ContextVar("identity", default=None)


@contextmanager
def identified(identity: Identity, unet: nn.Module | None = None) -> Iterator[None]:
    """Around a call of a UNet, never across a `yield`: its recorders learn whose forward it is.

    unet: it is said of this one's call alone, and of none that is made inside of it; without it,
    of every UNet's.
    """
    unet = getattr(unet, "_orig_mod", unet)  # out of torch.compile's wrapper
    token = _CURRENT.set(Said(identity, unet, depth_of(unet) if unet else 0))
    try:
        yield
    finally:
        _CURRENT.reset(token)


def current(unet: nn.Module, depth: int) -> Identity | None:
    """Who makes the forward that now begins in this thread; None if nobody said.

    depth: how many calls of the UNet this thread is in, that one included.
    """
    said = _CURRENT.get()
    if said is None or (said.unet and (said.unet, said.depth + 1) != (unet, depth)):
        return None
    return said.identity


def depth_of(module: nn.Module) -> int:
    """How many calls of a module this thread is in: what an interrupt ended is not among them."""
    frame, depth = sys._getframe(1), 0
    while frame:
        if frame.f_code is _CALL and frame.f_locals.get("self") is module:
            depth += 1
        frame = frame.f_back  # type: ignore[assignment]
    return depth


_CALL = nn.Module._call_impl.__code__


class Open(Protocol):
    """A context manager that may be closed more than once."""

    def __enter__(self) -> object: ...

    def close(self) -> None: ...


class Reader(Protocol):
    """Says whose the forwards of somebody else's loop are."""

    def watching(self) -> Sequence["Open"]:
        """What a recorder opens and closes with itself, and alone holds."""

    def identity(self, sample: Tensor, context: Tensor | None) -> Identity | None:
        """Of the forward that now begins in this thread."""

    def read(self, embeddings: Tensor, text: str) -> tuple[Text, set[str]]:
        """A text, and the `content` of each row of these embeddings of it."""
