"""intervene(): hooks that change what passes through a UNet, undone by leaving the `with`."""

import inspect
from collections.abc import Callable, Iterator
from functools import partial

from torch import Tensor, nn

from ..model import UNet2DConditionModel
from ..words import closest
from .hooks import Hooks, called_modules
from .patterns import matching, uncompiled

ONLY_OURS = (
    "Queries, keys and values by head (attend) and the time shift are modules of this package's "
    "UNet alone: intervene on ux.from_diffusers(unet), which shares the tensors"
)


def intervene(model: nn.Module, pattern: str, change: Callable, on: str = "output") -> Hooks:
    """Change what passes: `with intervene(unet, "mid_block", lambda x: 0 * x): ...`.

    pattern: a glob over module names in which * crosses dots; every module that fits is changed.
    change: gets one value and returns a new one of the same shapes and dtypes, never the same in
    place; a tuple or list (a block's skips) comes and goes whole.
    on: which value: the modules' "output", their "input" (the first argument), or an argument by
    its name in forward, such as "k" of an Attend, "temb" of a resnet, "skips" of an up block.
    Interventions nest: of two on one value, the one entered last acts first. A recorder sees the
    changed values, whether it began before or after.
    Raises ValueError for a pattern that fits no module, for an argument that one of them lacks, and
    from within the forward for a change that alters a shape, a dtype or its own input.
    """
    unet = uncompiled(model)
    if not callable(change):
        raise TypeError(
            f"change: expected a function of a tensor, got a {type(change).__name__}; "
            "pass for example lambda x: 0 * x"
        )
    modules = dict(called_modules(unet))
    try:
        names = matching(pattern, modules, "module with a forward")
        places = [(name, modules[name], _argument(name, modules[name], on)) for name in names]
    except ValueError as error:
        if not isinstance(unet, UNet2DConditionModel):
            raise ValueError(f"{error}. {ONLY_OURS}") from None
        raise
    return Hooks(partial(_place, places, change))


def _place(places: list[tuple[str, nn.Module, str | None]], change: Callable, hooks: Hooks) -> None:
    """Before all other hooks, so that a recorder which came first sees the change too."""
    for name, module, argument in places:
        if argument is None:
            hooks.after(module, partial(_change_output, name, change), first=True)
        else:
            hooks.before(module, partial(_change_input, name, change, argument), first=True)


def _argument(name: str, module: nn.Module, on: str) -> str | None:
    """The name in forward of what is to be changed; None for the output."""
    if on == "output":
        return None
    arguments = list(inspect.signature(module.forward).parameters)
    if on == "input":
        return arguments[0]
    if on not in arguments:
        known = ", ".join(["output", "input", *arguments])
        raise ValueError(
            f"on={on!r}: {name or 'the model'} ({type(module).__name__}) has no such argument"
            f"{closest(str(on), arguments)}; it has: {known}"
        )
    return on


def _change_output(name: str, change: Callable, module: nn.Module, args: tuple, output):
    return _new(f"the output of {name or 'the model'}", change, output)


def _change_input(
    name: str, change: Callable, argument: str, module: nn.Module, args: tuple, kwargs: dict
) -> tuple[tuple, dict]:
    bound = inspect.signature(module.forward).bind(*args, **kwargs)
    place = f"{argument} of {name or 'the model'}"
    value = bound.arguments.get(argument)
    if value is None:
        raise ValueError(f"{place}: nothing to change, this call was not given it")
    bound.arguments[argument] = _new(place, change, value)
    return bound.args, bound.kwargs


def _new(place: str, change: Callable, value):
    """change(value), if it has the form of the value and left it as it was."""
    versions = [tensor._version for tensor in _tensors(value)]
    try:
        new = change(value)
    except Exception as error:
        error.add_note(f"raised by the change of {place}, which is {_form(value)}")
        raise
    if versions != [tensor._version for tensor in _tensors(value)]:
        raise ValueError(
            f"{place}: the change wrote into what it was given, which others still use; "
            "return a new tensor (x.clone() first, or torch.where, torch.cat, x * mask)"
        )
    if _form(new) != _form(value):
        hint = "is a `return` missing?" if new is None else "keep the shape and the dtype"
        raise ValueError(f"{place}: expected {_form(value)}, the change gave {_form(new)}; {hint}")
    return new


def _form(value) -> str:
    """What a change must keep: shapes, dtypes and devices, and how tensors are packed."""
    if isinstance(value, Tensor):
        dtype = str(value.dtype).removeprefix("torch.")
        return f"{tuple(value.shape)} {dtype} {value.device}"
    if isinstance(value, tuple | list):
        return f"{type(value).__name__}[{', '.join(map(_form, value))}]"
    return type(value).__name__


def _tensors(value) -> Iterator[Tensor]:
    """Those whose version torch counts: it goes up when a tensor is written into."""
    if isinstance(value, Tensor) and not value.is_inference():
        yield value
    if isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)
