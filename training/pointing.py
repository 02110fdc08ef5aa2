"""Teaches each word's attention to lie on its thing, while the UNet learns to remove noise.

From the noise alone it takes long to find out which word speaks of which patch of the picture. The
drawn scenes know it: a localisation loss, after FastComposer (Xiao et al. 2023), tells the layers
in TAUGHT. The other layers are left to find their own use for the words.

Before there is anything to see, in nearly pure noise, a pixel can only tell that it is asked for
"on the left" if it knows where it is. A UNet learns that from the zeros that its convolutions see
beyond the edges, very slowly; so the same layers are asked for it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from math import isqrt

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor, nn
from transformers import CLIPTokenizer

from unet_explained.bundled.captions import Caption, mentioned
from unet_explained.bundled.world import THINGS
from unet_explained.model.attention import attention_weights

from .reading import retold

TAUGHT = ("up_blocks.1.", "up_blocks.2.")  # the ways up through 16 x 16 and 32 x 32
PLACE_WEIGHT = 10.0  # against the words: a place is off by thousandths, a word by whole nats
SMALL = 1e-6


def word_tokens(
    captions: list[Caption | None], tokenizer: CLIPTokenizer
) -> Float[Tensor, "batch role thing token"]:
    """1 where a token is of a thing's colour word (role 0), its noun (1) or its padding (2)."""
    texts = ["" if caption is None else caption.text for caption in captions]
    read = tokenizer(
        texts, padding="max_length", return_offsets_mapping=True, return_tensors="pt"
    )  # fmt: skip
    counts = torch.tensor([len(caption.nouns) if caption else 0 for caption in captions])
    padding = retold(read.input_ids, counts, tokenizer)
    words = torch.zeros(len(captions), 3, THINGS, padding.shape[1])
    for row, caption in enumerate(captions):
        if caption is None:
            continue
        for slot, thing in enumerate(mentioned(caption)):
            words[row, 2, thing] = padding[row, :, slot]
        for thing, names in enumerate(zip(caption.colours, caption.nouns, strict=True)):
            start = caption.text.index(" ".join(names))
            for role, word in enumerate(names):
                left, right = read.offset_mapping[row].unbind(1)
                words[row, role, thing] = ((start < right) & (left < start + len(word))).float()
                start += len(word) + 1
    return words


class PointingLoss(nn.Module):
    """How far the pixels of a UNet's taught layers are from their places and from their words."""

    def __init__(self, unet: nn.Module):
        super().__init__()
        self._taught = [  # a plain list: these modules belong to the UNet
            module
            for name, module in unet.named_modules()
            if name.startswith(TAUGHT) and name.endswith("attn2")
        ]
        self.place = nn.ModuleList(nn.Linear(each.to_q.in_features, 2) for each in self._taught)

    @contextmanager
    def watching(self) -> Iterator[list[tuple[Tensor, Tensor, Tensor]]]:
        """Collects in a forward what each taught cross-attention is given, and its q and k."""
        seen = []

        def see(module, inputs):
            seen.append(inputs[:1])

        def see_attend(module, inputs):
            seen[-1] += inputs[:2]

        hooks = [each.register_forward_pre_hook(see) for each in self._taught]
        hooks += [each.attend.register_forward_pre_hook(see_attend) for each in self._taught]
        try:
            yield seen
        finally:
            for hook in hooks:
                hook.remove()

    def forward(
        self,
        seen: list[tuple[Tensor, Tensor, Tensor]],
        words: Float[Tensor, "batch role thing token"],
        masks: Float[Tensor, "batch thing height width"],
        shown: Float[Tensor, " batch"],
        where: bool = True,
    ) -> Float[Tensor, ""]:
        """Where not `where`, the pixels' places are not asked for: they were cut out."""
        losses = [
            word_loss(q, k, words, masks, shown) + where * PLACE_WEIGHT * place_loss(place(states))
            for place, (states, q, k) in zip(self.place, seen, strict=True)
        ]
        return torch.stack(losses).mean()


def place_loss(places: Float[Tensor, "batch query 2"]) -> Float[Tensor, ""]:
    """Squared error of the pixels' places (x, y), of a square whose edges are -1 and 1."""
    side = isqrt(places.shape[1])
    line = (torch.arange(side, device=places.device) + 0.5) / side * 2 - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    return F.mse_loss(places, torch.stack([x, y], 2).flatten(0, 1).expand_as(places))


def word_loss(
    q: Float[Tensor, "batch head query channel"],
    k: Float[Tensor, "batch head key channel"],
    words: Float[Tensor, "batch role thing key"],
    masks: Float[Tensor, "batch thing height width"],
    shown: Float[Tensor, " batch"],
) -> Float[Tensor, ""]:
    """Cross-entropy of where the heads' mean looks from each pixel.

    As far as a thing is `shown` (0 to 1), its pixels should look half at its colour word and half
    at its noun; while it is lost in noise, at the padding that tells of it; all others at none of
    these.
    """
    weights = attention_weights(q, k).mean(1)
    side = isqrt(weights.shape[1])
    inside = rearrange(F.adaptive_avg_pool2d(masks, side), "batch thing y x -> batch thing (y x)")
    shares = einsum(
        weights, words, "batch query key, batch role thing key -> batch role thing query"
    )
    areas = inside.sum(2)
    colour, noun, padding = (shares + SMALL).log().unbind(1)
    shown = shown[:, None, None]
    right = shown * (colour + noun) / 2 + (1 - shown) * padding
    missed = -((right * inside).sum(2) / areas.clamp(min=1)).sum() / (areas > 0).sum().clamp(1)
    outside = 1 - inside.sum(1).clamp(max=1)
    strayed = -((1 - shares.sum((1, 2))).clamp(min=SMALL).log() * outside).mean()
    return missed + strayed
