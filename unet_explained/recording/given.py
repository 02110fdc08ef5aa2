"""What a forward was given, kept so that it can run again."""

from collections import Counter, deque
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from .nested import changed, tensors
from .processors import Processors


class Given(NamedTuple):
    """What a forward was given: containers of its own, tensors as they are, their versions."""

    by_name: dict[str, Any]  # all arguments, by the names that the model's forward has for them
    versions: tuple[int, ...]  # torch counts up when a tensor is written into
    processors: Processors = ()  # of attentions that are not ours
    modules: tuple[str, ...] = ()  # names of all that the model then had
    autocast: torch.dtype | None = None  # what it ran in, if that was switched on

    @classmethod
    def of(cls, by_name: dict[str, Any], processors: Processors = ()) -> "Given":
        by_name = changed(by_name, _as_it_is)
        return cls(by_name, _versions(by_name), processors)

    @property
    def counts(self) -> dict[str, int]:
        """batch, height and width of the latents, and tokens, as shape_table takes them."""
        shape, context = self.by_name["sample"].shape, self.by_name.get("encoder_hidden_states")
        tokens = context.shape[1] if isinstance(context, Tensor) and context.ndim > 1 else 0
        return dict(batch=shape[0], height=shape[-2], width=shape[-1], tokens=tokens)

    @property
    def changed(self) -> bool:
        """Whether something was written into it since."""
        return self.versions != _versions(self.by_name)

    def no_more(self, model: nn.Module) -> str:
        """Why a model is not the one any more that was given this; "" if it is."""
        now, then = {name for name, _ in model.named_modules()}, set(self.modules)
        if not then or now == then:
            return ""
        other = sorted(now ^ then)
        which = f"{other[0]} {'came' if other[0] in now else 'went'}"
        return f"the model has other modules than then ({len(other)} of them: {which}): pass unet="


def _as_it_is(tensor: Tensor) -> Tensor:
    """Without its graph; a copy where torch does not count what is written into it."""
    return tensor.clone() if tensor.is_inference() else tensor.detach()


def _versions(given: dict[str, Any]) -> tuple[int, ...]:
    return tuple(0 if tensor.is_inference() else tensor._version for tensor in tensors(given))


class Keeping(Protocol):
    """A recorded step, as far as this is concerned."""

    given: Given | None


class Inputs:
    """What forwards were given, while there is room: the oldest is dropped first."""

    def __init__(self) -> None:
        self._steps: deque[Keeping] = deque()
        self._bytes, self._uses = 0, Counter[int]()

    def keep(self, step: Keeping, given: Given, room: float) -> None:
        """room: bytes that all of it may have."""
        step.given = given
        self._steps.append(step)
        self._count(given, 1)
        while self._steps and self._bytes > room:
            oldest = self._steps.popleft()
            self._count(oldest.given, -1)
            oldest.given = None

    def _count(self, given: Given | None, by: int) -> None:
        """Forwards of a run share some of it."""
        for tensor in tensors(given):
            storage = tensor.untyped_storage()  # which a view keeps whole
            before = self._uses[storage.data_ptr()]
            self._uses[storage.data_ptr()] += by
            if 0 in (before, before + by):
                self._bytes += by * storage.nbytes()


def lacking(given: Given | None, step: int) -> str:
    """Why what a step was given is not there any more; "" if it is."""
    if given is None:
        return f"what step {step} was given is not kept: it did not fit the budget beside the rest"
    return f"what step {step} was given has been written into since" if given.changed else ""


def whole(given: Given | None, step: int) -> Given:
    """What a step was given. ValueError if it is not there any more."""
    if given is None or given.changed:
        raise ValueError(lacking(given, step))
    return given
