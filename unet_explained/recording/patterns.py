"""Choosing modules, layers, steps and pictures, with errors that say what there is."""

from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from ..model import UNet2DConditionModel, UNetConfig
from ..numbers import whole_number
from ..words import brief, closest

Layers = str | Sequence[str] | None  # a glob, several in a list, or all
Steps = int | Sequence[int] | None  # one, several as in range(10), or all


def uncompiled(model: nn.Module) -> nn.Module:
    """The UNet itself, out of torch.compile's wrapper. Raises TypeError for what is none."""
    unet = getattr(model, "_orig_mod", model)
    if not (isinstance(unet, nn.Module) and {"sample", "timestep"} <= {*arguments_of(unet)}):
        raise TypeError(
            "expected a UNet (of a pipeline: pipe.unet), whose forward takes sample and timestep, "
            f"got {type(unet).__name__}"
        )
    return unet


def own(model: nn.Module) -> UNet2DConditionModel:
    """The same, of this package alone. Raises TypeError for anything else."""
    unet = uncompiled(model)
    if not isinstance(unet, UNet2DConditionModel):
        raise TypeError(
            f"expected this package's UNet2DConditionModel, got {type(unet).__module__}."
            f"{type(unet).__name__}: make it with ux.from_diffusers(unet), which shares its tensors"
        )
    return unet


def arguments_of(module: nn.Module) -> list[str]:
    """The names of forward's arguments, which a wrapper around it may hide."""
    return list(signature(type(module).forward).parameters)[1:]


def config_of(model: nn.Module | None) -> dict | None:
    """As config.json has it: of this package it is a class, of the reference a dict."""
    config = getattr(model, "config", None)
    if config is None:
        return None
    return config.to_dict() if isinstance(config, UNetConfig) else dict(config)


def matching(pattern: str, names: Iterable[str], what: str) -> list[str]:
    """The names that a glob fits, in their order; * crosses dots. Raises ValueError if none, with
    the closest names, or else the closest of what names begin with."""
    if not isinstance(pattern, str):
        kind = f"a {type(pattern).__name__}: {brief(pattern)}"
        raise TypeError(f"{what}: expected a name or a glob over names, got {kind}")
    names = list(names)
    found = [name for name in names if fnmatchcase(name, pattern)]
    if not found:
        near = closest(pattern, names) or closest(pattern, dict.fromkeys(_beginnings(names)))
        raise ValueError(f"no {what} fits {brief(pattern)}{near}")
    return found


def _beginnings(names: Iterable[str]) -> Iterator[str]:
    """Globs over what stands in each module that holds others."""
    for name in names:
        parts = name.split(".")
        yield from (".".join(parts[:end]) + "*" for end in range(1, len(parts)))


def device_of(device: Any) -> torch.device:
    """A device that is there. ValueError for any other."""
    try:
        return torch.empty(0, device=torch.device(device)).device
    except (RuntimeError, AssertionError, TypeError) as error:  # torch asserts that CUDA is there
        why = str(error).splitlines()[0]
        raise ValueError(f"device={device!r}: it cannot be used here ({why})") from None


def pick(items: Sequence | Tensor, index: int, what: str):
    """items[index]. Raises IndexError with how many there are, TypeError for no whole number."""
    if not -len(items) <= whole_number(what, index) < len(items):
        raise IndexError(f"{what} {index} is not among the {len(items)} that were recorded")
    return items[index]
