"""The blocks of the U, under the checkpoint's class names.

Each is built from the config and its level: 0 is the full resolution, each level below has half
the height and width. Down blocks are called alike, with or without attention; so are mid and up.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .attention import Transformer2DModel
from .config import UNetConfig
from .resnet import Downsample2D, ResnetBlock2D, Upsample2D


class Context(NamedTuple):
    """The prompt that attentions look at, and what is added to the scores of masked keys."""

    encoder_hidden_states: Float[Tensor, "batch token text"]
    attention_mask: Float[Tensor, "batch key"] | None = None  # of what attn1 looks at
    encoder_attention_mask: Float[Tensor, "batch token"] | None = None  # of what attn2 looks at


def _transformers(config: UNetConfig, level: int, side: str) -> nn.ModuleList:
    channels = config.block_out_channels[level]
    # The mid block's attn1 is self-attention whatever only_cross_attention says.
    only_cross = side != "mid" and config.at("only_cross_attention", level)
    depths = config.transformer_depths(level, side)
    return nn.ModuleList(Transformer2DModel(channels, n, config, level, only_cross) for n in depths)


class DownBlock2D(nn.Module):
    """Resnets, then half the resolution, except at the bottom; every output is kept as a skip."""

    adapter_before_downsampling = False  # where a T2I-Adapter's feature is added, skip included

    def __init__(self, config: UNetConfig, level: int):
        super().__init__()
        self.level = level
        channels = config.block_out_channels[level]
        incoming = config.block_out_channels[max(level - 1, 0)]
        inputs = [incoming] + [channels] * (config.at("layers_per_block", level) - 1)
        bottom = level == config.levels - 1
        self.resnets = nn.ModuleList(ResnetBlock2D(width, channels, config) for width in inputs)
        self.downsamplers = nn.ModuleList(
            [] if bottom else [Downsample2D(channels, config.downsample_padding)]
        )

    def layer(self, i: int, x: Tensor, temb: Tensor, context: Context) -> Tensor:
        return self.resnets[i](x, temb)

    def forward(
        self,
        hidden_states: Float[Tensor, "batch channel_in height_in width_in"],
        temb: Float[Tensor, "batch time"],
        context: Context,
        adapter: Float[Tensor, "batch channel _ _"] | None = None,
    ) -> tuple[
        Float[Tensor, "batch channel height width"], list[Float[Tensor, "batch channel _ _"]]
    ]:
        x, skips = hidden_states, []
        for i in range(len(self.resnets)):
            x = self.layer(i, x, temb, context)
            skips.append(x)
        if adapter is not None and self.adapter_before_downsampling:
            x = skips[-1] = x + adapter
        for downsampler in self.downsamplers:
            x = downsampler(x)
            skips.append(x)
        if adapter is not None and not self.adapter_before_downsampling:
            x = skips[-1] = x + adapter
        return x, skips

    def extra_repr(self) -> str:
        return f"level={self.level}"


class CrossAttnDownBlock2D(DownBlock2D):
    """A DownBlock2D in which a transformer follows each resnet."""

    adapter_before_downsampling = True

    def __init__(self, config: UNetConfig, level: int):
        super().__init__(config, level)
        self.attentions = _transformers(config, level, "down")

    def layer(self, i: int, x: Tensor, temb: Tensor, context: Context) -> Tensor:
        return self.attentions[i](self.resnets[i](x, temb), *context)


class UNetMidBlock2D(nn.Module):
    """One resnet at the lowest resolution."""

    def __init__(self, config: UNetConfig, resnets: int = 1):
        super().__init__()
        channels, factor = config.block_out_channels[-1], config.mid_block_scale_factor
        self.resnets = nn.ModuleList(
            ResnetBlock2D(channels, channels, config, factor) for _ in range(resnets)
        )

    def forward(
        self,
        hidden_states: Float[Tensor, "batch channel height width"],
        temb: Float[Tensor, "batch time"],
        context: Context,
    ) -> Float[Tensor, "batch channel height width"]:
        return self.resnets[0](hidden_states, temb)


class UNetMidBlock2DCrossAttn(UNetMidBlock2D):
    """Resnet, transformer, resnet: the whole picture at once, in a few pixels."""

    def __init__(self, config: UNetConfig):
        super().__init__(config, resnets=2)
        self.attentions = _transformers(config, config.levels - 1, "mid")

    def forward(
        self,
        hidden_states: Float[Tensor, "batch channel height width"],
        temb: Float[Tensor, "batch time"],
        context: Context,
    ) -> Float[Tensor, "batch channel height width"]:
        x = self.resnets[0](hidden_states, temb)
        x = self.attentions[0](x, *context)
        return self.resnets[1](x, temb)


class UpBlock2D(nn.Module):
    """Resnets, each with a skip beside its input; then twice the resolution, except at the top."""

    def __init__(self, config: UNetConfig, level: int):
        super().__init__()
        self.level = level
        widths, count = config.block_out_channels, config.at("layers_per_block", level)
        channels, above = widths[level], widths[max(level - 1, 0)]
        below = widths[min(level + 1, config.levels - 1)]
        # One resnet more than the down block: this level's first skip came from the level above.
        hidden, skip = [below] + [channels] * count, [channels] * count + [above]
        self.resnets = nn.ModuleList(
            ResnetBlock2D(a + b, channels, config) for a, b in zip(hidden, skip, strict=True)
        )
        self.upsamplers = nn.ModuleList([] if level == 0 else [Upsample2D(channels)])

    def layer(self, i: int, x: Tensor, temb: Tensor, context: Context) -> Tensor:
        return self.resnets[i](x, temb)

    def forward(
        self,
        hidden_states: Float[Tensor, "batch channel_in height_in width_in"],
        skips: list[Float[Tensor, "batch _ height_in width_in"]],
        temb: Float[Tensor, "batch time"],
        context: Context,
        upsample_size: tuple[int, int] | None,
    ) -> Float[Tensor, "batch channel height width"]:
        x = hidden_states
        for i, skip in enumerate(reversed(skips)):
            x = self.layer(i, torch.cat([x, skip], dim=1), temb, context)
        for upsampler in self.upsamplers:
            x = upsampler(x, upsample_size)
        return x

    def extra_repr(self) -> str:
        return f"level={self.level}"


class CrossAttnUpBlock2D(UpBlock2D):
    """An UpBlock2D in which a transformer follows each resnet."""

    def __init__(self, config: UNetConfig, level: int):
        super().__init__(config, level)
        self.attentions = _transformers(config, level, "up")

    def layer(self, i: int, x: Tensor, temb: Tensor, context: Context) -> Tensor:
        return self.attentions[i](self.resnets[i](x, temb), *context)


# By the names that a config calls them.
BLOCKS: dict[str, type[nn.Module]] = {
    kind.__name__: kind
    for kind in (
        DownBlock2D, CrossAttnDownBlock2D,
        UNetMidBlock2D, UNetMidBlock2DCrossAttn,
        UpBlock2D, CrossAttnUpBlock2D,
    )
}  # fmt: skip
