"""The name of every axis that passes: from forward's annotations, or a small table for torch.nn.

`Trace` writes down each module call of a forward with them; the record and the shape table read it.
"""

import inspect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from threading import local
from types import UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin

import torch
from torch import Tensor, nn

from .hooks import Hooks, called_modules

OURS = "unet_explained.model."

# What a torch.nn leaf's tensors are called, by their number of dimensions ...
USUAL = {
    0: "",
    1: "batch",
    2: "batch channel",
    3: "batch query channel",
    4: "batch channel height width",
}
# ... and where it stands under a name that says more.
PLACES = {
    "to_k": {3: "batch key channel"},
    "to_v": {3: "batch key channel"},
    "linear_1": {2: "batch time"},
    "linear_2": {2: "batch time"},
    "act": {2: "batch time"},
    "nonlinearity": {2: "batch time"},
    "class_embedding": {2: "batch time"},
}

# A spec names the axes in one value: a string for a tensor (or a dict of strings by its number of
# dimensions), a tuple of specs for a tuple, [spec] for a list of any length, None for the rest.
Spec = str | dict | tuple | list | None


class Axes(NamedTuple):
    """The specs of a forward: one an argument, in its order and by its name, and the output's."""

    inputs: dict[str, Spec]
    output: Spec


class Seen(NamedTuple):
    """One tensor that passed: its name in the code ("skips.0"), axes, their sizes, and dtype."""

    name: str
    axes: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: torch.dtype

    def __str__(self) -> str:
        sizes = zip(self.axes, self.shape)  # an axis that is always 1 has no name but "1"
        return " ".join(axis if axis == "1" else f"{axis}={size}" for axis, size in sizes)


@dataclass
class Call:
    """One call of one module: inputs are named as forward's arguments, a lone output ""."""

    name: str  # the module's; "" for the model itself
    kind: str  # its class
    parameters: dict[str, tuple[int, ...]]  # shapes of the module's own, not of its children's
    inputs: tuple[Seen, ...]
    outputs: tuple[Seen, ...]


def axes_of(module: nn.Module | type[nn.Module], name: str = "") -> Axes:
    """The names of the axes of what a module (or class) takes and gives; name: where it stands."""
    kind = _kind(module)
    if kind.__module__.startswith(OURS):
        return _annotated(kind)
    strided = getattr(module, "stride", (1, 1)) != (1, 1)
    usual = _leaf(kind, name.rpartition(".")[2], strided)
    if kind.__module__.startswith("torch.nn") or kind.__name__ not in _own_classes():
        return usual
    named = _annotated(_own_classes()[kind.__name__])  # the reference's: its class has our name
    return Axes(usual.inputs | named.inputs, named.output)


def see(spec: Spec, value, name: str = "") -> Iterator[Seen]:
    """Every tensor in a value (nested tuples, lists and dicts too), with the names of its axes."""
    if isinstance(value, Tensor):
        yield Seen(name, _names(spec, value.ndim), tuple(value.shape), value.dtype)
    for i, (key, item) in enumerate(_items(value)):
        inner = spec[0] if isinstance(spec, list) else None
        inner = spec[i] if isinstance(spec, tuple) and i < len(spec) else inner
        yield from see(inner, item, f"{name}.{key}" if name else str(key))


class Trace(Hooks):
    """Inside `with`, writes down each module call of a model's forward, in order of beginning."""

    def __init__(self, model: nn.Module) -> None:
        self._thread = local()
        super().__init__(partial(_follow, model, self._thread))

    @property
    def calls(self) -> list[Call]:
        """Of the last forward that began in this thread."""
        return self._thread.__dict__.setdefault("calls", [])


def _follow(model: nn.Module, thread: local, hooks: Hooks) -> None:
    def begin(module, args, kwargs):
        thread.calls, thread.begun = [], [0]  # the model's own call stands first

    def enter(module, args, kwargs):
        if hasattr(thread, "begun"):
            thread.begun.append(len(thread.calls))

    def leave(name, names, axes, parameters, has_parts, module, args, kwargs, output):
        if not hasattr(thread, "begun"):
            return  # a part of the model, called by itself
        given = [*zip(names, args), *kwargs.items()]
        inputs = (seen for key, value in given for seen in see(axes.inputs.get(key), value, key))
        outputs = tuple(see(axes.output, output))
        call = Call(name, type(module).__name__, parameters, tuple(inputs), outputs)
        # Its parts have ended before it, and began after it.
        thread.calls.insert(thread.begun.pop() if has_parts else len(thread.calls), call)
        if module is model:
            del thread.begun

    hooks.before(model, begin)
    for name, module in called_modules(model):
        axes, names = axes_of(module, name), list(_signature(_kind(module)).parameters)
        parameters = {key: tuple(p.shape) for key, p in module.named_parameters(recurse=False)}
        has_parts = next(module.children(), None) is not None
        if has_parts and module is not model:
            hooks.before(module, enter)
        act = partial(leave, name, names, axes, parameters, has_parts)
        hooks.after_with_kwargs(module, act)


def _kind(module: nn.Module | type[nn.Module]) -> type:
    return module if isinstance(module, type) else type(module)


@cache
def _own_classes() -> dict[str, type]:
    """Those of the model that have a forward."""
    from ..model import attention, blocks, embeddings, resnet, unet

    kinds = (
        kind
        for room in (attention, blocks, embeddings, resnet, unet)
        for kind in vars(room).values()
    )
    own = (kind for kind in kinds if isinstance(kind, type) and issubclass(kind, nn.Module))
    return {kind.__name__: kind for kind in own if kind.__module__.startswith(OURS)}


@cache
def _signature(kind: Any) -> inspect.Signature:
    """Of forward, without self."""
    signature = inspect.signature(kind.forward)
    return signature.replace(parameters=list(signature.parameters.values())[1:])


@cache
def _annotated(kind: type) -> Axes:
    signature = _signature(kind)
    inputs = {name: _spec(value.annotation) for name, value in signature.parameters.items()}
    return Axes(inputs, _spec(signature.return_annotation))


def _spec(annotation) -> Spec:
    if hasattr(annotation, "dim_str"):  # jaxtyping's Float[Tensor, "..."] and the like
        return annotation.dim_str
    if hasattr(annotation, "_fields"):  # a NamedTuple
        return tuple(_spec(field) for field in annotation.__annotations__.values())
    parts = [_spec(part) for part in get_args(annotation)]
    if get_origin(annotation) is tuple:
        return tuple(parts)
    if get_origin(annotation) is list:
        return parts
    is_union = get_origin(annotation) in (Union, UnionType)
    return next((part for part in parts if part is not None), None) if is_union else None


@cache
def _leaf(kind: type, place: str, strided: bool) -> Axes:
    """Convolutions and linears may change the channels, a convolution with a stride the size."""
    inputs = output = {**USUAL, **PLACES.get(place, {})}
    if issubclass(kind, nn.Conv2d):
        inputs = {4: "batch channel_in " + ("height_in width_in" if strided else "height width")}
    elif issubclass(kind, nn.Linear):
        inputs = {n: " ".join([*axes.split()[:-1], "channel_in"]) for n, axes in output.items()}
    return Axes(dict.fromkeys(_signature(kind).parameters, inputs), output)


def _names(spec: Spec, dimensions: int) -> tuple[str, ...]:
    spec = spec.get(dimensions) if isinstance(spec, dict) else spec
    return _split(spec if isinstance(spec, str) else None, dimensions)


@cache
def _split(spec: str | None, dimensions: int) -> tuple[str, ...]:
    """One name a dimension: "_" takes the usual one, "*time" as many as are left."""
    usual = USUAL.get(dimensions, "_ " * dimensions).split()
    names = usual if spec is None else spec.split()
    wide = next((i for i, name in enumerate(names) if name.startswith("*")), None)
    if wide is not None:
        names[wide : wide + 1] = [names[wide][1:]] * (dimensions - len(names) + 1)
    if len(names) != dimensions:
        names = usual
    return tuple(other if name == "_" else name for name, other in zip(names, usual, strict=True))


def _items(value) -> Iterable:
    if isinstance(value, dict):
        return value.items()
    if hasattr(value, "_fields"):
        return zip(value._fields, value)
    return enumerate(value) if isinstance(value, tuple | list) else ()
