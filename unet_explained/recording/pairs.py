"""Queries and keys of one attention, and of which pixels."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

Size = tuple[int, int]  # height, width


class Pair(NamedTuple):
    """Queries and keys of one attention, from which its weights are derived."""

    q: Float[Tensor, "picture head query head_dim"]
    k: Float[Tensor, "picture head key head_dim"]
    mask: Float[Tensor, "picture #head #query key"] | None  # added to scores
    text: int | None = None  # how many keys, the first, are the text's, where not all are
