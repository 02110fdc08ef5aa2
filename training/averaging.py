"""Sets an untrained autoencoder to plain averaging, so that training only has to sharpen.

The encoder then gives the mean colour of each 8x8 square and the decoder paints the squares back.
Eight channels carry this through every layer: red, -red, green, -green, blue, -blue and a constant
with its negative. The constant dominates their group's spread, so that group normalisation hardly
rescales the colours; and silu(x) - silu(-x) = x undoes the last activation.
"""

import torch
from diffusers import AutoencoderKL
from torch import nn

CARRIED = 8
CONSTANT = 4.0


@torch.no_grad()
def start_as_averaging(vae: AutoencoderKL) -> None:
    encoder, decoder = vae.encoder, vae.decoder
    for half, blocks in ((encoder, encoder.down_blocks), (decoder, decoder.up_blocks)):
        _split_colours(half.conv_in)
        for resnet in [*half.mid_block.resnets, *(r for block in blocks for r in block.resnets)]:
            nn.init.zeros_(resnet.conv2.weight)
            nn.init.zeros_(resnet.conv2.bias)
            if resnet.conv_shortcut is not None:
                _carry(resnet.conv_shortcut, slice(0, 1))
        _join_colours(half)
    for block in encoder.down_blocks[:-1]:
        _carry(block.downsamplers[0].conv, slice(0, 2))  # the mean of 2x2, as padding is at the end
    for block in decoder.up_blocks[:-1]:
        _carry(block.upsamplers[0].conv, slice(1, 2))
    nn.init.constant_(encoder.conv_out.bias[4:], -6.0)  # log variances
    for conv in (vae.quant_conv, vae.post_quant_conv):
        nn.init.eye_(conv.weight[:, :, 0, 0])
        nn.init.zeros_(conv.bias)


def _split_colours(conv: nn.Conv2d) -> None:
    """Channels 0 to 7: each colour and its negative, the constant and its negative."""
    conv.weight[:CARRIED] = 0
    for colour in range(3):
        conv.weight[2 * colour, colour, 1, 1] = 1
        conv.weight[2 * colour + 1, colour, 1, 1] = -1
    conv.bias[:CARRIED] = torch.tensor([0.0] * 6 + [CONSTANT, -CONSTANT])


def _carry(conv: nn.Conv2d, taps: slice) -> None:
    """Hands the carried channels on, each the mean over a square of taps."""
    conv.weight[:CARRIED] = 0
    conv.bias[:CARRIED] = 0
    square = conv.weight[:, :, taps, taps]
    for channel in range(CARRIED):
        square[channel, channel] = 1 / square[0, 0].numel()


def _join_colours(half: nn.Module) -> None:
    """The last norm and convolution: undo the norm's division, and subtract the negatives."""
    width = half.conv_norm_out.num_channels // half.conv_norm_out.num_groups
    half.conv_norm_out.weight[:CARRIED] = CONSTANT * (2 / width) ** 0.5
    half.conv_out.weight *= 0.1
    half.conv_out.weight[:3] = 0
    nn.init.zeros_(half.conv_out.bias)
    for colour in range(3):
        half.conv_out.weight[colour, 2 * colour, 1, 1] = 1
        half.conv_out.weight[colour, 2 * colour + 1, 1, 1] = -1
