"""An experiment for the lesson on time: the network is told another timestep than the true one."""

from collections.abc import Sequence

import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor

from .. import diffusion
from ..run.denoise import Pipeline


@torch.no_grad()
def guess_clean_latents(
    pipe: Pipeline,
    noisy: Float[Tensor, "1 channel height width"],
    context: Float[Tensor, "1 token text"],
    timesteps: Sequence[int],
) -> Float[Tensor, "timestep channel height width"]:
    """The clean latents that the UNet sees in the same noisy ones, for each timestep it is told."""
    unet, scheduler = pipe.unet, pipe.scheduler
    told = torch.tensor(timesteps, device=unet.device)
    x = repeat(noisy, "1 ... -> timestep ...", timestep=len(told)).to(unet.device, unet.dtype)
    contexts = repeat(context, "1 ... -> timestep ...", timestep=len(told)).to(x)
    prediction = unet(x, told, contexts).sample.float()
    levels = diffusion.levels(scheduler.alphas_cumprod, told)
    return diffusion.denoised(scheduler.config.prediction_type, x, prediction, *levels)
