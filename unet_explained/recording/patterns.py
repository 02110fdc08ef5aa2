"""Choosing modules, layers, steps and pictures, with errors that say what there is."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from inspect import signature

from torch import Tensor, nn

from ..model import UNet2DConditionModel, UNetConfig


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
    """The names that a glob fits, in their order; * crosses dots. Raises ValueError if none."""
    names = list(names)
    found = [name for name in names if fnmatchcase(name, pattern)]
    if not found:
        raise ValueError(f"no {what} fits {pattern!r}{closest(pattern, names)}")
    return found


def closest(name: str, names: Iterable[str]) -> str:
    """The end of an error message: names that look like one that is not there."""
    near = get_close_matches(name.strip("*"), names, n=3, cutoff=0.5)
    return f"; the closest: {', '.join(near)}" if near else ""


def pick(items: Sequence | Tensor, index: int, what: str):
    """items[index]. Raises IndexError with how many there are."""
    if not -len(items) <= index < len(items):
        raise IndexError(f"{what} {index} is not among the {len(items)} that were recorded")
    return items[index]
