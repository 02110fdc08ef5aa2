"""What is not finite: the first forward whose output is not, and the module that made it so."""

import warnings
from collections.abc import Iterable, Iterator
from threading import get_ident
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .given import whole
from .hooks import Hooks, called_modules
from .identity import ASIDE, Identity, identified
from .kept import RecordedStep
from .nested import changed, first, tensors
from .patterns import arguments_of
from .recorded_run import RecordedRun


class NonfiniteWarning(RuntimeWarning):
    """A run, or its picture, is not finite: NaN or Inf, and black or grey to look at."""


class Nonfinite(NamedTuple):
    """The first forward whose output is not finite, and what made it so. str() is a sentence.

    rows: of its batch, those that are not finite. kind: "NaN", "Inf" or "NaN and Inf".
    module: by name, which was given finite numbers alone; "" for the UNet itself, None if it is not
    known. given: the argument of the UNet that was not finite already, else "".
    replayed: found by running that forward again; else it is the first among what was recorded.
    why: what the module's parts or numbers say of it, or why it could not be found.
    """

    run: int
    step: int
    rows: tuple[int, ...]
    kind: str
    module: str | None
    given: str = ""
    replayed: bool = True
    why: str = ""

    def __str__(self) -> str:
        place = f"step {self.step}" + (f" of run {self.run}" if self.run else "")
        rows = f"row{'s' * (len(self.rows) > 1)} {', '.join(map(str, self.rows))}"
        if self.given:
            made = f"it was given {self.kind} in {self.given}"
        elif self.module is None:
            made = f"it gave {self.kind}, and nothing that was recorded shows which module made it"
        else:
            named = self.module or "the UNet itself, between its modules,"
            made = (
                f"{named} {'made' if self.replayed else 'is the first recorded with'} {self.kind}"
            )
        return f"the UNet's output is not finite from {place} on, in {rows}: {made}; {self.why}"


def extent(output) -> Float[Tensor, "batch"] | None:
    """The largest size in each row of what a model gave: NaN or Inf if there is one in it.

    It stays on its device, where nobody waits for it.
    """
    x = first(output)
    if x is None or x.ndim < 2 or not x.numel() or not x.is_floating_point() or x.is_meta:
        return None
    return x.detach().abs().amax(dim=tuple(range(1, x.ndim)))


def first_nonfinite(recording) -> Nonfinite | None:
    """As Recording.first_nonfinite."""
    for number, run in enumerate(list(recording.runs)):
        if place := _place(run):
            return _found(recording, number, *place)
    return None


def say(recording, beside: Iterable = ()) -> None:
    """Warns of the first run that is not finite and that nobody spoke of, for it and the others.

    beside: recordings of the same forwards, which then need not say it.
    """
    places = {n: place for n, run in enumerate(recording.runs) if (place := _untold(run))}
    if not places:
        return
    for run in (run for each in (recording, *beside) for run in each.runs):
        if _untold(run):
            run.told = True
            if run.origin is not None:
                run.origin.told = True
    number = next(iter(places))
    more = f" (and so it is in {len(places) - 1} more)" if len(places) > 1 else ""
    text = f"{_found(recording, number, *places[number])}{more}"
    # Without a registry: the next run that is not finite says so as well.
    warnings.warn_explicit(text, NonfiniteWarning, "unet_explained", 0)


Place = tuple[int, list[float]]  # a step and the extent of its output


def _untold(run: RecordedRun) -> Place | None:
    return None if run.told or (run.origin and run.origin.told) else _place(run)


def _place(run: RecordedRun) -> Place | None:
    """The first step whose output is not finite; the device is waited for once, for all steps."""
    known = [(n, one.extent) for n, one in enumerate(run.steps) if one.extent is not None]
    if not known:
        return None
    all_rows = torch.cat([rows.to(known[0][1].device) for _, rows in known])
    sizes = iter(all_rows.split([len(rows) for _, rows in known]))
    if all_rows.isfinite().all():
        return None
    each = ((n, rows) for (n, _), rows in zip(known, sizes))
    return next((n, rows.tolist()) for n, rows in each if not rows.isfinite().all())


def _found(recording, number: int, step: int, extents: list[float]) -> Nonfinite:
    """Looked for once a step: what has been found stays true."""
    known = recording._nonfinite
    if (number, step) not in known:
        numbers = torch.tensor(extents)
        rows = tuple(i for i, finite in enumerate(numbers.isfinite().tolist()) if not finite)
        found = Nonfinite(number, step, rows, _kind(_flags(numbers).tolist()), None)
        known[number, step] = _by_replay(recording, found)
    return known[number, step]


def _by_replay(recording, found: Nonfinite) -> Nonfinite:
    run, model = recording.runs[found.run], recording._model()
    one = run.steps[found.step]
    why = recording.why_no_replay(found.step, run=found.run)
    if not why:
        try:
            events = _events(model, one, found.step)
        except Exception as error:  # to look closer must not end what was run
            why = f"{type(error).__name__}: {error}"
        else:
            if event := next((event for event in events if event.kind), None):
                return found._replace(
                    kind=event.kind, module=event.module, given=event.given,
                    why=_reason(model, event),
                )  # fmt: skip
    said = f"it could not run again ({why})" if why else AGAIN_FINITE
    module, kind = _as_recorded(run, one)
    return found._replace(kind=kind or found.kind, module=module, replayed=False, why=said)


AGAIN_FINITE = (
    "it was finite when it ran again: weights, hooks or an intervention have changed since"
)


class Event(NamedTuple):
    """Something passed: into a module, as its argument, from within `module`; or out of it."""

    module: str
    given: str  # the UNet's argument
    dtype: torch.dtype
    kind: str  # "" if it is finite


class Listener:
    """Hears what passes into each module and out of it, in order, of one thread's forward."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.thread = model, get_ident()
        self.inside: list[str] = []  # the modules that now run, each in the one before
        self.heard: list[tuple[str, str, torch.dtype]] = []
        self.flags: list[Tensor] = []

    def place(self, hooks: Hooks) -> None:
        for name, module in called_modules(self.model):
            arguments = arguments_of(module)
            hooks.before(module, lambda m, a, k, n=name, own=arguments: self.enter(n, own, a, k))
            hooks.after(module, lambda m, a, output, n=name: self.leave(n, output))

    def enter(self, name: str, arguments: list[str], args: tuple, kwargs: dict) -> None:
        if get_ident() == self.thread:
            for argument, value in (dict(zip(arguments, args)) | kwargs).items():
                if "mask" not in argument:  # which may be -inf
                    whole = not self.inside
                    self.hear("".join(self.inside[-1:]), argument if whole else "", value)
            self.inside.append(name)

    def leave(self, name: str, output) -> None:
        if get_ident() == self.thread:
            self.hear(name, "", output)
            self.inside.pop()

    def hear(self, module: str, given: str, value) -> None:
        for x in tensors(torch.tensor(value) if isinstance(value, float) else value):
            if x.is_floating_point() and x.numel():
                self.heard.append((module, given, x.dtype))
                self.flags.append(_flags(x))

    def events(self) -> Iterator[Event]:
        """In order; the device is waited for here."""
        device = self.flags[0].device
        all_flags = torch.stack([flags.to(device) for flags in self.flags]).tolist()
        for (module, given, dtype), flags in zip(self.heard, all_flags):
            yield Event(module, given, dtype, _kind(flags))


def _events(model: nn.Module, one: RecordedStep, step: int) -> Iterator[Event]:
    from .watch import as_then

    listener, given = Listener(model), whole(one.given, step)
    with as_then(model, given), Hooks(listener.place), identified(Identity(ASIDE, one.batch)):
        model(**changed(given.by_name, lambda tensor: tensor))  # diffusers' takes from its lists
    return listener.events()


def _flags(x: Tensor) -> Tensor:
    """Whether there is a NaN, and whether an Inf."""
    return torch.stack([x.detach().isnan().any(), x.detach().isinf().any()])


def _kind(flags: Iterable[bool]) -> str:
    return " and ".join(name for name, there in zip(("NaN", "Inf"), flags) if there)


def _reason(model: nn.Module, event: Event) -> str:
    """What is known of why, and what to do."""
    if event.given:
        return "look at what was put in, and at a later step at the scheduler and the guidance"
    for name, parameter in model.get_submodule(event.module).named_parameters(recurse=False):
        if kind := _kind(_flags(parameter).tolist()):
            return f"its {name} holds {kind}: load the weights again"
    if event.dtype == torch.float16:
        return "float16 ends at 65504: run it in bfloat16 or float32"
    return (
        "what it was given is finite: look at the sizes there, replay(step, stats=True), and at "
        "hooks that change it"
    )


def _as_recorded(run: RecordedRun, one: RecordedStep) -> tuple[str | None, str]:
    """The first of what was kept of a forward that is not finite, and of what kind it is."""
    maps = {name: one.attention[name] for name in run.layers if name in one.attention}
    for name, stats in one.stats.items():
        if stats.nonfinite:
            return name, "NaN" if stats.max != stats.max else "Inf"
    for kept in (one.values, maps):
        for name, value in kept.items():
            for x in tensors(value):
                if x.is_floating_point() and (kind := _kind(_flags(x).tolist())):
                    return name, kind
    return None, ""
