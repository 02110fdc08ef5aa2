"""What a recording is made of, filled by the recorder; and where in it a picture's part stands."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from .identity import ROLES, Origin, Row, Text
from .nested import changed, tensors
from .patterns import pick

Size = tuple[int, int]  # height, width


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
    """Queries and keys of one attention, from which its weights are derived."""

    q: Float[Tensor, "picture head query head_dim"]
    k: Float[Tensor, "picture head key head_dim"]
    mask: Float[Tensor, "picture 1 1 key"] | None


class Given(NamedTuple):
    """What a forward was given: containers of its own, tensors as they are, and their versions."""

    args: tuple
    kwargs: dict
    versions: tuple[int, ...]  # torch counts up when a tensor is written into

    @classmethod
    def of(cls, args: tuple, kwargs: dict) -> "Given":
        args, kwargs = changed((args, kwargs), lambda tensor: tensor)
        return cls(args, kwargs, _versions(args, kwargs))

    def named(self, name: str, position: int):
        """An argument of the UNet's forward; None if it was not given."""
        return self.args[position] if len(self.args) > position else self.kwargs.get(name)

    @property
    def changed(self) -> bool:
        """Whether something was written into it since."""
        return self.versions != _versions(self.args, self.kwargs)


def _versions(args: tuple, kwargs: dict) -> tuple[int, ...]:
    given = tensors((args, kwargs))
    return tuple(0 if tensor.is_inference() else tensor._version for tensor in given)


@dataclass
class RecordedStep:
    """What one forward left behind, by the names of modules.

    batch: whom each row of the forward was for; kept: the rows whose attention was kept.
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

    @property
    def rows(self) -> tuple[Row, ...]:
        """Whom the kept rows were for."""
        return tuple(self.batch[i] for i in self.kept)

    @property
    def rows_slice(self) -> slice | list[int]:
        """What takes the kept rows out of a batch: if they stand together, without a copy."""
        start, end = self.kept[0], self.kept[-1] + 1
        return slice(start, end) if len(self.kept) == end - start else list(self.kept)


@dataclass
class RecordedRun:
    """The forwards of one run, whatever ran beside it; or those that nobody said whose they are."""

    options: Options
    origin: Origin | None
    steps: list[RecordedStep] = field(default_factory=list)
    layers: dict[str, Size] = field(default_factory=dict)  # the cross-attentions
    self_layers: dict[str, Size] = field(default_factory=dict)
    totals: dict[str, Tensor] = field(default_factory=dict)  # over steps, if attention="sum"

    @property
    def finished(self) -> bool | None:
        """Whether whoever ran it came to its end; None if nobody said whose forwards these are."""
        return None if self.origin is None else self.origin.finished

    @property
    def texts(self) -> tuple[Text, ...]:
        """The texts that its rows were given, each once."""
        rows = (row for step in self.steps for row in step.rows)
        return tuple(dict.fromkeys(row.text for row in rows if row.text is not None))

    @property
    def timesteps(self) -> list[int | float | list]:
        """One a forward; a list in its place where the pictures of a batch had different ones."""
        batches = [step.timestep.flatten().tolist() for step in self.steps]
        return [times[0] if len(set(times)) == 1 else times for times in batches]

    @property
    def stats(self) -> dict[str, list[Stats]]:
        """stats[name][step], if recorded with stats=True."""
        return {name: [step.stats[name] for step in self.steps] for name in self.steps[0].stats}

    def at(self, step: int | None) -> Sequence[RecordedStep]:
        """One step, or all for None."""
        return self.steps if step is None else [pick(self.steps, step, "step")]

    def weights(
        self,
        layer: str,
        *,
        head: int | None = None,
        step: int | None = None,
        half: str = ROLES[0],
        picture: int | None = None,
    ) -> Iterator[Float[Tensor, "*head query key"]]:
        """The kept weights of one picture at one step, or at all for None, one after the other."""
        if head is not None and self.options.attention != "heads":
            raise ValueError('only the mean of the heads was kept: pass attention="heads"')
        if self.options.attention == "sum":
            if step is not None:
                raise ValueError('attention="sum" keeps no single step: leave step= out')
            yield self.totals[layer][self.row(self.steps[0], half, picture)] / len(self.steps)
            return
        for one in self.at(step):
            weights = one.attention[layer][self.row(one, half, picture)]
            yield weights if head is None else pick(weights, head, "head")

    def row(self, step: RecordedStep, half: str, picture: int | None) -> int:
        """Where in the kept batch a picture of a half stands; None: the only one."""
        rows = self._half(step, half)
        if picture is None and len(rows) > 1:
            raise ValueError(f"{len(rows)} pictures were kept: pass picture=0 to {len(rows) - 1}")
        return pick(rows, picture or 0, "picture")

    def text(self, half: str, picture: int | None) -> Text:
        """What a picture's row of a half was given. ValueError where nobody said it."""
        if self.origin is None:
            raise ValueError(
                "nobody said here what the prompt is, so no word is known: pass token=, "
                "its position"
            )
        step = next((one for one in self.steps if self._has(one, half)), self.steps[0])
        text = step.rows[self.row(step, half, picture)].text
        if text is None:
            raise ValueError("this row's text is not known: pass token=, its position")
        return text

    def _has(self, step: RecordedStep, half: str) -> bool:
        return any(row.role == half for row in step.rows)

    def _half(self, step: RecordedStep, half: str) -> list[int]:
        """The rows of the kept batch that a half is made of."""
        if half not in ROLES:
            raise ValueError(f"half={half!r}: expected 'conditional' or 'unconditional'")
        if self.origin is None:
            if half == ROLES[0]:
                return list(range(len(step.rows)))
            raise ValueError("nobody said which half is which: picture= is the batch's index")
        found = [i for i, row in enumerate(step.rows) if row.role == half]
        if not found and self.options.halves != "both":
            raise ValueError('only the conditional half was kept: pass halves="both" to record()')
        if not found:
            raise ValueError(f"this run had no {half} half: its guidance was off")
        return found
