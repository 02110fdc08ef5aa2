"""An interrupt at any line of what watches a pipeline: the next call is rid of all of it."""

import gc
import sys
from collections import defaultdict
from pathlib import Path

import pytest
import torch
from pipelines import RED, build, run

import unet_explained as ux
from unet_explained.recording.hooks import Hook

ROOT = Path(ux.__file__).parent
WATCHED = {str(ROOT / part) for part in ("run/calls.py", "run/reader.py", "recording/watch.py")}


class Interrupting:
    """Inside `with`, KeyboardInterrupt at a line that runs in WATCHED; seen: all such."""

    def __init__(self, at: int | None = None) -> None:
        self.at, self.count = at, 0
        self.seen: dict[tuple[str, int], list[int]] = defaultdict(list)

    def __enter__(self) -> "Interrupting":
        sys.settrace(self._trace)
        return self

    def __exit__(self, *error) -> None:
        sys.settrace(None)

    def _trace(self, frame, event: str, arg):
        if frame.f_code.co_filename not in WATCHED:
            return None
        if event == "line":
            self.seen[frame.f_code.co_filename, frame.f_lineno].append(self.count)
            self.count += 1
            if self.count - 1 == self.at:
                sys.settrace(None)
                raise KeyboardInterrupt
        return self._trace


def hooks(pipe) -> list[Hook]:
    modules = [module for part in (pipe.unet, pipe.text_encoder) for module in part.modules()]
    stores = [store for m in modules for store in (m._forward_hooks, m._forward_pre_hooks)]
    return [hook for store in stores for hook in store.values() if isinstance(hook, Hook)]


def recorded(pipe, options) -> ux.Recording:
    with ux.record(pipe, attention=None) as rec:
        run(pipe, RED, **options)
    return rec


@pytest.mark.slow
def test_an_interrupt_at_any_line_of_who_watches():
    pipe, options = build("sd")
    options |= {"num_inference_steps": 1}
    kind, expected = type(pipe), run(pipe, RED, **options)
    with Interrupting() as lines:
        recorded(pipe, options)
    places = sorted({place for seen in lines.seen.values() for place in (seen[0], seen[-1])})
    assert len(places) > 100
    gc.disable()  # what is only found by it may act for long
    try:
        for place in places:
            try:
                with Interrupting(place):
                    recorded(pipe, options)
            except KeyboardInterrupt:
                pass
            assert torch.equal(run(pipe, RED, **options), expected)
            assert type(pipe) is kind
            assert hooks(pipe) == []
    finally:
        gc.enable()
