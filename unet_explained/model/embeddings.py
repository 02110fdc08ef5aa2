"""Stage 1: the timestep, a class and SDXL's conditions, as vectors."""

import math

import torch
from einops import rearrange
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from .config import UNetConfig

ACTIVATION = {"silu": nn.SiLU, "swish": nn.SiLU, "mish": nn.Mish, "gelu": nn.GELU, "relu": nn.ReLU}


class Timesteps(nn.Module):
    """cos(w t) and sin(w t), at num_channels / 2 frequencies w = 10000^(-i / (half - freq_shift)).

    The positional encoding of Vaswani et al. 2017, as DDPM (Ho et al. 2020) uses it for time.
    """

    def __init__(self, num_channels: int, flip_sin_to_cos: bool, freq_shift: float):
        super().__init__()
        self.num_channels = num_channels
        self.flip_sin_to_cos = flip_sin_to_cos
        self.freq_shift = freq_shift

    def forward(self, timesteps: Shaped[Tensor, "batch"]) -> Float[Tensor, "batch channel"]:
        half = self.num_channels // 2
        index = torch.arange(half, dtype=torch.float32, device=timesteps.device)
        frequency = torch.exp(-math.log(10000) * index / (half - self.freq_shift))
        # Always in float32: near 1000, float16 counts in halves, bfloat16 in fours.
        angle = rearrange(timesteps.float(), "batch -> batch 1") * frequency
        waves = [angle.cos(), angle.sin()] if self.flip_sin_to_cos else [angle.sin(), angle.cos()]
        return torch.cat(waves, dim=-1)

    def extra_repr(self) -> str:
        order = "cos, sin" if self.flip_sin_to_cos else "sin, cos"
        return f"{self.num_channels}, [{order}], freq_shift={self.freq_shift}"


class TimestepEmbedding(nn.Module):
    """linear_2(act(linear_1(sample + cond_proj(condition)))); condition: LCM's guidance, if any."""

    def __init__(
        self,
        in_channels: int,
        time_embed_dim: int,
        act_fn: str = "silu",
        cond_proj_dim: int | None = None,
    ):
        super().__init__()
        self.linear_1 = nn.Linear(in_channels, time_embed_dim)
        self.cond_proj = (
            nn.Linear(cond_proj_dim, in_channels, bias=False) if cond_proj_dim else None
        )
        self.act = ACTIVATION[act_fn]()
        self.linear_2 = nn.Linear(time_embed_dim, time_embed_dim)

    def forward(
        self,
        sample: Float[Tensor, "batch channel"],
        condition: Float[Tensor, "batch guidance"] | None = None,
    ) -> Float[Tensor, "batch time"]:
        if condition is not None:
            sample = sample + self.cond_proj(condition)
        return self.linear_2(self.act(self.linear_1(sample)))


def class_embedding(config: UNetConfig) -> nn.Module | None:
    """The module that turns class_labels into a vector of the time embedding's width, if any."""
    width, projected = config.time_embed_dim, config.projection_class_embeddings_input_dim
    match config.class_embed_type:
        case "timestep":
            return TimestepEmbedding(config.block_out_channels[0], width, config.act_fn)
        case "identity":
            return nn.Identity()
        case "projection":
            return TimestepEmbedding(projected, width)
        case "simple_projection":
            return nn.Linear(projected, width)
        case None if config.num_class_embeds:
            return nn.Embedding(config.num_class_embeds, width)
    return None
