"""The tensors in what a forward is given and gives: one, or tuples, lists and dicts of them."""

import math
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

ALIGNED = 16  # bytes: tensors that travel together begin at multiples of this


def changed(value, change: Callable[[Tensor], Tensor]):
    """The same value in containers of its own, with each tensor changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: changed(item, change) for key, item in value.items()}
    if isinstance(value, tuple | list):
        items = [changed(item, change) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


def tensors(value) -> Iterator[Tensor]:
    """Each tensor, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict | tuple | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from tensors(item)


def copied(value):
    """Each tensor as a detached copy, which nothing that happens later can alter."""
    return changed(value, lambda tensor: tensor.detach().clone())


def size_of(value) -> int:
    """Bytes of all tensors."""
    return sum(tensor.nbytes for tensor in tensors(value))


def moved(value, device: torch.device):
    """The same value with each tensor on a device: all travel in one copy, waited for once."""
    away = [tensor for tensor in tensors(value) if not is_on(tensor.device, device)]
    if not away:
        return value
    parts = [tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in away]
    parts = [torch.nn.functional.pad(part, (0, -len(part) % ALIGNED)) for part in parts]
    arrived = iter(torch.cat(parts).to(device).split([len(part) for part in parts]))

    def arrive(tensor: Tensor) -> Tensor:
        if is_on(tensor.device, device):
            return tensor
        return next(arrived)[: tensor.nbytes].view(tensor.dtype).reshape(tensor.shape)

    return changed(value, arrive)


def is_on(there: torch.device, asked: torch.device) -> bool:
    """Whether a tensor is where it is asked for: without an index, on any device of its type."""
    return there.type == asked.type and asked.index in (None, there.index)


def first(value) -> Tensor | None:
    """The first tensor, if there is one: of a down block's output the hidden states, not skips."""
    return next(tensors(value), None)


def activity(value) -> Float[Tensor, ""]:
    """How active a module is, by what it returned: the root mean square of all its numbers.

    A standard deviation would leave out what they have in common. Of a tuple, the first tensor.
    """
    tensor = first(value)
    return torch.tensor(math.nan) if tensor is None else tensor.float().square().mean().sqrt()
