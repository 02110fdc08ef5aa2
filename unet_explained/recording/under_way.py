"""A forward that has begun: what waits for its end, to be worked on together."""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import nullcontext
from threading import local

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..model import attention_weights
from .budget import Foreseen
from .given import Given
from .heatmaps import head_mean
from .identity import depth_of
from .kept import RecordedStep, Stats
from .pairs import Pair, Size
from .recorded_run import RecordedRun

HELD = 256 * 2**20  # bytes that may wait for the forward's end, to be worked on together
SMALL = 2**20  # bytes of an output that is worth copying beside others, to be looked at with them


class UnderWay:
    """A forward that has begun: it is its recorder's and its thread's, and filed when it ends."""

    def __init__(
        self, run: RecordedRun, step: RecordedStep, given: Given, foreseen: Foreseen
    ) -> None:
        self.run, self.step, self.given, self.foreseen = run, step, given, foreseen
        self.size: Size = (0, 0)  # height and width in the transformer that now runs
        self.attended: dict[str, None] = {}  # calls of attentions
        self.held: list[tuple[str, Pair]] = []  # cross-attentions whose weights are not derived yet
        self.bytes = 0  # of these
        self.outputs: list[tuple[str, Tensor]] = []  # small ones, to be looked at together
        self.output_bytes = 0
        self.calls: dict[str, None] = {}  # of modules with statistics, in order
        self.looks: list[tuple[list[str], Tensor]] = []  # statistics of outputs, by their names

    def as_called(self, name: str) -> str:
        """What this call of an attention is kept under."""
        key = unused(name, self.attended)
        self.attended[key] = None
        return key

    @property
    def forwards(self) -> int:
        """How many forwards this one counts for: the first of a run of known length for all."""
        origin = self.run.origin
        if origin is None or origin.forwards is None:
            return 1
        if self.run.steps:
            return int(len(self.run.steps) >= origin.forwards)  # more than it said count too
        return origin.forwards

    @torch.no_grad()
    def derive(self, mode: str | None) -> None:
        """The weights of all that is held, one product for each group of layers of one shape."""
        if not self.held:
            return
        groups: dict[tuple, list[tuple[str, Pair]]] = defaultdict(list)
        for name, pair in self.held:
            groups[pair.q.shape, pair.k.shape, _form(pair)].append((name, pair))
        # Under autocast the product would not be in float32; there is none on meta.
        device = self.held[0][1].q.device.type
        there = torch.amp.is_autocast_available(device)
        with torch.autocast(device, enabled=False) if there else nullcontext():
            for layers in groups.values():
                names, pairs = zip(*layers)
                weights = _weights_of(pairs, self.step.rows_slice, mode)
                self.step.attention.update(zip(names, weights.chunk(len(names))))
        self.held, self.bytes = [], 0

    @torch.no_grad()
    def look(self, name: str, x: Tensor) -> None:
        """Statistics at once, or of a copy: diffusers' FreeU and adapters write into it later."""
        self.calls[key := unused(name, self.calls)] = None
        if x.nbytes >= SMALL:
            self.looks.append(([key], _statistics(x[None])))
            return
        self.outputs.append((key, x.clone()))
        self.output_bytes += x.nbytes
        if self.output_bytes > HELD:
            self.look_closer()

    @torch.no_grad()
    def look_closer(self) -> None:
        """The statistics of the small outputs, one product for all of one shape."""
        groups: dict[tuple, list[tuple[str, Tensor]]] = defaultdict(list)
        for name, x in self.outputs:
            groups[x.shape, x.dtype].append((name, x))
        for group in groups.values():
            names, outputs = zip(*group)
            self.looks.append((list(names), _statistics(torch.stack(outputs))))
        self.outputs, self.output_bytes = [], 0

    def statistics(self, looks: list[tuple[list[str], Tensor]]) -> dict[str, Stats]:
        """Of each call, in order, from `looks` once it has arrived where it is kept."""
        found = {key: row for keys, rows in looks for key, row in zip(keys, rows.tolist())}
        each = ((key, found[key]) for key in self.calls)
        return {key: Stats(mean, std, *rest) for key, (std, mean, *rest) in each}


class Inside:
    """The forwards that a thread is in, the innermost last: a hook may call the model again.

    An interrupted one is told by its depth, at which another one begins or around which one ends.
    """

    def __init__(self) -> None:
        self._forwards: list[tuple[int, UnderWay | None]] = []

    @property
    def now(self) -> UnderWay | None:
        return self._forwards[-1][1] if self._forwards else None

    def enter(self, depth: int) -> bool:
        """At so many calls of the model; whether that is inside another forward."""
        while self._forwards and self._forwards[-1][0] >= depth:
            self._forwards.pop()
        self._forwards.append((depth, None))
        return len(self._forwards) > 1

    def begin(self, now: UnderWay | None) -> None:
        """What is to be recorded of the forward that was entered."""
        self._forwards[-1] = self._forwards[-1][0], now

    def leave(self, module: nn.Module) -> UnderWay | None:
        """The forward that ends; None if it is not recorded, or not whole."""
        _, now = self._forwards.pop() if self._forwards else (0, None)
        if self._forwards and depth_of(module) <= self._forwards[-1][0]:
            self._forwards.pop()  # the last was inside this one and never ended: neither is whole
            return None
        return now


class OfThread(local):
    """What each thread has of its own."""

    def __init__(self) -> None:
        self.forwards = Inside()
        self.key = object()  # what the system calls a thread is given to the next one too
        self.context: object = None  # the text of its last forward

    @property
    def now(self) -> UnderWay | None:
        """The forward that this thread is in; None outside of one of the whole model."""
        return self.forwards.now


def _weights_of(pairs: Sequence[Pair], rows: slice | list[int], mode: str | None) -> Tensor:
    """Of these rows of attentions of one shape, one after the other, as they are kept."""
    q, k = (torch.cat([part[rows] for part in parts]) for parts in list(zip(*pairs))[:2])
    masks = [pair.mask[rows] for pair in pairs if pair.mask is not None]
    mask = torch.cat(masks) if masks else None
    weights = (attention_weights if mode == "heads" else head_mean)(q, k, mask)
    weights = weights[..., : pairs[0].text]
    return weights if mode == "sum" else weights.half()


def _form(pair: Pair) -> tuple:
    """What must be the same of pairs that are worked on together, beside q's and k's shapes."""
    return pair.q.dtype, None if pair.mask is None else pair.mask.shape, pair.text


def _statistics(outputs: Float[Tensor, "output *any"]) -> Float[Tensor, "output 5"]:
    """Deviation, mean, least, largest, and the share that is NaN or infinite, of each output."""
    x = outputs.reshape(len(outputs), -1).float()
    low, high = x.aminmax(dim=1)
    bad = (x - x).count_nonzero(dim=1) / x.shape[1]  # 0 for every number but these
    return torch.stack([*torch.std_mean(x, dim=1, correction=0), low, high, bad], dim=1)


def unused(name: str, kept: dict) -> str:
    """The name, or for a further call of the same module in one forward, name#2, name#3 ..."""
    key, count = name, 1
    while key in kept:
        key, count = f"{name}#{count + 1}", count + 1
    return key
