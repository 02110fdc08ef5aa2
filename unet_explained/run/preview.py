"""Latents as pictures: decoded by the VAE, or in rough colours that cost nothing."""

import numpy as np
import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor

from ..recording.heatmaps import resize
from .latents import unnormalised

# Rough colours of the latents of Stable Diffusion 1.x's and 2.x's VAE, measured by K. Turner, 2022:
# discuss.huggingface.co/t/decoding-latents-to-rgb-without-upscaling/23204
SD_LATENT_RGB = (
    (0.298, 0.207, 0.208),
    (0.187, 0.286, 0.173),
    (-0.158, 0.189, 0.264),
    (-0.184, -0.271, -0.473),
    (0.0, 0.0, 0.0),
)
# Of SDXL's, as ComfyUI has them: github.com/Comfy-Org/ComfyUI, comfy/latent_formats.py, class SDXL.
SDXL_LATENT_RGB = (
    (0.3651, 0.4232, 0.4341),
    (-0.2533, -0.0042, 0.1068),
    (0.1076, 0.1111, -0.0362),
    (-0.3165, -0.2492, -0.2188),
    (0.1084, -0.0175, -0.0011),
)
KNOWN = {0.18215: SD_LATENT_RGB, 0.13025: SDXL_LATENT_RGB}  # by the VAE's scaling_factor
SMALL = 32  # latent pixels of a longer side: a decode of so many takes less time than a step


def latent_rgb_of(vae) -> Float[Tensor, "channel 3"] | None:
    """The rough colours of a VAE's latents, as rough() takes them; None if they are not known."""
    known = vae.config.latent_channels == 4 and KNOWN.get(vae.config.scaling_factor)
    return torch.tensor(known) if known else None


@torch.no_grad()
def rough(
    latents: Float[Tensor, "1 channel height width"], latent_rgb: Float[Tensor, "channel 3"]
) -> np.ndarray:
    """Rough colours, uint8 (height, width, 3): a linear map of each latent pixel.

    The last row of latent_rgb is the colour of latents of zero; -1 is black and 1 is white.
    """
    *factors, zero = latent_rgb.to(latents)
    pattern = "channel height width, channel rgb -> height width rgb"
    return levels(einsum(latents[0], torch.stack(factors), pattern) + zero)


@torch.no_grad()
def decoded(
    vae, latents: Float[Tensor, "1 channel height width"]
) -> Float[Tensor, "height_out width_out rgb"]:
    """The picture from -1 to 1, eight times as high and wide for Stable Diffusion's VAE."""
    # Of an offloaded VAE, its weights come to the latents when it is asked.
    encoded = unnormalised(vae, latents).to(next(vae.parameters()).dtype)
    pixels = vae.decode(encoded).sample.float()
    return rearrange(pixels, "1 channel height width -> height width channel")


def levels(colours: Float[Tensor, "height width rgb"]) -> np.ndarray:
    """-1 to 1 as uint8; what is not finite is grey, no picture's black or white."""
    return (
        ((colours.nan_to_num(0, 0, 0) / 2 + 0.5).clamp(0, 1) * 255)
        .round()
        .to("cpu", torch.uint8)
        .numpy()
    )


def preview(vae, latents: Float[Tensor, "picture channel height width"]) -> np.ndarray | None:
    """The first picture of latents under way, uint8 (height, width, 3), rough or small.

    None for latents that are not this VAE's, and for numbers that are not finite.
    """
    config = getattr(vae, "config", None)
    if latents.ndim != 4 or latents.shape[1] != getattr(config, "latent_channels", None):
        return None
    latents = latents[:1].float()
    latents = latents / latents.std().clamp(min=1)  # some schedulers' noise is many times as large
    known = latent_rgb_of(vae)
    if known is not None:
        return rough(latents, known) if latents.isfinite().all() else None
    height, width = latents.shape[-2:]
    scale = min(1, SMALL / max(height, width))
    small = resize(latents, (max(1, round(height * scale)), max(1, round(width * scale))))
    pixels = decoded(vae, small)
    return levels(pixels) if pixels.isfinite().all() else None  # some overflow in float16
