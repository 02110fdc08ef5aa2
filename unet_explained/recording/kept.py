"""What a recorder keeps of a forward: what was asked for, what was seen, sums over forwards."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .given import Given
from .identity import Row
from .pairs import Pair


@dataclass(frozen=True)
class Options:
    """What record() was asked for; its docstring explains each."""

    patterns: tuple[str, ...]
    attention: str | None
    self_attention: bool
    halves: str
    stats: bool
    device: str | torch.device


class Stats(NamedTuple):
    """Of all entries of one tensor, in float32; std without Bessel's correction."""

    mean: float
    std: float
    min: float
    max: float
    nonfinite: float  # share of the entries that are NaN or infinite


@dataclass
class RecordedStep:
    """What one forward left behind, by the names of modules.

    batch: whom each row of the forward was for; kept: the rows whose attention was kept.
    extent: of each row of the model's output the largest size, where it was computed.
    attention: (picture, query, key), or (picture, head, query, key) if every head was asked for.
    A module's second call within one forward is filed under its name and "#2".
    """

    timestep: Tensor
    batch: tuple[Row, ...]
    kept: tuple[int, ...]
    given: Given | None = None  # None if there was no room for it
    attention: dict[str, Tensor] = field(default_factory=dict)
    pairs: dict[str, Pair] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    stats: dict[str, Stats] = field(default_factory=dict)
    extent: Tensor | None = None

    @property
    def rows(self) -> tuple[Row, ...]:
        """Whom the kept rows were for."""
        return tuple(self.batch[i] for i in self.kept)

    @property
    def rows_slice(self) -> slice | list[int]:
        """What takes the kept rows out of a batch: if they stand together, without a copy."""
        if not self.kept:
            return slice(0)
        start, end = self.kept[0], self.kept[-1] + 1
        return slice(start, end) if len(self.kept) == end - start else list(self.kept)


@dataclass
class Total:
    """The sums of the weights of forwards that had the same rows and as many tokens.

    counts: how many each is of: a forward may leave layers out.
    """

    rows: tuple[Row, ...]
    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, weights: dict[str, Tensor]) -> None:
        self.sums = self.sums | {
            name: self.sums.get(name, 0) + one for name, one in weights.items()
        }
        self.counts = self.counts | {name: self.counts.get(name, 0) + 1 for name in weights}


def image_key(layer: str, number: int) -> str:
    """What a layer's attention to an image prompt is kept under."""
    return f"{layer}#image{number}"
