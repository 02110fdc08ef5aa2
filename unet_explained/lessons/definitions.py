"""A word's map as this package and three other tools define it, all from one record."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from ..recording import Recording
from ..recording.heatmaps import resize, word_map

EDGE = 16  # pixels a side of the layers that prompt-to-prompt shows


def by_each_definition(
    rec: Recording, word: str, occurrence: int = 0
) -> dict[str, Float[Tensor, "_ _"]]:
    """One occurrence's map by tool; the record has all heads (attention="heads") and one picture.

    The scales differ: means are shares of attention, sums are not. ValueError for an unknown word.
    """
    return {
        "this package": rec.attention(word, occurrence=occurrence),
        "DAAM": rec.attention(word, occurrence=occurrence, method="daam"),
        "attention-map-diffusers": summed(rec, word, occurrence),
        "prompt-to-prompt": at_one_size(rec, word, occurrence),
    }


def summed(rec: Recording, word: str, occurrence: int) -> Float[Tensor, "_ _"]:
    """attention-map-diffusers: heads summed, then the mean of layers and steps, bilinear."""
    largest = max(rec.layers.values(), key=lambda size: size[0] * size[1])
    maps = [resize(heat, largest) for heat in _heads_summed(rec, word, occurrence, rec.layers)]
    return torch.stack(maps).mean(dim=0)


def at_one_size(rec: Recording, word: str, occurrence: int) -> Float[Tensor, "_ _"]:
    """prompt-to-prompt (Hertz et al. 2022): the mean of all heads of the 16 x 16 layers, not mid's.

    ValueError where no layer has that size.
    """
    names = [n for n, size in rec.layers.items() if size == (EDGE, EDGE) and "mid" not in n]
    if not names:
        sizes = sorted(set(rec.layers.values()))
        raise ValueError(f"no layer is {EDGE} x {EDGE}, those that prompt-to-prompt shows: {sizes}")
    total = torch.stack(_heads_summed(rec, word, occurrence, names)).sum(dim=0)
    return total / sum(_heads(rec, name) for name in names)


def _heads_summed(rec: Recording, word: str, occurrence: int, names: Iterable[str]) -> list[Tensor]:
    tokens = [rec.text().find(word)[occurrence]]
    return [
        _heads(rec, name) * word_map(rec.weights(name), tokens, rec.layers[name]) for name in names
    ]


def _heads(rec: Recording, name: str) -> int:
    return rec.runs[0].steps[0].attention[name].shape[1]
