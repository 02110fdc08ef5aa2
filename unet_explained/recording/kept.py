"""What a recording is made of, filled by the recorder; and where in it a picture's part stands."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from .patterns import pick

Size = tuple[int, int]  # height, width


@dataclass(frozen=True)
class Word:
    """One word of a prompt and where its sub-tokens stand in the sequence the UNet is given."""

    text: str
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Announcement:
    """What a pipeline tells the recorders attached to its UNet before the first forward."""

    prompt: str
    words: tuple[Word, ...]  # in reading order; a repeated word stands here each time
    forwards: int  # how many times the UNet will be called
    conditional: slice  # the part of the batch that is given the prompt


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


class Pair(NamedTuple):
    """Queries and keys of one self-attention, from which its weights are derived when read."""

    q: Float[Tensor, "picture head query head_dim"]
    k: Float[Tensor, "picture head key head_dim"]
    mask: Float[Tensor, "picture 1 1 key"] | None


@dataclass
class RecordedStep:
    """What one forward left behind, by the names of modules.

    attention: (picture, query, key), or (picture, head, query, key) if every head was asked for.
    A module's second call within one forward is filed under its name and "#2".
    """

    timestep: Tensor
    attention: dict[str, Tensor] = field(default_factory=dict)
    pairs: dict[str, Pair] = field(default_factory=dict)
    values: dict[str, object] = field(default_factory=dict)
    stats: dict[str, Stats] = field(default_factory=dict)


@dataclass
class RecordedRun:
    """The forwards from one announcement to the next, or those that no pipeline announced."""

    options: Options
    announcement: Announcement | None
    steps: list[RecordedStep] = field(default_factory=list)
    layers: dict[str, Size] = field(default_factory=dict)  # the cross-attentions
    self_layers: dict[str, Size] = field(default_factory=dict)
    totals: dict[str, Tensor] = field(default_factory=dict)  # over steps, if attention="sum"

    @property
    def timesteps(self) -> list[int | float | list]:
        """One a forward; a list in its place where the pictures of a batch had different ones."""
        batches = [step.timestep.flatten().tolist() for step in self.steps]
        return [times[0] if len(set(times)) == 1 else times for times in batches]

    @property
    def stats(self) -> dict[str, list[Stats]]:
        """stats[name][step], if recorded with stats=True."""
        return {name: [step.stats[name] for step in self.steps] for name in self.steps[0].stats}

    def at(self, step: int | None) -> list[RecordedStep]:
        """One step, or all for None."""
        return self.steps if step is None else [pick(self.steps, step, "step")]

    def weights(
        self, layer: str, *, head: int | None, step: int | None, half: str, picture: int | None
    ) -> Iterator[Float[Tensor, "*head query key"]]:
        """The kept weights of one picture at one step, or at all for None, one after the other."""
        if self.options.attention != "sum":
            kept = [one.attention[layer] for one in self.at(step)]
        elif step is None:
            kept = [self.totals[layer] / len(self.steps)]
        else:
            raise ValueError('attention="sum" keeps no single step: leave step= out')
        if head is not None and self.options.attention != "heads":
            raise ValueError('only the mean of the heads was kept: pass attention="heads"')
        for batch in kept:
            one = batch[self.row(len(batch), half, picture)]
            yield one if head is None else pick(one, head, "head")

    def row(self, batch: int, half: str, picture: int | None) -> int:
        """Where in the kept batch a picture of a half stands; None: the only one."""
        rows = self._half(batch, half)
        if picture is None and len(rows) > 1:
            raise ValueError(f"{len(rows)} pictures were kept: pass picture=0 to {len(rows) - 1}")
        return pick(rows, picture or 0, "picture")

    def _half(self, batch: int, half: str) -> list[int]:
        """The rows of the kept batch that a half is made of."""
        rows = list(range(batch))
        if half not in ("conditional", "unconditional"):
            raise ValueError(f"half={half!r}: expected 'conditional' or 'unconditional'")
        if half == "conditional" and (self.announcement is None or self.options.halves != "both"):
            return rows
        if self.announcement is None:
            raise ValueError("no pipeline said which half is which: picture= is the batch's index")
        if self.options.halves != "both":
            raise ValueError('only the conditional half was kept: pass halves="both" to record()')
        conditional = rows[self.announcement.conditional]
        others = [row for row in rows if row not in conditional]
        if half == "unconditional" and not others:
            raise ValueError("this run had no unconditional half: its guidance was off")
        return conditional if half == "conditional" else others
