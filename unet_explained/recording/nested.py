"""The tensors in what a forward gives: one, or tuples and lists of them, one in another."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor


def changed(value, change: Callable[[Tensor], Tensor]):
    """The same value with each tensor changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple | list):
        items = [changed(item, change) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


def copied(value):
    """Each tensor as a detached copy, which nothing that happens later can alter."""
    return changed(value, lambda tensor: tensor.detach().clone())


def size_of(value) -> int:
    """Bytes of all tensors."""
    if isinstance(value, tuple | list):
        return sum(size_of(item) for item in value)
    return value.nbytes if isinstance(value, Tensor) else 0


def first(value) -> Tensor:
    """The first tensor: of a down block's output the hidden states, not the skips."""
    return value if isinstance(value, Tensor) else first(value[0])


def activity(value) -> Float[Tensor, ""]:
    """How active a module is, by what it returned: the root mean square of all its numbers.

    A standard deviation would leave out what they have in common. Of a tuple, the first tensor.
    """
    return first(value).float().square().mean().sqrt()
