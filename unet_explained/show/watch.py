"""A run that shows itself while it runs: the preview of each step, in one place of a notebook."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from IPython.display import DisplayHandle

from ..run.denoise import Run, Step
from .features import pictures_row

SIDE = 256  # pixels of a kept preview: enough to see, and quick to draw


class Watched(NamedTuple):
    """A finished run, its steps, and of each step the preview, uint8 (height, width, 3)."""

    run: Run
    steps: list[Step]
    previews: list[np.ndarray]


def watch(steps: Iterator[Step]) -> Watched:
    """Runs `pipe.denoise(...)` to its end and shows each step's preview as it comes."""
    seen, previews, place = [], [], DisplayHandle()
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            return Watched(end.value, seen, previews)
        image = step.preview()
        image.thumbnail((SIDE, SIDE))
        seen.append(step)
        previews.append(np.asarray(image))
        text = f"step {step.index} of 0 to {step.total - 1}, t = {step.timestep:g}"
        show = place.display if len(seen) == 1 else place.update
        show(pictures_row([previews[-1]], [text]))
