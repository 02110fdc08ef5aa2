"""The name of every axis that passes: from forward's annotations, or a small table for torch.nn.

`trace` writes down each module call of a forward with them; the record and the shape table read it.
"""

import inspect
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from types import UnionType
from typing import NamedTuple, Union, get_args, get_origin

import torch
from torch import Tensor, nn

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
    outputs: tuple[Seen, ...] = ()


def axes_of(module: nn.Module | type[nn.Module], name: str = "") -> Axes:
    """The names of the axes of what a module (or class) takes and gives; name: where it stands."""
    kind = _kind(module)
    if kind.__module__.startswith("torch.nn"):
        return _leaf(module, {**USUAL, **PLACES.get(name.rpartition(".")[2], {})})
    return _annotated(kind)


def see(spec: Spec, value, name: str = "") -> Iterator[Seen]:
    """Every tensor in a value (nested tuples, lists and dicts too), with the names of its axes."""
    if isinstance(value, Tensor):
        yield Seen(name, _names(spec, value.ndim), tuple(value.shape), value.dtype)
    for i, (key, item) in enumerate(_items(value)):
        inner = spec[0] if isinstance(spec, list) else None
        inner = spec[i] if isinstance(spec, tuple) and i < len(spec) else inner
        yield from see(inner, item, f"{name}.{key}" if name else str(key))


@contextmanager
def trace(model: nn.Module) -> Iterator[list[Call]]:
    """A list that fills with the calls of the model's forward, in order of their beginning.

    Each forward starts the list anew. Hooks are taken off on leaving, also after an exception.
    """
    calls, running = list[Call](), list[Call]()

    def enter(name, axes, module, args, kwargs):
        if module is model:
            calls.clear()
        arguments = _signature(type(module)).bind(*args, **kwargs).arguments
        inputs = (
            seen for key, value in arguments.items() for seen in see(axes.inputs[key], value, key)
        )
        parameters = {key: tuple(p.shape) for key, p in module.named_parameters(recurse=False)}
        running.append(Call(name, type(module).__name__, parameters, tuple(inputs)))
        calls.append(running[-1])

    def leave(axes, module, args, output):
        running.pop().outputs = tuple(see(axes.output, output))

    handles = []
    try:
        for name, module in model.named_modules():
            axes = axes_of(module, name)
            before, after = partial(enter, name, axes), partial(leave, axes)
            handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
            handles.append(module.register_forward_hook(after))
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _kind(module: nn.Module | type[nn.Module]) -> type:
    return module if isinstance(module, type) else type(module)


@cache
def _signature(kind: type[nn.Module]) -> inspect.Signature:
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


def _leaf(module: nn.Module | type[nn.Module], output: dict[int, str]) -> Axes:
    """Convolutions and linears may change the channels, a convolution with a stride the size."""
    inputs, strided = output, getattr(module, "stride", (1, 1)) != (1, 1)
    if isinstance(module, nn.Conv2d):
        inputs = {4: "batch channel_in " + ("height_in width_in" if strided else "height width")}
    elif isinstance(module, nn.Linear):
        inputs = {n: " ".join([*axes.split()[:-1], "channel_in"]) for n, axes in output.items()}
    return Axes(dict.fromkeys(_signature(_kind(module)).parameters, inputs), output)


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
