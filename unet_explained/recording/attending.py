"""Queries and keys of an attention that is not ours, from what passed its projections.

That these give its weights is proved for each layer, by what it made of its values.
"""

import math
from collections import defaultdict
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from ..model import attention_weights
from .heatmaps import portions
from .pairs import Pair, Size

TINY = torch.finfo(torch.float32).tiny
SPLIT = "batch place (head head_dim) -> batch head place head_dim"
MERGED = "batch head query head_dim -> batch query (head head_dim)"


class Attending:
    """One call of an attention, while it runs: what it was given and what passed so far."""

    def __init__(self, attention: nn.Module, args: tuple, kwargs: dict) -> None:
        given = dict(zip(("hidden_states", "encoder_hidden_states", "attention_mask"), args))
        given |= kwargs
        self.attention, self.heads = attention, int(attention.heads)  # type: ignore[arg-type]
        self.processor: object = getattr(attention, "processor", None)  # somebody's own has none
        self.context, self.mask = given.get("encoder_hidden_states"), given.get("attention_mask")
        self.image_masks = given.get("ip_adapter_masks")
        picture = given.get("hidden_states")  # some get it as pixels already
        self.size: Size | None = None
        if isinstance(picture, Tensor) and picture.ndim == 4:
            self.size = picture.shape[-2], picture.shape[-1]
        self.parts: dict[str, list[Tensor]] = defaultdict(list)
        self.merged: Tensor | None = None  # what entered to_out: weights times values

    @property
    def by(self) -> str:
        """The class that attends."""
        return type(self.attention if self.processor is None else self.processor).__name__

    @property
    def kind(self) -> tuple:
        """Of what a proof holds for later calls: the processor, what it used and of what size."""
        sizes = ((name, tuple(parts[-1].shape)) for name, parts in sorted(self.parts.items()))
        scale = getattr(self.attention, "scale", None)
        return id(self.processor), scale, self.mask is None, *sizes

    @property
    def known(self) -> bool:
        """Whether one proof is enough: others' processors may change what they do as they go."""
        return type(self.processor).__module__.startswith("diffusers.")

    def pair(self, scale: float) -> Pair:
        """Queries, keys and mask; text: how many of the keys, from the first on, are the text's."""
        q, k, _ = self._qkv()
        added = self.parts.get("add_k_proj")
        return Pair(_scaled(q, scale), k, self._mask(k), added[-1].shape[1] if added else None)

    def image_pairs(self, scale: float) -> dict[int, Pair]:
        """Of an IP-Adapter's images: each softmax by its number, adapters and images in order."""
        q, _, _ = self._qkv()
        return {n: Pair(_scaled(q, scale), k, None) for n, k, *_ in self._images()}

    def scales(self) -> list[float]:
        """What it may have multiplied the scores with: some processors use the module's own."""
        usual = 1 / math.sqrt(self._qkv()[0].shape[-1])
        own = getattr(self.attention, "scale", usual)
        return [usual] if math.isclose(own, usual, rel_tol=1e-9) else [usual, own]

    def misfit(self, batch: int, size: Size) -> str | None:
        """Why these cannot be maps of a picture's pixels, before anything is computed."""
        q, k, v = (part is not None for part in self._qkv())
        if not (q and k and v) or self.merged is None:
            return "its queries, keys or values come from elsewhere than its projections"
        queries, keys = (part.shape for part in self._qkv()[:2])
        if queries[0] != batch:
            return f"it attends for {queries[0]} rows, the forward has {batch}"
        if queries[3] != keys[3]:
            return f"its queries have {queries[3]} channels a head, its keys {keys[3]}"
        if queries[2] != math.prod(size):
            return f"its {queries[2]} queries are not the pixels of {size[0]} x {size[1]}"
        if self.context is None and keys[2] != queries[2]:
            return f"it looks at {keys[2]} keys from {queries[2]} pixels without a text"
        return None

    @torch.no_grad()
    def proved(self) -> float | str | None:
        """The scale with which weights times values are what was merged, or how far they are off.

        Right ones are off by rounding alone: a relative root mean square of some 1e-6 in float32.
        Rows that are not finite prove nothing: None if all are so.
        """
        merged = self.merged.float()  # type: ignore[union-attr]
        shares = []
        for scale in self.scales():
            off = self._again(scale) - merged
            finite = off.isfinite().flatten(1).all(dim=1)
            if finite.any():
                norm = merged[finite].square().mean().sqrt()
                share = off[finite].square().mean().sqrt() / norm.clamp(min=TINY)
                shares.append(share.item())
                if shares[-1] <= _tolerance(self.merged):  # type: ignore[arg-type]
                    return scale
        return (
            f"its weights times its values are {min(shares):.1%} off what it gave"
            if shares
            else None
        )

    def _again(self, scale: float) -> Float[Tensor, "batch query channel"]:
        """Weights times values, and those of an IP-Adapter's images with their own scale."""
        again = _attended(self.pair(scale), self._qkv()[2])
        pairs = self.image_pairs(scale)
        for number, _, v, share, mask in self._images():
            image = share * _attended(pairs[number], v)
            again = again + (image if mask is None else image * _shrunk(mask, image))
        return again

    def _qkv(self) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = (self._split(name) for name in ("to_q", "to_k", "to_v"))
        if "to_qkv" in self.parts:
            q, k, v = (self._by_head(part) for part in self.parts["to_qkv"][-1].chunk(3, dim=-1))
        elif "to_kv" in self.parts:
            k, v = (self._by_head(part) for part in self.parts["to_kv"][-1].chunk(2, dim=-1))
        q, k = self._split("norm_q", q), self._split("norm_k", k)
        k, v = self._with_added("add_k_proj", k), self._with_added("add_v_proj", v)
        return q, k, v

    def _split(self, name: str, otherwise=None):
        """By head; what never fired was not used."""
        return self._by_head(self.parts[name][-1]) if name in self.parts else otherwise

    def _by_head(self, x: Tensor) -> Tensor:
        return x if x.ndim == 4 else rearrange(x, SPLIT, head=self.heads)

    def _with_added(self, name: str, own):
        """The text's keys stand before the pixels'."""
        added = self._split(name)
        if added is None or own is None:
            return own if added is None else added
        return torch.cat([added, own], dim=2)

    def _mask(self, k: Tensor) -> Tensor | None:
        """What is added to scores: (batch, head or 1, query or 1, key)."""
        mask = self.mask
        if mask is None:
            return None
        if mask.dtype == torch.bool:
            mask = torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, -math.inf)
        mask = mask[:, None] if mask.ndim == 2 else mask  # of our UNet (batch, key)
        mask = F.pad(mask, (0, k.shape[2] - mask.shape[-1]))
        heads = len(mask) // len(k)
        return rearrange(mask, "(batch head) query key -> batch head query key", head=heads or 1)

    def _images(self) -> Iterator[tuple[int, Tensor, Tensor, float, Tensor | None]]:
        """Of each softmax over an IP-Adapter's images: number, keys, values, scale, pixels' mask.

        One an adapter, or with masks one an image; those of scale 0 do not take place.
        """
        adapters = self.context[1] if isinstance(self.context, tuple) else []
        scales = getattr(self.processor, "scale", [])
        masks = [None] * len(adapters) if self.image_masks is None else list(self.image_masks)
        number = 0
        for i, (images, scale, mask) in enumerate(zip(adapters, scales, masks)):
            count = 1 if mask is None else images.shape[1]
            keys, values = (self.parts.get(f"processor.to_{part}_ip.{i}", []) for part in "kv")
            each = scale if isinstance(scale, list) else [scale] * count
            for image, (k, v) in enumerate(zip(keys, values)):
                one = None if mask is None else mask.reshape(1, -1, *mask.shape[-2:])[:, image]
                k, v = (self._by_head(_flat(part)) for part in (k, v))
                yield number + image, k, v, each[image], one
            number += count


def _attended(pair: Pair, v: Tensor) -> Float[Tensor, "batch query channel"]:
    parts = [
        attention_weights(q, pair.k, mask) @ v.float()
        for q, mask in portions(pair.q, pair.k, pair.mask)
    ]
    return rearrange(torch.cat(parts, dim=2), MERGED)


def _shrunk(mask: Tensor, like: Tensor) -> Tensor:
    """A mask of the whole picture as one of this layer's pixels, as diffusers makes it."""
    from diffusers.image_processor import IPAdapterMaskProcessor

    return IPAdapterMaskProcessor.downsample(mask, *like.shape).to(like)


def _scaled(q: Tensor, scale: float) -> Tensor:
    """Queries that attention_weights, which divides by the root of head_dim, gives this scale."""
    factor = scale * math.sqrt(q.shape[-1])
    return q if math.isclose(factor, 1, rel_tol=1e-9) else q * factor


def _flat(x: Tensor) -> Tensor:
    """(batch, images, tokens, channels) as one row of tokens."""
    pattern = "batch image token channel -> batch (image token) channel"
    return rearrange(x, pattern) if x.ndim == 4 else x


def _tolerance(merged: Tensor) -> float:
    """What rounding may do; CUDA may be told to multiply float32 with ten bits."""
    eps = torch.finfo(merged.dtype).eps
    if merged.is_cuda and torch.backends.cuda.matmul.allow_tf32:
        eps = max(eps, 2**-10)
    return max(4 * eps, 3e-5)
