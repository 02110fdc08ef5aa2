"""The parts of the bundled pipeline, untrained: shapes as in Stable Diffusion 1.5, but narrow."""

import torch
from diffusers import AutoencoderKL, DDIMScheduler
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

TEXT_WIDTH = 96


def build_vae() -> AutoencoderKL:
    """Pictures (batch, 3, 8 height, 8 width) in [-1, 1] to latents (batch, 4, height, width)."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 96),
        layers_per_block=1,
        norm_num_groups=8,
        sample_size=512,
        mid_block_add_attention=False,  # attention over 4096 places would be most of the time
        force_upcast=False,
    )
