"""One tensor that forward is given: its axes, its device, its numbers, and what is said of them."""

from typing import Any

import torch
from torch import Tensor

Axes = tuple[int | str, ...]  # of an expected tensor; an axis that has a name may have any size


def expect(
    name: str,
    value: Any,
    axes: Axes,
    sample: Tensor,
    kind: str = "same",
    *,
    least: int | None = None,
    ones: int = 0,
    hint: str = "",
) -> None:
    """A tensor of these axes where the sample is, of a kind of numbers as in is_of.

    As torch broadcasts: it may have no more than its `least` last axes, and the first `ones` of all
    axes may be 1. Raises TypeError for what is no tensor, ValueError for one that does not fit.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a tensor, {written(axes)}, got {kind_of(value)}")
    if not fits(value.shape, axes, len(axes) if least is None else least, ones):
        raise ValueError(f"{name}: expected {written(axes)}, got {tuple(value.shape)}{hint}")
    if value.device != sample.device:
        where = f"it is on {value.device}, the sample on {sample.device}"
        raise ValueError(f"{name}: {where}; pass it .to(sample.device)")
    if not is_of(kind, value, sample):
        words = {"whole": "whole numbers, int64", "real": "real numbers"}
        numbers = words.get(kind, f"the sample's {sample.dtype}")
        raise ValueError(f"{name}: expected {numbers}, got {value.dtype}; pass it .to() that")


def fits(shape: torch.Size, axes: Axes, least: int, ones: int = 0) -> bool:
    """Whether a shape has these axes; least and ones as for expect."""
    missing = len(axes) - len(shape)
    if missing < 0 or len(shape) < least:
        return False
    return all(
        size == wanted or isinstance(wanted, str) or (size == 1 and axis < ones)
        for axis, (size, wanted) in enumerate(zip(shape, axes[missing:]), missing)
    )


def is_of(kind: str, value: Tensor, other: Tensor) -> bool:
    """same: of the other's dtype; added: the other keeps its dtype when they are added; whole: an
    index; real: any but complex. Autocast makes one dtype of all that float but float64."""
    if kind == "whole":
        return value.dtype in (torch.int64, torch.int32)
    if kind == "real" or value.dtype == other.dtype:
        return not value.is_complex()
    if torch.is_autocast_enabled(other.device.type):
        return value.is_floating_point() and torch.float64 not in (value.dtype, other.dtype)
    return kind == "added" and torch.result_type(other, value) == other.dtype


def written(axes: Axes) -> str:
    return f"({', '.join(map(str, axes))}{',' * (len(axes) == 1)})"


def kind_of(value: Any) -> str:
    """What came in place of a tensor, and how to make one of it."""
    kind = "None" if value is None else type(value).__name__
    return f"{kind}: pass torch.from_numpy() of it" if kind == "ndarray" else kind
