"""Maps of a subject's words at any layer, head, step and half: as recorded, or replayed."""

import math
from collections import OrderedDict
from threading import Lock
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ..recording import Recording, Text
from ..recording.heatmaps import average, resize, word_map
from ..recording.identity import ROLES
from ..recording.patterns import matching, pick
from ..recording.recorded_run import RecordedRun
from .subject import Subject

BUDGET = 10**9  # bytes of maps that are kept: of a full-size checkpoint, those of about 50 steps


class Column(NamedTuple):
    """What one map is of: a word, the start token, or the rest that belongs to no word; where
    nobody said the text, a token by its position, of which the first often takes the most."""

    text: str
    kind: str  # word | start | rest, or first | token
    tokens: tuple[int, ...]


def columns_of(text: Text | None, count: int) -> tuple[Column, ...]:
    """Each of so many tokens stands in exactly one column, so the columns of a pixel sum to 1."""
    if text is None:
        kinds = ["first"] + ["token"] * (count - 1)
        return tuple(Column(f"token {i}", kind, (i,)) for i, kind in enumerate(kinds))
    words = [Column(word.text, "word", word.tokens) for word in text.spans]
    used = {token for word in words for token in word.tokens}
    start, *rest = (token for token in range(count) if token not in used)
    return (Column("start", "start", (start,)), *words, Column("the rest", "rest", tuple(rest)))


def columns_only(
    weights: Float[Tensor, "*head query key"],
    columns: tuple[Column, ...],
    size: tuple[int, int],
) -> Float[Tensor, "*head column height width"]:
    """Weights, summed over the tokens of each column."""
    return torch.stack([word_map(weights, [column.tokens], size) for column in columns], dim=-3)


class WordMaps:
    """The maps of one subject. Steps are replayed when first asked for, and kept within a budget.

    A replay keeps every head and all halves, but of the tokens only their columns. One forward at a
    time, whichever thread asks.
    """

    def __init__(self, subject: Subject, budget: int = BUDGET) -> None:
        self.subject, self.budget = subject, budget
        tokens = subject.run.counts["tokens"]
        self.columns = {half: columns_of(text, tokens) for half, text in subject.texts.items()}
        self.layers = subject.run.layers
        self._kept: OrderedDict[int, dict] = OrderedDict()  # step -> half -> layer -> maps
        self._sums: dict[str, dict[str, Tensor]] = {}  # half -> layer -> maps, over all replays
        self._summed: set[int] = set()
        self._replayed: tuple[int, Recording] | None = None  # the last step with self-attention
        self._lock = Lock()

    def heads(self, layer: str) -> int:
        """How many heads a cross-attention has: as recorded, or as a replay shows."""
        subject = self.subject
        if subject.run.options.attention == "heads":
            return next(s.attention[layer].shape[1] for s in subject.run.steps if s.attention)
        for call in subject.recording.calls:
            if call.name == f"{layer}.attend":
                return call.inputs[0].shape[1]
        with self._lock:
            read = subject.read[subject.first]
            steps = [*filter(self._kept.__contains__, read), *filter(subject.replayable, read)]
            return self._step(steps[0])[subject.first][layer].shape[0]

    def missing(self, head: int | None, step: int | None, half: str) -> list[int]:
        """The steps that must be replayed before maps() can be taken."""
        if self._is_recorded(head, step, half):
            return []
        if step is not None:
            return [] if step in self._kept else [step]
        return [step for step in self.subject.read[half] if step not in self._summed]

    def can(self, head: int | None, step: int | None, half: str) -> bool:
        """Whether maps() can be taken, with replays if need be."""
        return all(map(self.subject.replayable, self.missing(head, step, half)))

    def can_look(self, half: str) -> bool:
        """Whether self_map() can be had of a step."""
        replayable = any(map(self.subject.replayable, self.subject.rows[half]))
        return replayable or self._has_pairs(half)

    def replay(self, step: int) -> None:
        """Makes maps of one step, if they are not kept."""
        with self._lock:
            self._step(step)

    def maps(
        self, layer: str, head: int | None = None, step: int | None = None, half: str = ROLES[0]
    ) -> Float[Tensor, "column height width"]:
        """As Recording.attention: means over heads, steps (None) and layers (a glob), float32.

        IndexError or ValueError for what there is not. Replays what is missing.
        """
        subject = self.subject
        if step in subject.rows[half] and step not in subject.read[half]:
            first = subject.read[half][0]
            raise ValueError(f"These are the words of step {first}: step {step} was given others.")
        with self._lock:
            for number in self.missing(head, step, half):
                self._step(number)
            names = matching(layer, self.layers, "cross-attention")
            size = max((self.layers[name] for name in names), key=math.prod)
            maps = [resize(self._layer(name, head, step, half), size) for name in names]
            return torch.stack(maps).mean(dim=0).cpu()

    def self_map(
        self, row: int, column: int, layer: str, step: int | None, half: str, first: int
    ) -> tuple[Float[Tensor, "height width"], int | None]:
        """Where the pixel (row, column) of the latents looks, and the step this is of.

        Of all steps (None) only if a recording kept them; else of the step `first`.
        """
        with self._lock:
            recording, run, at, step = self._pairs(step, half, first)
            sizes, picture = recording.runs[run].self_layers, self.subject.picture
            crosses = matching(layer, self.layers, "layer")
            full_height, full_width = self.subject.size
            maps = []
            for name in (name for name in sizes if _beside(name, crosses)):
                height, width = sizes[name]
                pixel = row * height // full_height, column * width // full_width
                one = recording.self_attention(
                    layer=name, pixel=pixel, step=at, half=half, run=run, picture=picture
                )
                maps.append(one)
            if not maps:
                raise ValueError(f"{layer} has no self-attention beside it")
            # A weight of a coarse map is shared by the pixels it covers: so layers count alike.
            most = max(heat.numel() for heat in maps)
            maps = [heat.float() * heat.numel() / most for heat in maps]
            return average(maps).cpu(), step

    def pairs(
        self, step: int | None, half: str, first: int
    ) -> tuple[Recording, int, int | None, int | None]:
        """A record of queries and keys, its run, the step there, and the step of this subject."""
        with self._lock:
            return self._pairs(step, half, first)

    def _layer(
        self, name: str, head: int | None, step: int | None, half: str
    ) -> Float[Tensor, "column height width"]:
        if self._is_recorded(head, step, half):
            picture, columns = self.subject.picture, self.columns[half]
            text = self.subject.texts[half]
            weights = self.subject.run.weights(
                name, head=head, step=step, half=half, picture=picture, text=text
            )
            means = [_mean(columns_only(one, columns, self.layers[name])) for one in weights]
            return torch.stack(means).mean(dim=0)
        if step is None:
            maps = self._sums[half][name] / len(self.subject.read[half])
        else:
            maps = self._step(step)[half][name]
        return _mean(maps if head is None else pick(maps, head, "head"))

    def _is_recorded(self, head: int | None, step: int | None, half: str) -> bool:
        """Whether the recorded run holds these."""
        attention = self.subject.run.options.attention
        has_head = attention == "heads" or (head is None and attention is not None)
        has_step = step is None or attention != "sum"
        return has_head and has_step and self.subject.keeps(half)

    def _has_pairs(self, half: str) -> bool:
        return self.subject.run.options.self_attention and self.subject.keeps(half)

    def _step(self, step: int) -> dict[str, dict[str, Tensor]]:
        """half -> layer -> (head, column, height, width), float16; the least used are dropped."""
        if step not in self._kept:
            replayed = self.subject.replay(step, attention="heads", halves="both").runs[0]
            self.layers = self.layers or replayed.layers
            halves = [half for half, steps in self.subject.read.items() if step in steps]
            maps = {half: self._columns_of(replayed, half) for half in halves}
            if step not in self._summed:
                self._add(maps)
                self._summed.add(step)
            self._kept[step] = {
                half: {name: heats.half() for name, heats in layers.items()}
                for half, layers in maps.items()
            }
        self._kept.move_to_end(step)
        while len(self._kept) > 1 and sum(map(_bytes, self._kept.values())) > self.budget:
            self._kept.popitem(last=False)
        return self._kept[step]

    def _columns_of(self, replayed: RecordedRun, half: str) -> dict[str, Tensor]:
        maps = {}
        for name, size in replayed.layers.items():
            weights = replayed.weights(name, half=half, picture=self.subject.picture)
            maps[name] = columns_only(next(weights), self.columns[half], size)
        return maps

    def _add(self, maps: dict[str, dict[str, Tensor]]) -> None:
        for half, layers in maps.items():
            sums = self._sums.setdefault(half, {})
            for name, heats in layers.items():
                sums[name] = sums.get(name, 0) + heats

    def _pairs(
        self, step: int | None, half: str, first: int
    ) -> tuple[Recording, int, int | None, int | None]:
        if self._has_pairs(half):
            return self.subject.recording, self.subject.number, step, step
        step = first if step is None else step
        if self._replayed is None or self._replayed[0] != step:
            keep = dict(attention=None, self_attention=True, halves="both")
            self._replayed = step, self.subject.replay(step, **keep)
        return self._replayed[1], 0, 0, step


def _mean(maps: Float[Tensor, "*head column height width"]) -> Float[Tensor, "column height width"]:
    return maps.float().reshape(-1, *maps.shape[-3:]).mean(dim=0)


def _beside(name: str, crosses: list[str]) -> bool:
    """Whether a self-attention stands in the same block as one of these cross-attentions."""
    return name.rpartition(".")[0] in {cross.rpartition(".")[0] for cross in crosses}


def _bytes(step: dict[str, dict[str, Tensor]]) -> int:
    return sum(heats.nbytes for layers in step.values() for heats in layers.values())
