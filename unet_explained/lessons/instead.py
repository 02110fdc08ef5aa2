"""Something else in the place of a module's own forward or attribute, inside a `with`."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

from torch import nn


def forward(
    model: nn.Module, kind: type[nn.Module], other: Callable
) -> AbstractContextManager[None]:
    """Another forward(self, ...) for every module of a class in the model, itself included."""
    return attributes(model, kind, lambda module: {"forward": other.__get__(module)})


@contextmanager
def attributes(
    model: nn.Module, kind: type[nn.Module], other: Callable[[Any], dict], part: str = ""
) -> Iterator[None]:
    """Other attributes for every module of a class, or for one part of each, and back again."""
    modules = [m.get_submodule(part) for m in model.modules() if isinstance(m, kind)]
    with ExitStack() as stack:
        for module in modules:
            for name, value in other(module).items():
                # A forward stands in the class: what is set on the object is taken off again.
                if name in vars(module):
                    stack.callback(setattr, module, name, getattr(module, name))
                else:
                    stack.callback(delattr, module, name)
                setattr(module, name, value)
        yield
