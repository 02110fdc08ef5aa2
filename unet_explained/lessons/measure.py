"""How long something takes and how much of the graphics card's memory it needs."""

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch


class Measured(NamedTuple):
    """The median time of a call in seconds, and on CUDA the peak of allocated memory in bytes."""

    seconds: float
    peak: int | None
    result: Any

    def __repr__(self) -> str:
        memory = "" if self.peak is None else f", at most {self.peak / 1e9:.2f} GB at a time"
        return f"{self.seconds * 1e3:,.0f} ms{memory}"


@torch.no_grad()
def measure(call: Callable[[], Any], repeats: int = 3) -> Measured:
    """Calls once to warm up, then `repeats` times; a graphics card is waited for each time."""
    cuda = torch.cuda.is_available()
    result, seconds = call(), []
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    for _ in range(repeats):
        result = None  # or two results would be held at the peak
        start = time.perf_counter()
        result = call()
        if cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated() if cuda else None
    return Measured(statistics.median(seconds), peak, result)
