"""Hooks for while a model runs: to hear of its modules as they finish, and to stop between two."""

from collections.abc import Callable, Sequence
from functools import partial
from threading import get_ident

from torch import nn

from .hooks import Hooks, called_modules
from .patterns import matching


class Stopped(Exception):
    """A forward was ended between two of its modules, because somebody asked for it."""


def listening(
    model: nn.Module, patterns: Sequence[str], hear: Callable[[str, tuple, object], None]
) -> Hooks:
    """Calls hear(name, args, output) when a module that fits one of the globs has run.

    args are what it was given by position. Only this thread's forwards are heard. Raises ValueError
    for a pattern that fits no module.
    """
    modules = dict(called_modules(model))
    names = [name for pattern in patterns for name in matching(pattern, modules, "module")]
    thread = get_ident()

    def place(hooks: Hooks) -> None:
        for name in dict.fromkeys(names):
            hooks.after(modules[name], partial(_tell, thread, hear, name))

    return Hooks(place)


def stoppable(model: nn.Module, stopped: Callable[[], bool]) -> Hooks:
    """Inside `with`, this thread's forwards raise Stopped at their next module once stopped()."""
    thread = get_ident()

    def check(module: nn.Module, args: tuple, kwargs: dict) -> None:
        if stopped() and get_ident() == thread:
            raise Stopped

    def place(hooks: Hooks) -> None:
        for _, module in called_modules(model):
            hooks.before(module, check)

    return Hooks(place)


def _tell(thread: int, hear: Callable, name: str, module: nn.Module, args: tuple, output) -> None:
    if get_ident() == thread:
        hear(name, args, output)
