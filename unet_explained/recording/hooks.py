"""The one place that attaches hooks, for as long as a `with` lasts, whatever interrupts it."""

import sys
import weakref
from collections.abc import Callable
from threading import RLock
from typing import Self

import torch
from torch import nn


def called_modules(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """All but ModuleLists, which only hold others: a hook on one would never be asked."""
    return [(n, m) for n, m in model.named_modules() if not isinstance(m, nn.ModuleList)]


class Hooks:
    """A context manager: `place(hooks)` puts hooks on as it is entered; on leaving all come off.

    An interrupt may come between any two lines, those that put hooks on and take them off among
    them. So a hook acts only while its Hooks are open and alive, and else takes itself off: at the
    latest the next forward of the model is rid of it. A copy of a hook never acts.
    Forwards of other threads may be under way: none acts before all are on.
    """

    def __init__(self, place: Callable[["Hooks"], None]) -> None:
        self.open = self.complete = False
        self._place = place
        self._placed: list[tuple[nn.Module, Hook]] = []
        self._unclosed: weakref.finalize | None = None

    def __enter__(self) -> Self:
        if self.open:
            raise RuntimeError("these hooks are on already: make others for a `with` inside")
        self.open = True
        try:
            _settle_stance(self)
            self._place(self)
            self.complete = True
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *error) -> None:
        self.close()

    def close(self) -> None:
        """Take all hooks off, if they are on."""
        self.open = self.complete = False
        while self._placed:
            module, hook = self._placed[-1]
            _take_off(module, hook)
            self._placed.pop()
        _settle_stance()
        if self._unclosed:
            self._unclosed.detach()  # Python swallows an interrupt that comes in a finalizer

    def renew(self, root: nn.Module, place: Callable[["Hooks"], None]) -> None:
        """Others inside a model, whose modules have changed; those on the model itself stay."""
        inside = [(module, hook) for module, hook in self._placed if module is not root]
        for module, hook in inside:
            _take_off(module, hook)
        self._placed = [(module, hook) for module, hook in self._placed if module is root]
        place(self)

    def before(self, module: nn.Module, act: Callable, first: bool = False) -> None:
        """act(module, args, kwargs) before a call; it may return other (args, kwargs).

        first: before all other hooks, so that these see what it changed.
        """
        hook = self._new(module, act, 2)
        module.register_forward_pre_hook(hook, prepend=first, with_kwargs=True)

    def after(self, module: nn.Module, act: Callable, first: bool = False) -> None:
        """act(module, args, output) after a call; it may return another output."""
        module.register_forward_hook(self._new(module, act, 2), prepend=first)

    def after_with_kwargs(self, module: nn.Module, act: Callable) -> None:
        """act(module, args, kwargs, output) after a call."""
        module.register_forward_hook(self._new(module, act, 3), with_kwargs=True)

    def _new(self, module: nn.Module, act: Callable, count: int) -> "Hook":
        hook = Hook(self, act, count)
        self._placed.append((module, hook))  # before it is on: then nothing is on unlisted
        return hook


class Hook:
    """What torch calls: it passes the call on, or takes itself off."""

    __slots__ = ("__weakref__", "_act", "_count", "_hooks")

    def __init__(
        self, hooks: Hooks | None = None, act: Callable = lambda *call: None, count: int = 0
    ) -> None:
        self._hooks = weakref.ref(hooks) if hooks else None
        self._act, self._count = act, count

    def __call__(self, module: nn.Module, *call):
        hooks = self._hooks and self._hooks()
        if hooks and hooks.open:
            # torch notes after putting a hook on that it wants the kwargs: one may lack them once.
            whole = hooks.complete and len(call) == self._count
            return self._act(module, *call) if whole else None
        _take_off(module, self)
        _settle_stance()
        return None

    def __reduce__(self):
        return Hook, ()  # what a deepcopy or a pickle of the model carries


def _take_off(module: nn.Module, hook: Hook) -> None:
    for kind in ("_forward_hooks", "_forward_pre_hooks"):
        hooks = getattr(module, kind)
        for key in [key for key, value in list(hooks.items()) if value is hook]:
            hooks.pop(key, None)
            for detail in ("_with_kwargs", "_always_called"):
                getattr(module, kind + detail, {}).pop(key, None)


# torch.compile's stance is one for the whole process: who needs it eager is counted, by what lives.
_LOCK = RLock()
_EAGER: "weakref.WeakSet[Hooks]" = weakref.WeakSet()
_FOUND: list[list] = []  # while the stance is ours: in a list, what gives back the one found


def _settle_stance(hooks: Hooks | None = None) -> None:
    """Run compiled models eagerly while hooks are open: else they ignore them, and say nothing.

    Each line may be the last before an interrupt; whoever settles next then ends what was begun.
    """
    if "torch._dynamo" not in sys.modules:  # who has compiled has imported it; it costs seconds
        return
    with _LOCK:
        if hooks is not None:
            _EAGER.add(hooks)
            hooks._unclosed = weakref.finalize(hooks, _settle_stance)
        needed = any(each.open for each in _EAGER)
        if needed and not _FOUND:
            _FOUND.append([])
            _FOUND[0].append(torch.compiler.set_stance("force_eager"))
        elif _FOUND and not needed:
            if _FOUND[0]:
                _FOUND[0][0].__exit__(None, None, None)
            else:
                torch.compiler.set_stance("default")
            _FOUND.clear()
