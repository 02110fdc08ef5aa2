"""Looking at a known picture through the UNet: noised to chosen timesteps, one forward."""

from collections.abc import Sequence

import numpy as np
import torch
from einops import rearrange

from .. import diffusion
from ..recording import Identity, Origin, Recording, Row, identified, record
from ..recording.identity import ROLES
from .denoise import Pipeline
from .text import embed, read_prompt


@torch.no_grad()
def look_at(
    pipe: Pipeline, picture: np.ndarray, text: str, timesteps: Sequence[int], **options
) -> Recording:
    """One forward on a known picture, noised to each of some timesteps, under the recorder.

    picture: uint8 (height, width, 3), sides divisible by 8. Read a map with picture=, the index of
    the timestep. options as for record().
    """
    unet, vae, count = pipe.unet, pipe.vae, len(timesteps)
    pixels = rearrange(torch.tensor(picture), "height width channel -> 1 channel height width")
    pixels = (pixels / 127.5 - 1).to(vae.device, vae.dtype)
    latents = vae.encode(pixels).latent_dist.mean.float() * vae.config.scaling_factor
    latents = latents.expand(count, -1, -1, -1)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0)).to(latents)
    times = torch.tensor(timesteps, device=unet.device)
    levels = diffusion.levels(pipe.scheduler.alphas_cumprod, times)
    noisy = diffusion.noised(latents, noise, *levels).to(unet.dtype)
    prompt = read_prompt(text, pipe.tokenizer)
    context = embed(prompt, pipe.text_encoder).to(unet.dtype).expand(count, -1, -1)
    rows = tuple(Row(prompt, number, ROLES[0]) for number in range(count))
    origin = Origin(1)
    watch = record(unet, **options).of(origin)
    with watch as recording, identified(Identity(origin, rows)):
        unet(noisy, times, context)
    origin.finished = True
    return recording
