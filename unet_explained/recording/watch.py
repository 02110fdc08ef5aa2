"""record(): hooks that observe a UNet and never change what it computes."""

from functools import partial
from weakref import ref

import torch
from torch import nn

from .axes import Trace
from .budget import Budget
from .given import Given
from .hooks import Hooks
from .identity import Identity, Origin, Reader, Row, identified
from .kept import Options
from .nested import changed
from .patterns import matching, uncompiled
from .processors import autocast_as, running_with
from .recorder import Recorder
from .recording import Recording

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
    budget: bytes that may be kept in all; device: where they are kept. What each forward was given
    is kept in what room is left, for Recording.replay. reader: who says whose a forward is, of a
    loop that does not say it itself.
    Raises ValueError for a pattern that fits no module, TypeError for what is no UNet, and, from
    within the first forward that shows it, BudgetError for more than the budget.
    """
    unet = uncompiled(model)
    for option, value in (("attention", attention), ("halves", halves)):
        if value not in CHOICES[option]:
            raise ValueError(f"{option}={value!r}: expected one of {CHOICES[option]}")
    names = [name for name, _ in unet.named_modules()]
    for pattern in patterns:
        matching(pattern, names, "module")
    options = Options(patterns, attention, self_attention, halves, stats, device)
    recording = Recording(options, names, ref(unet), reader)
    return Watch(unet, recording, Budget(budget, _advice(options)), reader)


def _advice(options: Options) -> dict[str, str]:
    """What to drop if a kind of record is the largest."""
    lighter = {"heads": '"mean"', "mean": '"sum"', "sum": "None", None: "None"}[options.attention]
    half = ' or halves="conditional"' if options.halves == "both" else ""
    return {
        "attention": f"Pass attention={lighter}{half}",
        "self-attention": f"Drop self_attention=True{half}",
        "values": f"Choose fewer modules than {', '.join(options.patterns)}",
    }


class Watch:
    """What record() returns: a context manager, to be entered once, that gives the Recording.

    It alone holds the hooks: so they end with the `with` also where its end is interrupted.
    """

    def __init__(
        self, unet: nn.Module, recording: Recording, budget: Budget, reader: Reader | None
    ) -> None:
        self._recording, self._trace = recording, Trace(unet)
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
        return self._recording

    def __exit__(self, *error) -> None:
        for part in reversed(self._parts):
            part.close()


def replayed(
    unet: nn.Module, given: Given, rows: tuple[Row, ...], *patterns: str, **options
) -> Recording:
    """One forward again, of these arguments, under a recorder; options as for record()."""
    origin = Origin(forwards=1)
    watch = record(unet, *patterns, **options).of(origin)
    as_then = running_with(uncompiled(unet), given.processors)
    cast = autocast_as(given.by_name["sample"].device.type, given.autocast)
    with (
        as_then,
        cast,
        watch as recording,
        identified(Identity(origin, rows), unet),
        torch.no_grad(),
    ):
        unet(**changed(given.by_name, lambda tensor: tensor))  # diffusers' takes from its lists
    origin.finished = True
    return recording
