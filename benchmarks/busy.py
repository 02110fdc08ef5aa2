"""What a step of the bundled model takes on a busy machine, by how its OpenMP threads wait."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

from .timing import Timing, table

SETTINGS = {
    "as it comes": {},
    "GOMP_SPINCOUNT=2000": {"GOMP_SPINCOUNT": "2000"},
    "GOMP_SPINCOUNT=0": {"GOMP_SPINCOUNT": "0"},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
STATES = {
    "quiet": "nothing else runs",
    "in a second thread": "as ux.live has it, while the first one's OpenMP threads wait",
    "busy": "beside one process that never rests",
}
PROMPT = "a red circle left of a blue square"
STEPS = 5  # of each state; the first is for warmth


def cost(rounds: int) -> str:
    """A step under each setting, in processes of their own, one after the other, round by round."""
    seconds: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in SETTINGS}
    for _ in range(rounds):
        for name, setting in SETTINGS.items():
            for state, steps in _in_a_process(setting).items():
                seconds[name][state] += steps
    rows = [(name, *_row(states)) for name, states in seconds.items()]
    title = f"One step of the bundled model on a CPU, quiet and busy, {os.cpu_count()} cores"
    said = "; ".join(f"{state}: {what}" for state, what in STATES.items())
    return f"{table(title, rows, ('', *STATES, 'busy / quiet'))}\n{said}.\n"


def _in_a_process(setting: dict[str, str]) -> dict[str, list[float]]:
    """Python is started anew: OpenMP reads its environment as torch is loaded, and never again."""
    settings = {name for each in SETTINGS.values() for name in each}
    inherited = {name: value for name, value in os.environ.items() if name not in settings}
    command = [sys.executable, "-m", "benchmarks.busy"]
    done = subprocess.run(command, env=inherited | setting, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def _row(states: dict[str, list[float]]) -> list[str]:
    busy, quiet = (statistics.median(states[name]) for name in ("busy", "quiet"))
    return [*(str(Timing(tuple(states[name]))) for name in STATES), f"{busy / quiet:.2f}"]


def _measure() -> dict[str, list[float]]:
    import unet_explained as ux

    pipe = ux.load(device="cpu")
    seconds = {"quiet": _steps(pipe), "in a second thread": _apart(pipe)}
    with _busy():
        seconds["busy"] = _steps(pipe)
    return seconds


def _steps(pipe) -> list[float]:
    seconds, run = [], pipe.denoise(PROMPT, steps=STEPS)
    for _ in range(STEPS):
        start = time.perf_counter()
        next(run)
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


def _apart(pipe) -> list[float]:
    found: list[float] = []
    thread = Thread(target=lambda: found.extend(_steps(pipe)))
    thread.start()
    thread.join()
    return found


@contextmanager
def _busy() -> Iterator[None]:
    """One core is taken."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        try:
            yield
        finally:
            other.kill()


if __name__ == "__main__":
    print(json.dumps(_measure()))
