"""Recording: what was seen while a model ran, by name, step, head, token and word."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from fnmatch import fnmatchcase

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from .axes import Call
from .heatmaps import average, head_mean, word_map
from .kept import Options, RecordedRun, Size, Stats
from .patterns import closest, matching, pick


class Recording:
    """What a recorder saw. A context manager: it watches the model inside `with`, once.

    calls: every module call of the first forward, in order, with axes, sizes and types.
    runs: a RecordedRun for each announced run, and for forwards that no pipeline announced.
    Reads work while a run goes on; of several runs, run= says which.
    """

    def __init__(
        self,
        options: Options,
        names: Sequence[str],
        attach: Callable[["Recording"], AbstractContextManager],
    ) -> None:
        self.options, self.names = options, names
        self.calls: list[Call] = []
        self.runs: list[RecordedRun] = []
        self._attach: Callable[["Recording"], AbstractContextManager] | None = attach
        self._attached = ExitStack()

    def __enter__(self) -> "Recording":
        if self._attach is None:
            raise RuntimeError("a recorder is used once: call record() again")
        # Nothing here may keep the model alive once the recording is over.
        attach, self._attach = self._attach, None
        self._attached.enter_context(attach(self))
        return self

    def __exit__(self, *error) -> None:
        self._attached.close()

    def __repr__(self) -> str:
        forwards = [len(run.steps) for run in self.runs]
        layers = len(self.runs[0].layers) if self.runs else 0
        return f"Recording(forwards of each run: {forwards}, cross-attentions: {layers})"

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

        Sub-tokens are summed; occurrences, heads and steps, unless one is chosen, are averaged, and
        so are the layers (a name, a glob, or None for all), resized to the largest. All, because
        on the bundled model, whose scenes have true masks, that average points right about as
        often as the best layer of each timestep, up to t = 700 (figures/pointing.png).
        half: conditional or unconditional; picture: which one of it, or of the whole batch if no
        pipeline announced the run. ValueError or IndexError for what there is not, and why.
        """
        chosen = self._run(run)
        if self.options.attention is None:
            raise ValueError("record(..., attention=None) kept no attention")
        if word is not None and token is None:
            occurrences = _find(chosen, word, occurrence, half)
        elif word is None and token is not None:
            occurrences = [(token,)]
        else:
            raise ValueError("pass a word, or token=, its position among the prompt's tokens")
        maps = []
        for name in matching(layer or "*", chosen.layers, "cross-attention"):
            weights = chosen.weights(name, head=head, step=step, half=half, picture=picture)
            size = chosen.layers[name]
            steps = torch.stack([word_map(one, occurrences, size) for one in weights])
            maps.append(rearrange(steps, "... height width -> (...) height width").mean(dim=0))
        return average(maps)

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
        layers = matching(layer, chosen.self_layers, "self-attention")
        if len(layers) > 1:
            raise ValueError(f"choose one of the self-attentions {', '.join(layers)}")
        size = chosen.self_layers[layers[0]]
        queries = slice(None) if pixel is None else [_index(pixel, size)]
        rows = []
        for pair in (one.pairs[layers[0]] for one in chosen.at(step)):
            batch = [chosen.row(len(pair.q), half, picture)]
            q, k = pair.q[batch], pair.k[batch]
            if head is not None:
                q, k = (pick(one[0], head, "head")[None, None] for one in (q, k))
            mask = None if pair.mask is None else pair.mask[batch]
            rows.append(head_mean(q[:, :, queries], k, mask)[0])
        mean = torch.stack(rows).mean(dim=0)
        shape = dict(zip(("height", "width"), size))
        maps = rearrange(mean, "query (height width) -> query height width", **shape)
        whole = "(height width) row column -> height width row column"
        return maps[0] if pixel is not None else rearrange(maps, whole, **shape)

    def _run(self, run: int | None) -> RecordedRun:
        if not self.runs:
            raise ValueError("nothing was recorded: no forward of the model ended inside `with`")
        if run is None and len(self.runs) > 1:
            last = len(self.runs) - 1
            raise ValueError(f"{last + 1} runs were recorded: pass run=0 to {last}, or read .runs")
        return pick(self.runs, run or 0, "run")


def _find(run: RecordedRun, word: str, occurrence: int | None, half: str) -> list[tuple[int, ...]]:
    """The tokens of each occurrence of a word in the announced prompt; upper case may differ."""
    if run.announcement is None:
        raise ValueError(
            "no pipeline announced a prompt here, so no word is known: pass token=, its position"
        )
    if half != "conditional":
        raise ValueError(
            "words are the prompt's, and this half was given another text: pass token="
        )
    words = run.announcement.words
    found = [one.tokens for one in words if one.text == word]
    found = found or [one.tokens for one in words if one.text.lower() == word.lower()]
    if not found:
        raise ValueError(f"{word!r} is not in the prompt: {', '.join(one.text for one in words)}")
    return found if occurrence is None else [pick(found, occurrence, "occurrence")]


def _index(pixel: tuple[int, int], size: Size) -> int:
    """The place of (row, column) in reading order."""
    (row, column), (height, width) = pixel, size
    if not (0 <= row < height and 0 <= column < width):
        raise IndexError(f"pixel {pixel} is outside the layer's {height} x {width}")
    return row * width + column
