"""Every word's map in numbers: a line for each run, picture, layer, step and word."""

from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor

from ..extras import need
from .heatmaps import word_map
from .maps import Maps
from .recorded_run import RecordedRun

COLUMNS = (
    "run", "prompt", "half", "picture", "layer", "step", "timestep", "word", "occurrence",
    "mass", "peak", "entropy", "row", "column",
)  # fmt: skip


def word_table(recording):
    """A DataFrame of COLUMNS: what Recording.to_pandas gives."""
    need("pandas")
    import pandas

    lines = [
        (number, *line)
        for number, run in enumerate(recording.runs)
        if run.origin is not None
        for line in _lines(run, recording.failed)
    ]
    return pandas.DataFrame(lines, columns=list(COLUMNS))


def _lines(run: RecordedRun, failed: dict[str, str]):
    whole = run.options.attention == "sum"
    timesteps = [None] if whole else run.timesteps
    for step, timestep in enumerate(timesteps):
        at = None if whole else step
        for half, picture in _pictures(run, step):
            layers = Maps(run, failed).layers.items()
            for text, (layer, size) in product(run.given_texts(half, picture, at), layers):
                if not (whole or layer in run.steps[step].attention):
                    continue  # some pipelines leave layers out at some steps
                one = run.weights(layer, step=at, half=half, picture=picture, text=text)
                weights, said = next(one).float(), list[str]()
                weights = weights.mean(dim=0) if weights.ndim == 3 else weights
                for word in text.spans:
                    numbers = measured(word_map(weights, [word.tokens], size))
                    where = text.text, half, picture, layer, at, timestep
                    yield (*where, word.text, said.count(word.text), *numbers)
                    said.append(word.text)


def _pictures(run: RecordedRun, step: int) -> list[tuple[str, int]]:
    """The half and the number of each kept row whose text is known."""
    rows, found = run.steps[step].rows, list[tuple[str, int]]()
    for half in dict.fromkeys(row.role for row in rows if row.role):
        own = [row for row in rows if row.role == half]
        numbered = any(row.picture is not None for row in own)
        for place, row in enumerate(own):
            picture = row.picture if numbered else place
            if row.text is not None and picture is not None:
                found.append((half, picture))
    return found


def measured(heat: Float[Tensor, "height width"]) -> tuple[float, float, float, float, float]:
    """mass, peak, entropy, row, column of a map.

    mass: the mean weight, which is the word's share of the layer's attention; peak: the largest;
    entropy: of the map as a distribution over its pixels, in bits; row and column: its centre, from
    0 at the top and left to 1. A map of zeros has no centre and no entropy: NaN.
    """
    height, width = heat.shape
    share = heat / heat.sum()
    entropy = -torch.xlogy(share, share).sum() / torch.log(torch.tensor(2.0))
    rows = (torch.arange(height) + 0.5) / height
    columns = (torch.arange(width) + 0.5) / width
    centre = (share.sum(dim=1) @ rows).item(), (share.sum(dim=0) @ columns).item()
    return heat.mean().item(), heat.max().item(), entropy.item(), *centre
