"""Hooks that hear an attention that is not ours.

No processor is replaced: whichever one runs asks to_q, to_k and their like, so what fired is what
it used.
"""

import re
from collections.abc import Callable
from functools import partial
from threading import local

from torch import Tensor, nn

from ..model import Attention
from .attending import Attending
from .hooks import Hooks

PROJECTIONS = (
    "to_q", "to_k", "to_v", "to_qkv", "to_kv", "add_k_proj", "add_v_proj", "norm_q", "norm_k",
)  # fmt: skip
OF_IMAGES = re.compile(r"processor\.to_([kv])_ip\.(\d+)")  # an IP-Adapter's, one an adapter


def is_foreign(module: nn.Module) -> bool:
    """Whether it is an attention of diffusers' layout; ours has an Attend, which sees q and k."""
    parts = ("to_q", "to_k", "to_out", "heads")
    return not isinstance(module, Attention) and all(hasattr(module, part) for part in parts)


def hear(
    hooks: Hooks,
    attention: nn.Module,
    wanted: Callable[[bool], object],
    done: Callable[[Attending], None],
) -> None:
    """Hooks that tell `done` of each call, after it; wanted: whether, for one with a context."""
    thread = local()

    def enter(module: nn.Module, args: tuple, kwargs: dict) -> None:
        call = Attending(module, args, kwargs)
        thread.call = call if wanted(call.context is not None) else None

    def passed(part: str, module: nn.Module, args: tuple, output: Tensor) -> None:
        if call := getattr(thread, "call", None):
            call.parts[part].append(output)

    def merge(module: nn.Module, args: tuple, kwargs: dict) -> None:
        if call := getattr(thread, "call", None):
            call.merged = args[0]

    def leave(module: nn.Module, args: tuple, output) -> None:
        call, thread.call = getattr(thread, "call", None), None
        if call:
            done(call)

    hooks.before(attention, enter)
    for name, module in attention.named_modules():
        if name in PROJECTIONS or OF_IMAGES.fullmatch(name):
            hooks.after(module, partial(passed, name))
    out = attention.get_submodule("to_out")
    hooks.before(next(out.children(), out), merge)
    hooks.after(attention, leave)
