"""What a forward ran with beside its arguments, for running it again: processors, autocast."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import nn

from .hearing import is_foreign


class Processor(NamedTuple):
    """One attention's; a pipeline may set others for its call alone, and scale them as it goes."""

    what: Any  # itself, or the name of its class where the record was loaded
    scale: Any = None  # of an IP-Adapter's: one number an adapter

    @property
    def kind(self) -> str:
        return self.what if isinstance(self.what, str) else type(self.what).__name__


PLAIN = ("AttnProcessor", "AttnProcessor2_0", "FusedAttnProcessor2_0", "SlicedAttnProcessor")
Processors = tuple[Processor, ...]  # in the order of the model's attentions


def autocast_of(device_type: str) -> torch.dtype | None:
    """What torch.autocast casts to in this thread; None where it is off."""
    known = torch.amp.is_autocast_available(device_type)  # on meta there is none
    on = known and torch.is_autocast_enabled(device_type)
    return torch.get_autocast_dtype(device_type) if on else None


def autocast_as(device_type: str, dtype: torch.dtype | None) -> AbstractContextManager:
    """The same again, on or off."""
    if not torch.amp.is_autocast_available(device_type):
        return nullcontext()
    return torch.autocast(device_type, dtype, enabled=dtype is not None)


def attentions_of(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if is_foreign(module)]


def processors_of(attentions: Sequence[nn.Module], last: Processors | None) -> Processors:
    """Those that are there now; the last ones if these are the same."""
    each = (getattr(attention, "processor", None) for attention in attentions)
    now = tuple(Processor(one, _numbers(getattr(one, "scale", None))) for one in each)
    return last if last == now else now


@contextmanager
def running_with(model: nn.Module, processors: Processors) -> Iterator[None]:
    """Inside, a model's attentions have these. ValueError where it cannot have them."""
    attentions = attentions_of(model)
    if not attentions and all(one.kind in PLAIN for one in processors):
        yield  # this package's UNet, which attends as these do
        return
    found = processors_of(attentions, None)
    other = [(old, new) for old, new in zip(processors, found) if old.kind != new.kind]
    if len(found) != len(processors) or any(isinstance(old.what, str) for old, _ in other):
        kinds = ", ".join(sorted({old.kind for old, _ in other})) or f"{len(processors)} attentions"
        raise ValueError(f"this forward ran with {kinds}, which this model does not have")
    _set(attentions, processors)
    try:
        yield
    finally:
        _set(attentions, found)


def _set(attentions: Sequence[nn.Module], processors: Processors) -> None:
    for attention, (what, scale) in zip(attentions, processors):
        if not isinstance(what, str) and getattr(attention, "processor", None) is not what:
            attention.set_processor(what)  # type: ignore[operator]
        if scale is not None:
            attention.processor.scale = _numbers(scale)  # type: ignore[union-attr]


def _numbers(scale):
    """A copy of a list of scales, which is changed in place."""
    return [_numbers(one) for one in scale] if isinstance(scale, list) else scale
