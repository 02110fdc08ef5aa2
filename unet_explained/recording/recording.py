"""Recording: what was seen while a model ran, by name, step, head, token and word."""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from ..model import UNetConfig
from .axes import Call
from .heatmaps import average, head_mean, word_map
from .identity import Origin, Text
from .kept import Given, Options, RecordedRun, RecordedStep, Size, Stats
from .nested import tensors
from .patterns import closest, matching, pick

GONE = "the model that was recorded is gone"


class Recording:
    """What a recorder saw.

    calls: every module call of the first forward, in order, with axes, sizes and types.
    runs: a RecordedRun for each run, whatever ran beside it; forwards that nobody calls theirs form
    one for each thread and size. Reads work while a run goes on; of several, run= says which.
    config, dtype: what the model was built from, and its numbers; None for a model without.
    """

    def __init__(
        self, options: Options, names: Sequence[str], model: Callable[[], nn.Module | None]
    ) -> None:
        self.options, self.names = options, names
        self.calls: list[Call] = []
        self.runs: list[RecordedRun] = []
        self._model = model  # weakly: a recording does not keep a model alive
        self.config = _plain(getattr(model(), "config", None))
        self.dtype: torch.dtype | None = getattr(model(), "dtype", None)
        self._runs: dict[object, RecordedRun] = {}
        self._given: deque[RecordedStep] = deque()  # those whose inputs are kept, oldest first
        self._given_bytes, self._uses = 0, Counter[int]()

    def __getstate__(self) -> dict:
        return vars(self) | {"_model": _gone}  # a weak reference cannot be pickled

    def run_of(self, key: object, origin: Origin | None) -> RecordedRun:
        """The run that forwards of this key belong to; it is one of `runs` once a forward ended."""
        return self._runs.setdefault(key, RecordedRun(self.options, origin))

    def file(self, run: RecordedRun, step: RecordedStep, given: Given, left: float) -> None:
        """A forward ended; left: bytes of the budget that its inputs may have, and older ones."""
        if not run.steps:
            run.counts = given.counts
            self.runs.append(run)
        run.steps.append(step)
        step.given = given
        self._given.append(step)
        self._count(given, 1)
        while self._given and self._given_bytes > left:
            oldest = self._given.popleft()
            self._count(oldest.given, -1)
            oldest.given = None

    def _count(self, given: Given | None, by: int) -> None:
        """Bytes of inputs that are kept; forwards of a run share some of them."""
        for tensor in tensors(given):
            storage = tensor.untyped_storage()  # which a view keeps whole
            before = self._uses[storage.data_ptr()]
            self._uses[storage.data_ptr()] += by
            if 0 in (before, before + by):
                self._given_bytes += by * storage.nbytes()

    def __repr__(self) -> str:
        runs = [
            f"{len(run.steps)}{' (unfinished)' if run.finished is False else ''}"
            for run in self.runs
        ]
        layers = len(self.runs[0].layers) if self.runs else 0
        return f"Recording(forwards of each run: {', '.join(runs)}; cross-attentions: {layers})"

    @property
    def shapes(self):
        """The ShapeTable of the first forward."""
        from .shapes import table_of_recording

        return table_of_recording(self)

    @property
    def timesteps(self) -> list[int | float | list]:
        """One a forward."""
        return self._run(None).timesteps

    @property
    def stats(self) -> dict[str, list[Stats]]:
        """stats[name][step] of every module's output (of a tuple: its first tensor)."""
        if not self.options.stats:
            raise ValueError("no statistics were kept: pass stats=True to record()")
        return self._run(None).stats

    @property
    def layers(self) -> dict[str, Size]:
        """The recorded cross-attentions in order of execution, each with its (height, width)."""
        return self._run(None).layers

    def text(
        self, *, run: int | None = None, half: str = "conditional", picture: int | None = None
    ) -> Text:
        """What a picture's row was given, with its tokens and words; ValueError if nobody said."""
        return self._run(run).text(half, picture)

    def __getitem__(self, name: str) -> list:
        return self.values(name)

    def values(self, name: str, *, run: int | None = None) -> list:
        """The outputs of a module, one a forward: a tensor, or a tuple as forward gave it.

        Raises KeyError for a module that is not there or that record() was not asked to keep.
        """
        module = name.partition("#")[0]
        if module not in self.names:
            raise KeyError(f"no module {name!r}{closest(name, self.names)}")
        if not any(fnmatchcase(module, pattern) for pattern in self.options.patterns):
            raise KeyError(f"{name!r} was not kept: pass its name, or a glob, to record()")
        steps = self._run(run).steps
        if name not in steps[0].values:
            raise KeyError(f"{name!r} was not called: a list of modules, or fewer calls than that")
        return [step.values[name] for step in steps]

    def attention(
        self,
        word: str | None = None,
        *,
        occurrence: int | None = None,
        token: int | None = None,
        layer: str | None = None,
        head: int | None = None,
        step: int | None = None,
        run: int | None = None,
        half: str = "conditional",
        picture: int | None = None,
    ) -> Float[Tensor, "height width"]:
        """How much each pixel looks at a word, or at a token by its position: float32, 0 to 1.

        word: also several in a row, a placeholder ("<cat-toy>"), a token by its name
        ("<|endoftext|>"); of the text that the half was given. Its sub-tokens are summed;
        occurrences, heads and steps, unless one is chosen, are averaged, and so are the layers (a
        name, a glob, or None for all), resized to the largest. All, because on the bundled model,
        whose scenes have true masks, that average points right about as often as the best layer of
        each timestep, up to t = 700 (figures/pointing.png).
        half: conditional or unconditional; picture: which one of it, or of the whole batch if
        nobody said whose rows these are. ValueError or IndexError for what there is not, and why.
        """
        chosen = self._with_attention(run)
        if word is not None and token is None:
            occurrences = _find(chosen.text(half, picture), word, occurrence)
        elif token is not None and word is None:
            occurrences = [(token,)]
        else:
            raise ValueError("pass a word, or token=, its position among the prompt's tokens")
        chosen.having(chosen.steps, half, picture)  # or says why there is nothing of it
        maps = []
        for name in matching(layer or "*", chosen.layers, "cross-attention"):
            kept = self._weights(chosen, name, step, head, half, picture)
            size = chosen.layers[name]
            steps = torch.stack([word_map(one, occurrences, size) for one in kept])
            maps.append(rearrange(steps, "... height width -> (...) height width").mean(dim=0))
        return average(maps)

    def weights(
        self,
        layer: str,
        *,
        step: int | None = None,
        head: int | None = None,
        run: int | None = None,
        half: str = "conditional",
        picture: int | None = None,
    ) -> Float[Tensor, "query key"]:
        """The map itself: float32, a row for each pixel in reading order, a column for each token.

        layer: its name, or a glob that fits one. Heads and steps are averaged unless one is chosen.
        Errors as for attention().
        """
        chosen = self._with_attention(run)
        name = _only(matching(layer, chosen.layers, "cross-attention"), "cross-attention")
        kept = self._weights(chosen, name, step, head, half, picture)
        whole = torch.stack([one.float() for one in kept])
        return rearrange(whole, "... query key -> (...) query key").mean(dim=0)

    def _weights(self, run: RecordedRun, layer: str, step, head, half, picture) -> Iterator[Tensor]:
        return run.weights(layer, step=step, head=head, half=half, picture=picture)

    def replay(
        self, step: int, *patterns: str, run: int | None = None, unet=None, **options
    ) -> "Recording":
        """A recorded forward again, under a recorder; patterns and options as for record().

        unet: the model to run it on, if the one that was recorded is gone. Raises IndexError for a
        step that there is not, and ValueError where what it was given is not there any more.
        """
        from .recorder import replayed

        one, model = self._step(step, run), unet if unet is not None else self._model()
        if model is None:
            raise ValueError(f"{GONE}: pass unet=")
        return replayed(model, _whole(one, step), one.batch, *patterns, **options)

    def given(self, step: int, *, run: int | None = None) -> dict[str, Any]:
        """What the UNet was given at a step, by the names of its forward's arguments.

        Raises IndexError for a step that there is not, and ValueError where it is not there.
        """
        return _whole(self._step(step, run), step).by_name

    def why_no_replay(self, step: int, *, run: int | None = None) -> str:
        """Why replay() cannot be had of a step, without unet=; "" if it can."""
        one = self._step(step, run)
        return GONE if self._model() is None else _lacking(one, step)

    def number(self, run: int | None = None) -> int:
        """Which of `runs` is meant: for None the only one. ValueError or IndexError if none is."""
        if not self.runs:
            raise ValueError("nothing was recorded: no forward of the model ended inside `with`")
        if run is None and len(self.runs) > 1:
            last = len(self.runs) - 1
            raise ValueError(f"{last + 1} runs were recorded: pass run=0 to {last}, or read .runs")
        return pick(range(len(self.runs)), run or 0, "run")

    def self_attention(
        self,
        *,
        layer: str,
        step: int | None = None,
        pixel: tuple[int, int] | None = None,
        head: int | None = None,
        run: int | None = None,
        half: str = "conditional",
        picture: int | None = None,
    ) -> Float[Tensor, "height width"] | Float[Tensor, "height width height width"]:
        """Where one pixel (row, column) of a layer looks; without pixel, where each of them does.

        The means over heads and steps unless one is chosen. Errors as for attention().
        """
        chosen = self._run(run)
        if not self.options.self_attention:
            raise ValueError("no self-attention was kept: pass self_attention=True to record()")
        name = _only(matching(layer, chosen.self_layers, "self-attention"), "self-attention")
        size = chosen.self_layers[name]
        queries = slice(None) if pixel is None else [_index(pixel, size)]
        rows = []
        for one, row in chosen.having(chosen.at(step), half, picture):
            pair, batch = one.pairs[name], [row]
            q, k = pair.q[batch], pair.k[batch]
            if head is not None:
                q, k = (pick(part[0], head, "head")[None, None] for part in (q, k))
            mask = None if pair.mask is None else pair.mask[batch]
            rows.append(head_mean(q[:, :, queries], k, mask)[0])
        mean = torch.stack(rows).mean(dim=0)
        shape = dict(zip(("height", "width"), size))
        maps = rearrange(mean, "query (height width) -> query height width", **shape)
        whole = "(height width) row column -> height width row column"
        return maps[0] if pixel is not None else rearrange(maps, whole, **shape)

    def to_pandas(self):
        """A line for each run, picture, layer, step and word; what the numbers are: `measured`.

        Forwards that nobody calls theirs have no words, and no lines. ValueError without attention.
        """
        from .word_table import word_table

        self._with_attention(0 if self.runs else None)
        return word_table(self)

    def save(self, folder: str | Path) -> Path:
        """Into a folder, which Recording.load reads; see storage.save for errors."""
        from .storage import save

        return save(self, folder)

    @staticmethod
    def load(folder: str | Path) -> "Recording":
        """What save() wrote. FileNotFoundError or ValueError for what is no recording."""
        from .storage import load

        return load(folder)

    def _with_attention(self, run: int | None) -> RecordedRun:
        if self.options.attention is None:
            raise ValueError("record(..., attention=None) kept no attention")
        return self._run(run)

    def _run(self, run: int | None) -> RecordedRun:
        return self.runs[self.number(run)]

    def _step(self, step: int, run: int | None) -> RecordedStep:
        return pick(self._run(run).steps, step, "step")


def _find(text: Text, word: str, occurrence: int | None) -> list[tuple[int, ...]]:
    """The tokens of each occurrence of a word in a text, or of one of them."""
    found = text.find(word)
    if not found:
        near = closest(word, text.words)
        raise ValueError(f"{word!r} is not in the prompt: {', '.join(text.words)}{near}")
    return found if occurrence is None else [pick(found, occurrence, "occurrence")]


def _only(names: list[str], what: str) -> str:
    if len(names) > 1:
        raise ValueError(f"choose one of the {what}s {', '.join(names)}")
    return names[0]


def _index(pixel: tuple[int, int], size: Size) -> int:
    """The place of (row, column) in reading order."""
    (row, column), (height, width) = pixel, size
    if not (0 <= row < height and 0 <= column < width):
        raise IndexError(f"pixel {pixel} is outside the layer's {height} x {width}")
    return row * width + column


def _lacking(one: RecordedStep, step: int) -> str:
    """Why what a step was given is not there any more; "" if it is."""
    if one.given is None:
        return f"what step {step} was given is not kept: it did not fit the budget beside the rest"
    return f"what step {step} was given has been written into since" if one.given.changed else ""


def _whole(one: RecordedStep, step: int) -> Given:
    """What a step was given. ValueError if it is not there any more."""
    if one.given is None or one.given.changed:
        raise ValueError(_lacking(one, step))
    return one.given


def _plain(config: Any) -> dict | None:
    """A model's config as config.json has it: of this package a class, of the reference a dict."""
    if config is None:
        return None
    return config.to_dict() if isinstance(config, UNetConfig) else dict(config)


def _gone() -> None:
    """The model of a recording that came from elsewhere."""
