"""What a forward needs at least, what a device has; and what to do once it ran out."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from math import prod
from pathlib import Path
from traceback import clear_frames
from typing import Any

import torch

from ..model import UNetConfig
from .axes import Seen
from .budget import BudgetError, text
from .flops import COUNT
from .skeleton import trace_config

SMALLER = (
    "ask for a smaller picture or for fewer at once, or load the model in half precision (float16 "
    "on CUDA, bfloat16 on a CPU)"
)
ADVICE = f'{SMALLER}, or record less (attention="sum" or None, fewer modules)'
LIMITS = "memory.max", "memory/memory.limit_in_bytes"  # of a container, in /sys/fs/cgroup
OUT = r"out of memory|(can't|cannot) allocate memory|not enough memory|ALLOC_FAILED"


def room(device: torch.device | str) -> int | None:
    """Bytes: of a GPU those free now, of a CPU all that the machine or its container has.

    None for a device that does not say.
    """
    device = torch.device(device)
    if device.type == "cuda" and torch.cuda.is_available():
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    if device.type != "cpu":
        return None
    try:
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows has none of it
        return None
    return min([machine, *_of_container()])


def _of_container() -> Iterator[int]:
    for name in LIMITS:
        try:
            limit = Path("/sys/fs/cgroup", name).read_text().strip()
        except OSError:
            continue
        if limit.isdecimal():  # not "max"
            yield int(limit)


@lru_cache(maxsize=64)
def least_bytes(
    config: UNetConfig, dtype: torch.dtype, batch: int, height: int, width: int, tokens: int
) -> int:
    """What one forward holds at once at the least: a layer's inputs and output, the largest.

    ValueError for sizes beyond any machine.
    """
    calls = trace_config(config, dtype, batch, height, width, tokens)
    return max(_bytes((*call.inputs, *call.outputs)) for call in calls if call.kind in COUNT)


def _bytes(tensors: tuple[Seen, ...]) -> int:
    return sum(prod(tensor.shape) * tensor.dtype.itemsize for tensor in tensors)


def expect_room(
    asked: str, unet: Any, batch: int, height: int, width: int, forwards: int = 1
) -> None:
    """ValueError, before any work, if a device cannot hold one forward of these latents, or what
    all forwards are given.

    unet: of this package or of diffusers; one whose config is not covered is taken as it is.
    """
    config, has = unet.config, room(unet.device)
    if not isinstance(config, UNetConfig):
        try:
            config = UNetConfig.load(dict(config))
        except ValueError:
            return
    needs = least_bytes(config, unet.dtype, batch, height, width, tokens=1)
    kept = forwards * batch * config.in_channels * height * width * unet.dtype.itemsize
    if has is None or max(needs, kept) <= has:
        return
    dtype = str(unet.dtype).removeprefix("torch.")
    size = f"batch {batch}, latents {height}x{width}, {dtype}"
    if needs > has:
        why, advice = f"one forward needs at least {text(needs)}", SMALLER
    else:
        why = f"what each of {forwards} forwards is given is kept, {text(kept)} in all"
        advice = "ask for fewer steps"
    raise ValueError(
        f"{asked}: {why} ({size}) and the {unet.device.type} has {text(has)}: {advice}"
    )


@contextmanager
def advising(doing: str, advice: str = ADVICE) -> Iterator[None]:
    """Out of memory inside is raised as MemoryError, with what to do; also around a function.

    The frames of the error keep no tensors: a notebook keeps the error, and so would keep them.
    """
    try:
        yield
    except Exception as error:
        if not ran_out(error):
            raise
        clear_frames(error.__traceback__)
        _empty_cache()
        raise MemoryError(f"out of memory in {doing}: {advice}") from error


def note(error: BaseException | None) -> None:
    """The same advice, once, to somebody's own error, which stays as it is."""
    if error is not None and ran_out(error) and not getattr(error, "__notes__", ()):
        _empty_cache()
        error.add_note(f"While this was recorded: {ADVICE}.")


def ran_out(error: BaseException) -> bool:
    """Whether an error says that there was not enough memory, and nobody yet what to do."""
    if isinstance(error, BudgetError) or (isinstance(error, MemoryError) and error.__cause__):
        return False
    named = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return named or bool(re.search(OUT, str(error), re.IGNORECASE))


def _empty_cache() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
