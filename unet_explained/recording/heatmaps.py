"""From attention weights to one map a word, and how well a map points: pure tensor functions."""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from ..model import attention_weights

AT_ONCE = 64 * 2**20  # bytes of float32 weights of all heads that may exist at one time


def head_mean(
    q: Float[Tensor, "batch head query head_dim"],
    k: Float[Tensor, "batch head key head_dim"],
    mask: Float[Tensor, "batch #head #query key"] | None = None,
) -> Float[Tensor, "batch query key"]:
    """attention_weights averaged over heads, some queries at a time if the layer is large."""
    parts = [
        attention_weights(part, k, masked).mean(dim=1) for part, masked in portions(q, k, mask)
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def portions(q: Tensor, k: Tensor, mask: Tensor | None) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Queries and their masks, as many at a time as have weights of at most AT_ONCE bytes."""
    batch, heads, _, _ = q.shape
    queries = q.split(max(1, AT_ONCE // (4 * batch * heads * k.shape[2])), dim=2)
    if mask is None or mask.shape[2] == 1:
        return zip(queries, [mask] * len(queries), strict=True)
    return zip(queries, mask.split(queries[0].shape[2], dim=2), strict=True)


def word_map(
    weights: Float[Tensor, "*any query key"],
    occurrences: Sequence[Sequence[int]],
    size: tuple[int, int],
) -> Float[Tensor, "*any height width"]:
    """Weights on a word: its tokens summed, its occurrences averaged; size: (height, width).

    Each occurrence is the tuple of its tokens' positions among the keys.
    """
    tokens = [token for occurrence in occurrences for token in occurrence]
    total = weights[..., tokens].float().sum(dim=-1) / len(occurrences)
    return rearrange(total, "... (height width) -> ... height width", height=size[0], width=size[1])


def resize(
    maps: Float[Tensor, "*any height_in width_in"], size: tuple[int, int] | torch.Size
) -> Float[Tensor, "*any height width"]:
    """Bilinear, to (height, width)."""
    lead = maps.shape[:-2]
    pictures = maps.reshape(-1, 1, *maps.shape[-2:])
    pictures = F.interpolate(pictures, size, mode="bilinear", align_corners=False)
    return pictures.reshape(*lead, *size)


def average(maps: Sequence[Float[Tensor, "_ _"]]) -> Float[Tensor, "height width"]:
    """The equally weighted mean, in the size of the largest."""
    size = max((heat.shape for heat in maps), key=lambda size: size[0] * size[1])
    return torch.stack([resize(heat, size) for heat in maps]).mean(dim=0)


def pointing_game(heat: Float[Tensor, "_ _"], mask: Bool[Tensor, "height width"]) -> bool:
    """Whether the map's maximum, once resized to the mask's size, lies in the mask.

    Zhang et al. 2016 (excitation backprop), without their margin.
    """
    where = resize(heat, mask.shape).argmax()
    return bool(mask.flatten()[where])


def iou(heat: Float[Tensor, "_ _"], mask: Bool[Tensor, "height width"]) -> float:
    """Intersection over union of the mask and as many pixels as it has, those of largest weight.

    The map is resized to the mask's size first. ValueError for an empty mask.
    """
    area = int(mask.sum())
    if area == 0:
        raise ValueError("the mask is empty: there is nothing to find")
    top = resize(heat, mask.shape).flatten().topk(area).indices
    shared = int(mask.flatten()[top].sum())
    return shared / (2 * area - shared)
