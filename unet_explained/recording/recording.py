"""Recording: what was seen while a model ran, by name, step, head, token and word."""

import copy
from fnmatch import fnmatchcase
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from ..words import brief, closest
from .identity import Text
from .kept import Stats
from .maps import Maps
from .nested import copied
from .pairs import Size
from .patterns import Layers, Steps
from .replaying import Replaying


class Recording(Replaying):
    """What a recorder saw.

    calls: every module call of the first forward, in order, with axes, sizes and types.
    runs: a RecordedRun for each run, whatever ran beside it; forwards that nobody calls theirs form
    one for each thread and size. Reads work while a run goes on; of several, run= says which.
    config, dtype: what the model was built from, and its numbers; None for a model without.
    What is read is a copy, which may be written into. The tensors in `runs` alone are the record
    itself: read them, and write nothing into them.
    """

    def __repr__(self) -> str:
        unfinished: dict[bool | None, str] = {False: " (unfinished)"}
        runs = [f"{len(run.steps)}{unfinished.get(run.finished, '')}" for run in self.runs]
        layers = len(self.runs[0].layers) if self.runs else 0
        return f"Recording(forwards of each run: {', '.join(runs)}; cross-attentions: {layers})"

    @property
    def config(self) -> dict | None:
        return copy.deepcopy(self._config)

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
    def stats(self) -> dict[str, list[Stats | None]]:
        """stats[name][step] of every module's output (of a tuple: its first tensor)."""
        if not self.options.stats:
            raise ValueError("no statistics were kept: pass stats=True to record()")
        return self._run(None).stats

    @property
    def layers(self) -> dict[str, Size]:
        """The recorded cross-attentions in order of execution, each with its (height, width)."""
        return Maps(self._run(None), self.failed).layers

    @property
    def texts(self) -> tuple[Text, ...]:
        """The texts that were read, of all runs, each once."""
        return tuple(dict.fromkeys(text for run in self.runs for text in run.texts))

    @property
    def unknown(self) -> list[str]:
        """What could not be known, and why: of runs their rows, of attentions their maps."""
        runs = (f"run {i}: {why}" for i, run in enumerate(self.runs) for why in run.unknown)
        unproved = [name for name in self.unproved if name not in self.failed]
        return [
            *runs,
            *(f"no map of {why}" for why in self.failed.values()),
            *(
                f"whether the maps of {name} are right: its numbers were never finite"
                for name in unproved
            ),
        ]

    def name(self, embeddings: Tensor, text: str) -> int:
        """Say what text embeddings are of, which came from elsewhere: now its words have maps.

        embeddings: (row, token, channel), as the pipeline was given them, before or after it ran.
        text: as the encoder read it, without the marks of weights. Said again, the later one holds.
        Returns how many recorded rows that named. ValueError where the text's tokens cannot be at
        these places, or where nothing can read it.
        """
        if self._reader is None:
            raise ValueError("no tokenizer can be asked here: record the pipeline, not its UNet")
        found, contents = self._reader.read(embeddings, text)
        return sum(run.name(found, contents) for run in self.runs)

    def text(
        self, *, run: int | None = None, half: str = "conditional", picture: int | None = None
    ) -> Text:
        """What a picture's row was given, with its tokens and words; ValueError if nobody said.

        If a callback changed it, the first; all are in `texts`.
        """
        return self._run(run).text(half, picture)

    def __getitem__(self, name: str) -> list:
        return self.values(name)

    def values(self, name: str, *, run: int | None = None) -> list:
        """The outputs of a module, one a forward: a tensor, or a tuple as forward gave it.

        Copies, made for each call of this; None in the place of a forward that did not call it.
        Raises KeyError for a module that is not there or that record() was not asked to keep.
        """
        if not isinstance(name, str):
            raise TypeError(f"expected a module's name, got a {type(name).__name__}: {brief(name)}")
        module = name.partition("#")[0]
        if module not in self.names:
            raise KeyError(f"no module {brief(name)}{closest(name, self.names)}")
        if not any(fnmatchcase(module, pattern) for pattern in self.options.patterns):
            raise KeyError(f"{name!r} was not kept: pass its name, or a glob, to record()")
        steps = self._run(run).steps
        if not any(name in step.values for step in steps):
            raise KeyError(f"{name!r} was not called: a list of modules, or fewer calls than that")
        return [copied(step.values.get(name)) for step in steps]

    def attention(
        self,
        word: str | None = None,
        *,
        occurrence: int | None = None,
        token: int | None = None,
        layer: Layers = None,
        head: int | None = None,
        step: Steps = None,
        run: int | None = None,
        half: str = "conditional",
        picture: int | None = None,
        method: str = "mean",
        image_prompt: int | None = None,
    ) -> Float[Tensor, "height width"]:
        """How much each pixel looks at a word, or at a token by its position: float32, 0 to 1.

        word: also several in a row, a placeholder ("<cat-toy>"), a token by its name
        ("<|endoftext|>"); of the text that the half was given, or of those, each at its own steps,
        that a callback gave it. Its sub-tokens are summed; occurrences, heads and steps (one, or
        several, as range(10)) are averaged unless chosen, and so are the layers (a name, a glob, a
        list of these, or None for all), resized to the largest. All, because on the bundled model,
        whose scenes have true masks, that average points right about as often as the best layer of
        each timestep, up to t = 700 (figures/pointing.png).
        half: conditional or unconditional, with "#2" for a second row of the same text and picture;
        picture: which one of it, or of the whole batch if nobody said whose rows these are.
        method: "daam" for that tool's own sums over steps (Tang et al. 2023), exact where every
        head was kept. image_prompt: of an IP-Adapter's image, whose tokens are given by position.
        ValueError or IndexError for what there is not, and why.
        """
        maps = self._maps(run)
        where = layer, head, step, half, picture
        return maps.map(word, occurrence, token, *where, method, image_prompt)

    def weights(
        self,
        layer: str,
        *,
        step: Steps = None,
        head: int | None = None,
        run: int | None = None,
        half: str = "conditional",
        picture: int | None = None,
        image_prompt: int | None = None,
    ) -> Float[Tensor, "query key"]:
        """The map itself: float32, a row for each pixel in reading order, a column for each token.

        layer: its name, or a glob that fits one. Heads and steps are averaged unless one is chosen.
        Errors as for attention().
        """
        return self._maps(run).weights(layer, step, head, half, picture, image_prompt)

    def self_attention(
        self,
        *,
        layer: str,
        step: Steps = None,
        pixel: tuple[int, int] | None = None,
        head: int | None = None,
        run: int | None = None,
        half: str = "conditional",
        picture: int | None = None,
    ) -> Float[Tensor, "height width"] | Float[Tensor, "height width height width"]:
        """Where one pixel (row, column) of a layer looks; without pixel, where each of them does.

        The means over heads and steps unless one is chosen. Errors as for attention().
        """
        where = layer, step, pixel, head, half, picture
        return Maps(self._run(run), self.failed).self_attention(*where)

    def to_pandas(self):
        """A line for each run, picture, layer, step and word; what the numbers are: `measured`.

        Forwards that nobody calls theirs have no words, and no lines. ValueError without attention.
        """
        from .word_table import word_table

        self._maps(0 if self.runs else None)
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

    def _maps(self, run: int | None) -> Maps:
        if self.options.attention is None:
            raise ValueError("record(..., attention=None) kept no attention")
        return Maps(self._run(run), self.failed)
