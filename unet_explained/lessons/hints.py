"""What a wrong tensor has in common with the right one: the likeliest slip, in a line."""

from collections.abc import Sequence
from itertools import permutations

import torch
from torch import Tensor

CLOSE = 1e-4  # of the largest value: near enough to name the slip


def excess(actual: Tensor, expected: Tensor) -> tuple[Tensor, float]:
    """How far each number is off, and the largest absolute value expected."""
    # Where both are the same infinity or NaN, the difference would be NaN.
    same = (actual == expected) | (actual.isnan() & expected.isnan())
    finite = expected[expected.isfinite()].abs()
    return (actual - expected).abs().masked_fill(same, 0), finite.max().item() if len(finite) else 0


def at(values: Tensor, axes: Sequence[str]) -> str:
    """Where the largest of values is, by the names of the axes."""
    if values.ndim == 0:
        return "the only number"
    place = torch.unravel_index(values.to(torch.float64).argmax(), values.shape)
    return " ".join(f"{name}={index.item()}" for name, index in zip(axes, place))


def hint(actual: Tensor, expected: Tensor, axes: Sequence[str], most: float) -> str:
    """Why numbers of the right shape may be wrong, or ""; most: how far off is still equal."""
    if not actual.any():
        return "all numbers are 0" if expected.any() else ""
    for slip in (_factor, _halves, _order, _addend, _shuffled):
        if found := slip(actual, expected, axes, max(most, CLOSE * expected.abs().max().item())):
            return found
    return ""


def shape_hint(actual: Tensor, expected: Tensor, axes: Sequence[str]) -> str:
    """Whether the numbers are right though the shape is not, or ""."""
    if actual.numel() != expected.numel():
        return ""
    actual, expected = actual.double().cpu(), expected.double().cpu()
    most = CLOSE * expected.abs().max().item()
    if found := _order(actual, expected, axes, most):
        return found
    if _equal(actual.flatten(), expected.flatten(), most):
        return "the numbers are right: only the shape is not"
    return _shuffled(actual, expected, axes, most)


def _equal(actual: Tensor, expected: Tensor, most: float) -> bool:
    return (actual - expected).abs().max().item() <= most


def _factor(actual: Tensor, expected: Tensor, axes: Sequence[str], most: float) -> str:
    factor = ((actual * expected).sum() / (actual * actual).sum()).item()
    if factor == 0 or not _equal(actual * factor, expected, most):
        return ""
    return f"a constant factor of {_number(factor)} would make it right"


def _number(value: float) -> str:
    """2.0 rather than 2 or 1.99999; a root where it is one."""
    rounded = round(value, 4)
    root = f" (1/√{round(value**-2)})" if 0 < value < 0.99 and _is_root(value**-2) else ""
    root = f" (√{round(value**2)})" if value > 1.01 and _is_root(value**2) else root
    return f"{rounded}{root}" if abs(value) >= 0.01 else f"{value:.4g}{root}"


def _is_root(square: float) -> bool:
    whole = round(square)
    return abs(square - whole) < 1e-3 * square and whole**0.5 % 1 != 0


def _halves(actual: Tensor, expected: Tensor, axes: Sequence[str], most: float) -> str:
    for axis in reversed(range(actual.ndim)):
        size, name = actual.shape[axis], axes[axis]
        if size % 2 == 0 and _equal(actual.roll(size // 2, axis), expected, most):
            halves = f"equal up to a permutation of halves along {name}"
            if name == "channel" and actual.ndim == 2:
                return f"{halves}: sin and cos are swapped"
            return f"{halves}: the two are swapped"
    return ""


def _order(actual: Tensor, expected: Tensor, axes: Sequence[str], most: float) -> str:
    """Whether other axes in front, or behind, would make it right."""
    if actual.ndim != expected.ndim or actual.ndim < 2:
        return ""
    count = actual.ndim
    last = (*range(count - 2), count - 1, count - 2)
    for order in [last, *permutations(range(count))]:
        turned = actual.permute(order)
        if turned.shape == expected.shape and _equal(turned, expected, most):
            if order == last:
                return "equal after a transpose of the last two axes"
            was = " ".join(axes[order.index(i)] for i in range(count))
            return f"equal after a rearrange: it has its axes in the order {was}"
    return ""


def _addend(actual: Tensor, expected: Tensor, axes: Sequence[str], most: float) -> str:
    """Whether what is missing (or too much) is the same along some axes: a bias, a time shift."""
    off, along = expected - actual, []
    for axis, name in enumerate(axes):
        spread = off.amax(axis, keepdim=True) - off.amin(axis, keepdim=True)
        if off.shape[axis] > 1 and spread.max().item() <= most:
            along.append(name)
    if not along:
        return ""
    where = ", ".join(along)
    return f"the difference is the same along {where}: is something not added (a bias), or twice?"


def _shuffled(actual: Tensor, expected: Tensor, axes: Sequence[str], most: float) -> str:
    if not _equal(actual.flatten().sort().values, expected.flatten().sort().values, most):
        return ""
    return "the right numbers in another order: look at each rearrange"
