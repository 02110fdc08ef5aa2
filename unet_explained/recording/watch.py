"""record(): hooks that observe a UNet and never change what it computes."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from weakref import WeakKeyDictionary, WeakSet, ref

import torch
from torch import nn

from . import memory
from .axes import Trace
from .budget import Budget
from .given import Given
from .hooks import Hooks
from .identity import Identity, Origin, Reader, Row, identified
from .kept import Options
from .nested import changed
from .nonfinite import say
from .patterns import device_of, matching, uncompiled
from .processors import autocast_as, running_with
from .recorder import Recorder
from .recording import Recording
from .under_way import Inside

CHOICES = {"attention": ("mean", "heads", "sum", None), "halves": ("conditional", "both")}


def record(
    model: nn.Module,
    *patterns: str,
    attention: str | None = "mean",
    self_attention: bool = False,
    halves: str = "conditional",
    stats: bool = False,
    budget: str | int = "2GB",
    device: str | torch.device = "cpu",
    reader: Reader | None = None,
) -> "Watch":
    """Watch a UNet: `with record(unet, "mid_block*") as rec: ...`. It computes the same as ever.

    patterns: globs over module names in which * crosses dots; their outputs are kept.
    attention: of every cross-attention the mean of its heads ("mean", float16), every head
    ("heads", float16), the sum over steps of the means ("sum", float32), or nothing (None).
    self_attention: queries and keys are kept too. halves: of a run that says which rows are its
    prompt's, those or both; of any other, the whole batch. stats: of every module's output.
    budget: bytes that may be kept in all, as far as there are; device: where they are kept. What
    each forward was given is kept in what room is left, for Recording.replay. reader: who says
    whose a forward is, of a loop that does not say it itself.
    A run whose output is not finite is said once, as the `with` ends: a NonfiniteWarning.
    Raises ValueError for what does not fit, TypeError for what is no UNet or no pattern, and, from
    within the first forward that shows it, BudgetError for more than the budget.
    """
    unet = uncompiled(model)
    for option, value in (("attention", attention), ("halves", halves)):
        if value not in CHOICES[option]:
            raise ValueError(f"{option}={value!r}: expected one of {CHOICES[option]}")
    names = [name for name, _ in unet.named_modules()]
    for pattern in patterns:
        matching(pattern, names, "module")
    device = device_of(device)
    options = Options(patterns, attention, self_attention, halves, stats, device)
    recording = Recording(options, names, ref(unet), reader)
    limit = Budget(budget, _advice(options), memory.room(device))
    return Watch(unet, recording, limit, reader)


def _advice(options: Options) -> dict[str, str]:
    """What to drop if a kind of record is the largest."""
    lighter = {"heads": '"mean"', "mean": '"sum"', "sum": "None", None: "None"}[options.attention]
    half = ' or halves="conditional"' if options.halves == "both" else ""
    return {
        "attention": f"Pass attention={lighter}{half}",
        "self-attention": f"Drop self_attention=True{half}",
        "values": f"Choose fewer modules than {', '.join(options.patterns)}",
    }


# Who now records a model: of recorders inside one another one speaks for all.
_OPEN: "WeakKeyDictionary[nn.Module, WeakSet[Watch]]" = WeakKeyDictionary()


class Watch:
    """What record() returns: a context manager, to be entered once, that gives the Recording.

    It alone holds the hooks: so they end with the `with` also where its end is interrupted.
    """

    def __init__(
        self, unet: nn.Module, recording: Recording, budget: Budget, reader: Reader | None
    ) -> None:
        self._recording, self._trace = recording, Trace(unet)
        self._open = _OPEN.setdefault(unet, WeakSet())
        self._recorder = Recorder(recording, budget, ref(self._trace), reader)
        self._hooks = Hooks(partial(self._recorder.place, unet))
        self._parts = [self._trace, self._hooks, *(reader.watching() if reader else ())]
        self._used = False

    def of(self, origin: Origin) -> "Watch":
        """To see this run alone, whatever else runs on the model."""
        self._recorder.only = origin
        return self

    def __getattr__(self, name: str):
        raise AttributeError(
            f"record() has no {name!r}: the Recording is what `with record(...) as rec` gives"
        )

    def __enter__(self) -> Recording:
        if self._used:
            raise RuntimeError("a recorder is used once: call record() again")
        self._used = True
        try:
            for part in self._parts:
                part.__enter__()
        except BaseException:
            self.__exit__()
            raise
        self._open.add(self)
        return self._recording

    def __exit__(self, kind=None, error: BaseException | None = None, trace=None) -> None:
        for part in reversed(self._parts):
            part.close()
        self._open.discard(self)
        self._recorder.thread.forwards = Inside()  # a forward that did not end holds what it saw
        memory.note(error)
        if error is None:
            say(self._recording, [other._recording for other in self._open])


def replayed(
    unet: nn.Module, given: Given, rows: tuple[Row, ...], *patterns: str, **options
) -> Recording:
    """One forward again, of these arguments, under a recorder; options as for record()."""
    origin = Origin(forwards=1, told=True)
    watch = record(unet, *patterns, **options).of(origin)
    with as_then(unet, given), watch as recording, identified(Identity(origin, rows), unet):
        unet(**changed(given.by_name, lambda tensor: tensor))  # diffusers' takes from its lists
    origin.finished = True
    return recording


@contextmanager
def as_then(unet: nn.Module, given: Given) -> Iterator[None]:
    """Inside, a model runs as it did when it was given this: its processors, its autocast."""
    cast = autocast_as(given.by_name["sample"].device.type, given.autocast)
    with running_with(uncompiled(unet), given.processors), cast, torch.no_grad():
        yield
