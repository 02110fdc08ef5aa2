"""The UNet from one of its levels inwards, to train what decides the layout for a small price.

At full size that happens on the 16 x 16 and 8 x 8 grids of levels 2 and 3. Trained on small
pictures the whole UNet does it in its outer levels, and must relearn it; this part of it, given
latents of 16 x 16 at level 2, learns it where it will stay. `hand_over` then builds the next level
around it, which first gives it just what it knows: the latents, averaged down.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unet_explained.model.blocks import Context
from unet_explained.model.unet import UNet2DConditionModel


class InnerUNet(nn.Module):
    """Levels `level` and below, shared with `unet`, between a first layer and a head of its own."""

    def __init__(self, unet: UNet2DConditionModel, level: int):
        super().__init__()
        config = unet.config
        above, width = config.block_out_channels[level - 1 : level + 1]
        self.conv_in = nn.Conv2d(config.in_channels, above, 1)
        _carry(self.conv_in)
        self.time_proj, self.time_embedding = unet.time_proj, unet.time_embedding
        self.down_blocks = nn.ModuleList(list(unet.down_blocks)[level:])
        self.mid_block = unet.mid_block
        self.up_blocks = nn.ModuleList(list(unet.up_blocks)[: config.levels - level])
        self.norm_out = nn.GroupNorm(config.norm_num_groups, width)
        self.conv_out = nn.Conv2d(width, config.out_channels, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)

    def forward(
        self,
        sample: Float[Tensor, "batch channel height width"],
        timestep: Tensor,
        encoder_hidden_states: Float[Tensor, "batch token text"],
        return_dict: bool = False,
    ) -> tuple[Float[Tensor, "batch channel height width"]]:
        emb = self.time_embedding(self.time_proj(timestep.expand(len(sample))))
        context = Context(encoder_hidden_states)
        sample = self.conv_in(sample)
        skips = [sample]
        for block in self.down_blocks:
            sample, new = block(sample, emb, context)
            skips += new
        sample = self.mid_block(sample, emb, context)
        for block in self.up_blocks:
            skips, taken = skips[: -len(block.resnets)], skips[-len(block.resnets) :]
            # the last block's upsampler keeps the size: there is no level above
            size = tuple((skips or [sample])[-1].shape[-2:])
            sample = block(sample, taken, emb, context, size)
        return (self.conv_out(torch.nn.functional.silu(self.norm_out(sample))),)


@torch.no_grad()
def hand_over(unet: UNet2DConditionModel, part: InnerUNet, level: int) -> None:
    """Makes the level above `level`, still untrained, feed it what `part.conv_in` did.

    The latents pass through that level in its first channels, around the residual branches, which
    start at zero; its downsampler averages squares of four pixels and applies `part.conv_in`.
    """
    above = unet.down_blocks[level - 1]
    if above.resnets[0].conv_shortcut is not None:
        _carry(above.resnets[0].conv_shortcut)
    if level == 1:
        _carry(unet.conv_in)
    down = above.downsamplers[0].conv
    latents = part.conv_in.in_channels
    nn.init.zeros_(down.weight)
    down.weight[:, :latents, 1:, 1:] = part.conv_in.weight / 4  # of its 3 x 3, those four pixels
    down.bias.copy_(part.conv_in.bias)


@torch.no_grad()
def _carry(conv: nn.Conv2d) -> None:
    """The first four channels out are the first four in: the latents."""
    middle = conv.kernel_size[0] // 2
    conv.weight[:4] = 0
    conv.bias[:4] = 0
    for channel in range(4):
        conv.weight[channel, channel, middle, middle] = 1
