"""The attention half of a block: where the picture looks at itself and at the prompt.

Vaswani et al. 2017 for attention, Rombach et al. 2022 for the transformer inside a UNet, Shazeer
2020 for the gated feed-forward.
"""

import math

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor, nn

from .config import UNetConfig


def attention_weights(
    q: Float[Tensor, "batch head query head_dim"],
    k: Float[Tensor, "batch head key head_dim"],
    mask: Float[Tensor, "batch #head #query key"] | None = None,
) -> Float[Tensor, "batch head query key"]:
    """softmax(q kᵀ / √head_dim + mask) in float32: what Attend multiplies v with, never shown."""
    q, k = q.float() / math.sqrt(q.shape[-1]), k.float()
    pattern = "batch head query head_dim, batch head key head_dim -> batch head query key"
    scores = einsum(q, k, pattern)
    return torch.softmax(scores if mask is None else scores + mask.float(), dim=-1)


class Attend(nn.Module):
    """softmax(q kᵀ / √head_dim + mask) v: a module, so that a hook sees q, k, v and the output."""

    def forward(
        self,
        q: Float[Tensor, "batch head query head_dim"],
        k: Float[Tensor, "batch head key head_dim"],
        v: Float[Tensor, "batch head key head_dim"],
        mask: Float[Tensor, "batch 1 1 key"] | None = None,
    ) -> Float[Tensor, "batch head query head_dim"]:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


class Attention(nn.Module):
    """Multi-head attention: cross-attention if called with a context, self-attention if not."""

    def __init__(self, query_dim: int, heads: int, cross_attention_dim: int | None = None):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(query_dim, query_dim, bias=False)
        self.to_k = nn.Linear(cross_attention_dim or query_dim, query_dim, bias=False)
        self.to_v = nn.Linear(cross_attention_dim or query_dim, query_dim, bias=False)
        self.attend = Attend()
        # The Dropout is the checkpoint's to_out.1; its rate is 0 in every UNet of this family.
        self.to_out = nn.Sequential(nn.Linear(query_dim, query_dim), nn.Dropout(0.0))

    def forward(
        self,
        hidden_states: Float[Tensor, "batch query channel"],
        encoder_hidden_states: Float[Tensor, "batch key text"] | None = None,
        attention_mask: Float[Tensor, "batch key"] | None = None,
    ) -> Float[Tensor, "batch query channel"]:
        x = hidden_states
        context = x if encoder_hidden_states is None else encoder_hidden_states
        split = "batch query (head head_dim) -> batch head query head_dim"
        q = rearrange(self.to_q(x), split, head=self.heads)
        k = rearrange(self.to_k(context), split, head=self.heads)
        v = rearrange(self.to_v(context), split, head=self.heads)
        if attention_mask is not None:
            attention_mask = rearrange(attention_mask, "batch key -> batch 1 1 key")
        x = self.attend(q, k, v, attention_mask)
        return self.to_out(rearrange(x, "batch head query head_dim -> batch query (head head_dim)"))

    def extra_repr(self) -> str:
        return f"heads={self.heads}, head_dim={self.to_q.out_features // self.heads}"


class GEGLU(nn.Module):
    """value * gelu(gate), both from one linear; the gelu is the exact one, with erf."""

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.proj = nn.Linear(channels, 2 * hidden)

    def forward(
        self, hidden_states: Float[Tensor, "batch query channel"]
    ) -> Float[Tensor, "batch query hidden"]:
        both = self.proj(hidden_states)
        value, gate = rearrange(both, "batch query (two hidden) -> two batch query hidden", two=2)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """Each position on its own: to four times the width, gated, and back."""

    def __init__(self, channels: int):
        super().__init__()
        hidden = 4 * channels
        self.net = nn.Sequential(
            GEGLU(channels, hidden), nn.Dropout(0.0), nn.Linear(hidden, channels)
        )

    def forward(
        self, hidden_states: Float[Tensor, "batch query channel"]
    ) -> Float[Tensor, "batch query channel"]:
        return self.net(hidden_states)


class BasicTransformerBlock(nn.Module):
    """x + attn1(norm1(x)), x + attn2(norm2(x), prompt), x + ff(norm3(x))."""

    def __init__(
        self,
        channels: int,
        heads: int,
        cross_attention_dim: int,
        only_cross_attention: bool = False,
    ):
        super().__init__()
        self.only_cross_attention = only_cross_attention
        attn1_dim = cross_attention_dim if only_cross_attention else None
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = Attention(channels, heads, attn1_dim)
        self.norm2 = nn.LayerNorm(channels)
        self.attn2 = Attention(channels, heads, cross_attention_dim)
        self.norm3 = nn.LayerNorm(channels)
        self.ff = FeedForward(channels)

    def forward(
        self,
        hidden_states: Float[Tensor, "batch query channel"],
        encoder_hidden_states: Float[Tensor, "batch token text"],
        attention_mask: Float[Tensor, "batch key"] | None = None,
        encoder_attention_mask: Float[Tensor, "batch token"] | None = None,
    ) -> Float[Tensor, "batch query channel"]:
        x = hidden_states
        context = encoder_hidden_states if self.only_cross_attention else None
        x = x + self.attn1(self.norm1(x), context, attention_mask)
        x = x + self.attn2(self.norm2(x), encoder_hidden_states, encoder_attention_mask)
        return x + self.ff(self.norm3(x))


class Transformer2DModel(nn.Module):
    """A picture as a sequence of pixels, through transformer blocks, and back, plus itself."""

    def __init__(
        self,
        channels: int,
        depth: int,
        config: UNetConfig,
        level: int,
        only_cross_attention: bool = False,
    ):
        super().__init__()
        heads = config.at("attention_head_dim", level)
        text_channels = config.at("cross_attention_dim", level)
        self.linear = config.use_linear_projection

        def projection() -> nn.Module:
            if self.linear:
                return nn.Linear(channels, channels)
            return nn.Conv2d(channels, channels, 1)

        # eps is 1e-6 here, whatever norm_eps says: the checkpoints were trained so.
        self.norm = nn.GroupNorm(config.groups(channels), channels, eps=1e-6)
        self.proj_in = projection()
        self.transformer_blocks = nn.ModuleList(
            BasicTransformerBlock(channels, heads, text_channels, only_cross_attention)
            for _ in range(depth)
        )
        self.proj_out = projection()

    def forward(
        self,
        hidden_states: Float[Tensor, "batch channel height width"],
        encoder_hidden_states: Float[Tensor, "batch token text"],
        attention_mask: Float[Tensor, "batch key"] | None = None,
        encoder_attention_mask: Float[Tensor, "batch token"] | None = None,
    ) -> Float[Tensor, "batch channel height width"]:
        height = hidden_states.shape[-2]

        def flat(x: Tensor) -> Tensor:
            return rearrange(x, "batch channel height width -> batch (height width) channel")

        def picture(x: Tensor) -> Tensor:
            pattern = "batch (height width) channel -> batch channel height width"
            return rearrange(x, pattern, height=height)

        x = self.norm(hidden_states)
        # SD 1 projects the picture by a 1x1 convolution, SD 2 and SDXL the sequence by a linear.
        x = self.proj_in(flat(x)) if self.linear else flat(self.proj_in(x))
        for block in self.transformer_blocks:
            x = block(x, encoder_hidden_states, attention_mask, encoder_attention_mask)
        x = picture(self.proj_out(x)) if self.linear else self.proj_out(picture(x))
        return hidden_states + x
