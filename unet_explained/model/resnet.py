"""The convolutional half of a block: ResnetBlock2D and the two modules that change resolution."""

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from .config import UNetConfig
from .embeddings import ACTIVATION


class TimeShift(nn.Module):
    """One number per channel becomes one plane per channel: the same for every pixel."""

    def forward(self, time: Float[Tensor, "batch channel"]) -> Float[Tensor, "batch channel 1 1"]:
        return rearrange(time, "batch channel -> batch channel 1 1")


class ResnetBlock2D(nn.Module):
    """x + conv2(act(norm2(conv1(act(norm1(x))) + time))), where time = time_emb_proj(act(temb)).

    With scale_shift, norm2's output is multiplied by 1 + scale and shifted: the halves of time.
    Where the channels change, conv_shortcut (1x1) takes x to the new width. After He et al. 2016
    and DDPM (Ho et al. 2020).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        config: UNetConfig,
        output_scale_factor: float = 1.0,
    ):
        super().__init__()
        self.scales_too = config.resnet_time_scale_shift == "scale_shift"
        self.output_scale_factor = output_scale_factor
        time_channels = out_channels * (2 if self.scales_too else 1)

        self.norm1 = nn.GroupNorm(config.groups(in_channels), in_channels, config.norm_eps)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.time_emb_proj = nn.Linear(config.time_embed_dim, time_channels)
        self.time_shift = TimeShift()
        self.norm2 = nn.GroupNorm(config.groups(out_channels), out_channels, config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.nonlinearity = ACTIVATION[config.act_fn]()
        changes = in_channels != out_channels
        self.conv_shortcut = nn.Conv2d(in_channels, out_channels, 1) if changes else None

    def forward(
        self,
        input_tensor: Float[Tensor, "batch channel_in height width"],
        temb: Float[Tensor, "batch time"],
    ) -> Float[Tensor, "batch channel height width"]:
        x = input_tensor
        hidden = self.conv1(self.nonlinearity(self.norm1(x)))

        time = self.time_shift(self.time_emb_proj(self.nonlinearity(temb)))
        if self.scales_too:
            pattern = "batch (two channel) 1 1 -> two batch channel 1 1"
            scale, shift = rearrange(time, pattern, two=2)
            hidden = self.norm2(hidden) * (1 + scale) + shift
        else:
            hidden = self.norm2(hidden + time)
        hidden = self.conv2(self.dropout(self.nonlinearity(hidden)))

        x = (self.conv_shortcut(x) if self.conv_shortcut else x) + hidden
        # Dividing by one would cost a pass over the tensor in every resnet.
        return x if self.output_scale_factor == 1 else x / self.output_scale_factor

    def extra_repr(self) -> str:
        time = "time scales and shifts" if self.scales_too else "time shifts"
        divided = self.output_scale_factor != 1
        return time + (f", output / {self.output_scale_factor}" if divided else "")


class Downsample2D(nn.Module):
    """Half the height and width by a convolution of stride 2: rounded up, at padding 0 down."""

    def __init__(self, channels: int, padding: int = 1):
        super().__init__()
        self.padding = padding
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=padding)

    def forward(
        self, hidden_states: Float[Tensor, "batch channel height_in width_in"]
    ) -> Float[Tensor, "batch channel height width"]:
        x = hidden_states
        if self.padding == 0:
            x = F.pad(x, (0, 1, 0, 1))
        return self.conv(x)

    def extra_repr(self) -> str:
        return "size / 2" + (", padded right and below" if self.padding == 0 else "")


class Upsample2D(nn.Module):
    """Nearest-neighbour enlargement, then a convolution that smooths it (Odena et al. 2016)."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(
        self,
        hidden_states: Float[Tensor, "batch channel height_in width_in"],
        output_size: tuple[int, int],
    ) -> Float[Tensor, "batch channel height width"]:
        return self.conv(F.interpolate(hidden_states, size=output_size, mode="nearest"))

    def extra_repr(self) -> str:
        return "size * 2, or to the next skip's"
