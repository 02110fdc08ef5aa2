"""A recording as recorders fill it, run by run; what can be asked of it is in recording.py."""

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

import torch
from torch import nn

from .axes import Call
from .given import Given, Inputs
from .identity import Origin, Reader
from .kept import Options, RecordedStep
from .nonfinite import Nonfinite
from .patterns import config_of, pick
from .recorded_run import RecordedRun


class Filing:
    """The forwards that ended, in their runs."""

    def __init__(
        self,
        options: Options,
        names: Sequence[str],
        model: Callable[[], nn.Module | None],
        reader: Reader | None = None,
    ) -> None:
        self.options = options
        self.names: tuple[str, ...] = ()
        self.kept: set[str] = set()  # the modules whose outputs are asked for
        self.see_names(names)
        self.failed: dict[str, str] = {}  # attentions without maps, and why
        self.unproved: tuple[str, ...] = ()  # those with maps of which nobody could tell yet
        self.calls: tuple[Call, ...] = ()
        self.runs: tuple[RecordedRun, ...] = ()
        self._model = model  # weakly: a recording does not keep a model alive
        self._reader = reader
        self._config = config_of(model())
        self.dtype: torch.dtype | None = getattr(model(), "dtype", None)
        self._runs: dict[object, RecordedRun] = {}
        self._inputs = Inputs()
        self._nonfinite: dict[tuple[int, int], Nonfinite] = {}  # by run and step

    def __getstate__(self) -> dict:
        # Neither a weak reference can be pickled, nor who reads somebody's pipeline.
        return vars(self) | {"_model": no_model, "_reader": None}

    def see_names(self, names: Sequence[str]) -> None:
        """The modules that the model has, or now has too."""
        self.names = tuple(dict.fromkeys([*self.names, *names]))
        globs = self.options.patterns
        self.kept = {name for name in self.names if any(fnmatchcase(name, g) for g in globs)}

    def run_of(self, key: object, origin: Origin | None) -> RecordedRun:
        """The run that forwards of this key belong to; it is one of `runs` once a forward ended."""
        return self._runs.setdefault(key, RecordedRun(self.options, origin))

    def file(self, run: RecordedRun, step: RecordedStep, given: Given, left: float) -> None:
        """A forward ended; left: bytes of the budget that its inputs may have, and older ones."""
        if not run.steps:
            run.counts = given.counts
            self.runs = (*self.runs, run)
        run.steps = (*run.steps, step)
        self._inputs.keep(step, given, left)

    def number(self, run: int | None = None) -> int:
        """Which of `runs` is meant: for None the only one. ValueError or IndexError if none is."""
        if not self.runs:
            raise ValueError("nothing was recorded: no forward of the model ended inside `with`")
        if run is None and len(self.runs) > 1:
            last = len(self.runs) - 1
            raise ValueError(f"{last + 1} runs were recorded: pass run=0 to {last}, or read .runs")
        return pick(range(len(self.runs)), 0 if run is None else run, "run")

    def _run(self, run: int | None) -> RecordedRun:
        return self.runs[self.number(run)]

    def _step(self, step: int, run: int | None) -> RecordedStep:
        return pick(self._run(run).steps, step, "step")


def no_model() -> None:
    """The model of a recording that came from elsewhere."""
