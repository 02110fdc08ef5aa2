"""Maps of a run's words at any layer, head, step and half: from a recording, or replayed."""

import math
from collections import OrderedDict
from threading import Lock
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ..recording import Recording
from ..recording.heatmaps import average, resize, word_map
from ..recording.kept import RecordedRun
from ..recording.patterns import matching, pick
from ..run.denoise import Run
from ..run.text import Prompt

BUDGET = 10**9  # bytes of maps that are kept: of a full-size checkpoint, those of about 50 steps
HALVES = ("conditional", "unconditional")


class Column(NamedTuple):
    """What one map is of: a word, the start token, or the rest that belongs to no word."""

    text: str
    kind: str  # word | start | rest
    tokens: tuple[int, ...]


def columns_of(prompt: Prompt) -> tuple[Column, ...]:
    """Every token of a prompt stands in exactly one column, so the columns of a pixel sum to 1."""
    words = [Column(word.text, "word", word.tokens) for word in prompt.spans]
    used = {token for word in words for token in word.tokens}
    start, *rest = (token for token in range(prompt.ids.shape[1]) if token not in used)
    return (Column("start", "start", (start,)), *words, Column("the rest", "rest", tuple(rest)))


def columns_only(
    weights: Float[Tensor, "*head query key"],
    columns: tuple[Column, ...],
    size: tuple[int, int],
) -> Float[Tensor, "*head column height width"]:
    """Weights, summed over the tokens of each column."""
    return torch.stack([word_map(weights, [column.tokens], size) for column in columns], dim=-3)


class WordMaps:
    """The maps of one run. Steps are replayed when first asked for, and kept within a budget.

    texts: the prompt of each half that the run had. A replay keeps every head and both halves, but
    of the tokens only their columns. One forward at a time, whichever thread asks.
    """

    def __init__(
        self,
        run: Run,
        texts: dict[str, Prompt],
        recording: Recording | None = None,
        number: int = 0,
        budget: int = BUDGET,
    ) -> None:
        self.run, self.recording, self.number, self.budget = run, recording, number, budget
        self.recorded: RecordedRun | None = recording.runs[number] if recording else None
        self.columns = {half: columns_of(prompt) for half, prompt in texts.items()}
        self.layers: dict[str, tuple[int, int]] = {}
        if self.recorded and self.recorded.options.attention:
            self.layers = self.recorded.layers
        self._kept: OrderedDict[int, dict] = OrderedDict()  # step -> half -> layer -> maps
        self._sums: dict[str, dict[str, Tensor]] = {}  # half -> layer -> maps, over all replays
        self._summed: set[int] = set()
        self._replayed: tuple[int, Recording] | None = None  # the last step with self-attention
        self._lock = Lock()

    def heads(self, layer: str) -> int:
        """How many heads a cross-attention has."""
        attention: Any = self.run.pipeline.unet.get_submodule(layer)
        return attention.heads

    def missing(self, head: int | None, step: int | None, half: str) -> list[int]:
        """The steps that must be replayed before maps() can be taken."""
        if self._recorded_at(head, step, half):
            return []
        if step is not None:
            return [] if step in self._kept else [step]
        return [number for number in range(len(self.run.forwards)) if number not in self._summed]

    def replay(self, step: int) -> None:
        """Makes maps of one step, if they are not kept."""
        with self._lock:
            self._step(step)

    def maps(
        self, layer: str, head: int | None = None, step: int | None = None, half: str = HALVES[0]
    ) -> Float[Tensor, "column height width"]:
        """As Recording.attention: means over heads, steps (None) and layers (a glob), float32.

        IndexError or ValueError for what there is not. Replays what is missing.
        """
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
            recording, run, at, step = self._with_pairs(step, half, first)
            sizes = recording.runs[run].self_layers
            crosses = matching(layer, self.layers, "layer")
            names = [name for name in sizes if _beside(name, crosses)]
            full_height, full_width = self.run.latents.shape[-2:]
            maps = []
            for name in names:
                height, width = sizes[name]
                pixel = row * height // full_height, column * width // full_width
                one = recording.self_attention(layer=name, pixel=pixel, step=at, half=half, run=run)
                maps.append(one)
            if not maps:
                raise ValueError(f"{layer} has no self-attention beside it")
            # A weight of a coarse map is shared by the pixels it covers: so layers count alike.
            most = max(heat.numel() for heat in maps)
            maps = [heat.float() * heat.numel() / most for heat in maps]
            return average(maps).cpu(), step

    def _layer(
        self, name: str, head: int | None, step: int | None, half: str
    ) -> Float[Tensor, "column height width"]:
        if recorded := self._recorded_at(head, step, half):
            weights = recorded.weights(name, head=head, step=step, half=half)
            where = self.columns[half], self.layers[name]
            return torch.stack([_mean(columns_only(one, *where)) for one in weights]).mean(dim=0)
        if step is None:
            maps = self._sums[half][name] / len(self._summed)
        else:
            maps = self._step(step)[half][name]
        return _mean(maps if head is None else pick(maps, head, "head"))

    def _recorded_at(self, head: int | None, step: int | None, half: str) -> RecordedRun | None:
        """The recorded run, if it holds these."""
        if self.recorded is None:
            return None
        options = self.recorded.options
        has_half = half == HALVES[0] or options.halves == "both"
        has_head = options.attention == "heads" or (head is None and options.attention is not None)
        has_step = step is None or options.attention != "sum"
        return self.recorded if has_half and has_head and has_step else None

    def _step(self, step: int) -> dict[str, dict[str, Tensor]]:
        """half -> layer -> (head, column, height, width), float16; the least used are dropped."""
        if step not in self._kept:
            replayed = self.run.replay(step, attention="heads", halves="both").runs[0]
            self.layers = self.layers or replayed.layers
            maps = {half: self._columns_of(replayed, half) for half in self.columns}
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
            weights = replayed.weights(name, half=half)
            maps[name] = columns_only(next(weights), self.columns[half], size)
        return maps

    def _add(self, maps: dict[str, dict[str, Tensor]]) -> None:
        for half, layers in maps.items():
            sums = self._sums.setdefault(half, {})
            for name, heats in layers.items():
                sums[name] = sums.get(name, 0) + heats

    def _with_pairs(
        self, step: int | None, half: str, first: int
    ) -> tuple[Recording, int, int | None, int | None]:
        """A recording with queries and keys, its run, the step there, and the step of this run."""
        recording = self.recording
        has_half = recording and (half == HALVES[0] or recording.options.halves == "both")
        if recording and has_half and recording.options.self_attention:
            return recording, self.number, step, step
        step = first if step is None else step
        if self._replayed is None or self._replayed[0] != step:
            keep = dict(attention=None, self_attention=True, halves="both")
            self._replayed = step, self.run.replay(step, **keep)
        return self._replayed[1], 0, 0, step


def _mean(maps: Float[Tensor, "*head column height width"]) -> Float[Tensor, "column height width"]:
    return maps.float().reshape(-1, *maps.shape[-3:]).mean(dim=0)


def _beside(name: str, crosses: list[str]) -> bool:
    """Whether a self-attention stands in the same block as one of these cross-attentions."""
    return name.rpartition(".")[0] in {cross.rpartition(".")[0] for cross in crosses}


def _bytes(step: dict[str, dict[str, Tensor]]) -> int:
    return sum(heats.nbytes for layers in step.values() for heats in layers.values())
