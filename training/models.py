"""The parts of the bundled pipeline, untrained: shapes as in Stable Diffusion 1.5, but narrow."""

from diffusers import AutoencoderKL, DDIMScheduler
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from unet_explained.model.unet import UNet2DConditionModel

TEXT_WIDTH = 96
LATENT_SIDE = 64  # of a picture of 512 x 512
TIMESTEPS = 1000

UNET_CONFIG = {
    "_class_name": "UNet2DConditionModel",
    "sample_size": LATENT_SIDE,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    "block_out_channels": [24, 48, 96, 128],
    "layers_per_block": 2,
    "cross_attention_dim": TEXT_WIDTH,
    "attention_head_dim": [1, 2, 4, 4],  # the number of heads: one where there are 4096 queries
    "norm_num_groups": 8,
}


def build_vae() -> AutoencoderKL:
    """Pictures (batch, 3, 8 height, 8 width) in [-1, 1] to latents (batch, 4, height, width)."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 96),
        layers_per_block=1,
        norm_num_groups=2,
        sample_size=8 * LATENT_SIDE,
        mid_block_add_attention=False,  # attention over 4096 places would be most of the time
        force_upcast=False,
    )


def build_unet(seed: int) -> UNet2DConditionModel:
    """Random weights, but each residual branch starts at zero, which speeds up early training."""
    unet = UNet2DConditionModel.from_config(UNET_CONFIG, seed=seed)
    for name, module in unet.named_modules():
        if name.endswith(("conv2", "proj_out", "conv_out")):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    return unet


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Token ids (batch, 77) to embeddings (batch, 77, TEXT_WIDTH)."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=tokenizer.model_max_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def build_scheduler() -> DDIMScheduler:
    """Stable Diffusion's betas doubled, ending in pure noise.

    Doubled because flat shapes shine through much noise: there are many equal pixels to average.
    """
    return DDIMScheduler(
        num_train_timesteps=TIMESTEPS,
        beta_start=0.0017,
        beta_end=0.024,
        beta_schedule="scaled_linear",
        clip_sample=False,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        steps_offset=1,  # unused with trailing steps; diffusers warns of any other value
        rescale_betas_zero_snr=True,
    )
