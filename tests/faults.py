"""Faults made for real: in a child process, which limits, rights and interrupts do not outlive."""

import contextlib
import ctypes
import io
import os
import pickle
import resource
import signal
import sys
from collections.abc import Callable
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import torch

SECONDS = 120  # that a child may take


class Outcome(NamedTuple):
    """How a child ended: what it returned or raised, and what it printed."""

    result: object
    error: str  # name of the exception's class, "" without one
    said: str  # the exception's words
    cause: str  # name of the class of its __cause__
    out: str
    err: str


def in_child(act: Callable[[], object], *faults: Callable[[], None]) -> Outcome:
    """Act in a fork of this process, in which the faults are made first."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(SECONDS)  # ends it
        torch.set_num_threads(1)  # a fork has no other threads, and would wait for them
        os.close(reading)
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(pickle.dumps(_outcome(act, faults)))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        outcome = pipe.read()
    _, status = os.waitpid(child, 0)
    assert outcome, f"the child ended without a word, with status {status}"
    return pickle.loads(outcome)


def fresh(act: Callable, *arguments: object) -> object:
    """What a module's function returns in a new process, which has nothing left of earlier tests.

    Memory that a fork's parent has freed is memory that the fork has: how much is not known.
    """
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(act, arguments)


def _outcome(act, faults) -> Outcome:
    result, error, said, cause = None, "", "", ""
    with (
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as err,
    ):
        try:
            for fault in faults:
                fault()
            result = act()
        except BaseException as raised:
            notes = getattr(raised, "__notes__", [])
            error, said = type(raised).__name__, "\n".join([str(raised), *notes])
            cause = type(raised.__cause__).__name__ if raised.__cause__ else ""
    return Outcome(result, error, said, cause, out.getvalue(), err.getvalue())


def disk_full() -> None:
    """No file may grow beyond 20 kB: a write beyond fails as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))


def powerless() -> None:
    """As a user for whom modes hold, where the tests run as root (capset: no capability)."""
    if os.geteuid() == 0:
        header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        assert ctypes.CDLL(None).capset(header, none) == 0


def interrupted(rename: int = 0) -> None:
    """Ctrl-C when a finished file or folder is about to get its name; at the first, or a later."""
    renames = count()

    def hook(event: str, args: tuple) -> None:
        if event == "os.rename" and next(renames) == rename:
            raise KeyboardInterrupt

    sys.addaudithook(hook)


def little_memory(more: int) -> Callable[[], None]:
    """This process may take this many bytes more than it has."""

    def fault() -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + more
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))

    return fault
