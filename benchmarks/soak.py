"""Many runs in one process, every way they are run: what of them stays behind."""

import gc
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from ipywidgets import Widget

import unet_explained as ux

from .timing import table

PROMPT = "a red circle left of a blue square"
SMALL = {"steps": 2, "height": 64, "width": 64}  # a run's size is no part of what is asked
LONG = SMALL | {"steps": 50}
WARM = 2  # rounds of all kinds of runs before counting: what is loaded once is loaded then
EXPLORERS = 20


@dataclass(frozen=True)
class Left:
    """What a process holds. memory: MB that it has of the machine; None where nobody tells."""

    hooks: int
    threads: int
    widgets: int
    objects: int
    memory: float | None

    @classmethod
    def now(cls, pipe) -> "Left":
        gc.collect()
        parts = (pipe.text_encoder, pipe.unet, pipe.vae)
        modules = [module for part in parts for module in part.modules()]
        hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules)
        objects = gc.get_objects()
        widgets = sum(issubclass(type(each), Widget) for each in objects)
        return cls(hooks, threading.active_count(), widgets, len(objects), _resident())


def _resident() -> float | None:
    pages = Path("/proc/self/statm")
    if not pages.is_file():
        return None
    return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def recorded(pipe) -> None:
    """With every map, one of them asked for, and a forward again."""
    with ux.record(pipe.unet, "mid_block*") as recording:
        run = pipe(PROMPT, **SMALL)
    recording.attention("circle")
    run.replay(0, "conv_out")


def explored(pipe) -> None:
    """In the word explorer and the map of the U, which are asked as a page asks."""
    run = pipe(PROMPT, **SMALL)
    for view in (ux.explore(run), ux.umap(run)):
        for question in view.baked()[:3]:
            view.answer(question)
        view.still()
        view.close()


def live(pipe) -> None:
    """Drawn while it runs, to its end."""
    view = ux.live(pipe, PROMPT, **SMALL)
    view.wait()
    view.still()
    view.close()


def stopped(pipe) -> None:
    """Drawn while it runs, begun anew and stopped."""
    view = ux.live(pipe, PROMPT, **LONG)
    view.start(PROMPT, seed=1)
    while not view.frames and view.status == "running":
        time.sleep(0.01)
    view.stop()
    view.close()


def interrupted(pipe) -> None:
    """Recorded, and somewhere in it Ctrl-C."""
    heard = threading.Event()
    sender = threading.Thread(target=_interrupt, args=(heard,))
    try:
        sender.start()
        with ux.record(pipe.unet, "*", stats=True):
            pipe(PROMPT, **LONG)
    except KeyboardInterrupt:
        heard.set()
    sender.join()


def _interrupt(heard: threading.Event) -> None:
    """Python swallows an interrupt that comes in a finalizer: then another, a second later."""
    wait = 0.05
    while not heard.wait(wait):
        os.kill(os.getpid(), signal.SIGINT)
        wait = 1


KINDS: tuple[Callable, ...] = (recorded, explored, live, stopped, interrupted)


def endure(pipe, runs: int) -> tuple[Left, Left]:
    """What was held after the first of some runs, and after the last."""
    for kind in KINDS * WARM:
        kind(pipe)
    first = Left.now(pipe)
    for kind in islice(cycle(KINDS), runs - WARM * len(KINDS)):
        kind(pipe)
    return first, Left.now(pipe)


def explorers(pipe, count: int) -> tuple[Left, Left, Left]:
    """What was held before so many explorers were open at once, meanwhile, and afterwards."""
    before = Left.now(pipe)
    views = [ux.explore(pipe(PROMPT, **SMALL, seed=seed)) for seed in range(count)]
    for view in views:
        view.answer(view.baked()[0])
    meanwhile = Left.now(pipe)
    while views:
        views.pop().close()
    del view
    return before, meanwhile, Left.now(pipe)


def cost(runs: int) -> str:
    """So many runs, and then the explorers."""
    pipe = ux.load(device="cpu")
    first, last = endure(pipe, runs)
    before, meanwhile, after = explorers(pipe, EXPLORERS)
    rows = [
        (f"after {WARM * len(KINDS)} runs", *_row(first)),
        (f"after {runs} runs", *_row(last)),
        ("before the explorers", *_row(before)),
        (f"{EXPLORERS} explorers open, each of its own run", *_row(meanwhile)),
        ("all closed", *_row(after)),
    ]
    title = "Many runs in one process: recorded, explored, live, stopped and interrupted in turn"
    return table(title, rows, ("", "hooks", "threads", "widgets", "objects", "resident memory"))


def _row(left: Left) -> tuple:
    memory = "" if left.memory is None else f"{left.memory:,.0f} MB"
    return left.hooks, left.threads, left.widgets, f"{left.objects:,}", memory
