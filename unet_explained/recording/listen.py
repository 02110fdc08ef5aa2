"""Hooks for while a model runs: to hear of its modules as they finish, and to stop between two."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from threading import get_ident

import torch
from torch import nn

from .patterns import matching


class Stopped(Exception):
    """A forward was ended between two of its modules, because somebody asked for it."""


@contextmanager
def listening(
    model: nn.Module, patterns: Sequence[str], hear: Callable[[str, tuple, object], None]
) -> Iterator[None]:
    """Calls hear(name, args, output) when a module that fits one of the globs has run.

    args are what it was given by position. Only this thread's forwards are heard. Raises ValueError
    for a pattern that fits no module.
    """
    modules = dict(model.named_modules())
    names = [name for pattern in patterns for name in matching(pattern, modules, "module")]
    with _hooked() as stack:
        for name in dict.fromkeys(names):
            handle = modules[name].register_forward_hook(partial(_tell, get_ident(), hear, name))
            stack.callback(handle.remove)
        yield


@contextmanager
def stoppable(model: nn.Module, stopped: Callable[[], bool]) -> Iterator[None]:
    """Inside `with`, this thread's forwards raise Stopped at their next module once stopped()."""
    own = get_ident()

    def check(module: nn.Module, args: tuple) -> None:
        if stopped() and get_ident() == own:
            raise Stopped

    with _hooked() as stack:
        for module in model.modules():
            stack.callback(module.register_forward_pre_hook(check).remove)
        yield


@contextmanager
def _hooked() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        if "torch._dynamo" in sys.modules:
            # A compiled model ignores hooks that come after it, and says nothing.
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield stack


def _tell(own: int, hear: Callable, name: str, module: nn.Module, args: tuple, output) -> None:
    if get_ident() == own:
        hear(name, args, output)
