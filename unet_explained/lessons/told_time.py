"""An experiment for the lesson on time: the network is told another timestep than the true one."""

from collections.abc import Sequence

import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor

from .. import diffusion
from ..run.denoise import Pipeline


@torch.no_grad()
def guesses(
    pipe: Pipeline,
    noisy: Float[Tensor, "1 channel height width"],
    context: Float[Tensor, "1 token text"],
    told: Sequence[int],
) -> Float[Tensor, "told channel height width"]:
    """The clean latents that the UNet sees in the same noisy ones, for each timestep it is told."""
    unet, scheduler = pipe.unet, pipe.scheduler
    times = torch.tensor(told, device=unet.device)
    x = repeat(noisy, "1 ... -> told ...", told=len(told)).to(unet.device, unet.dtype)
    words = repeat(context, "1 ... -> told ...", told=len(told)).to(x)
    prediction = unet(x, times, words).sample.float()
    levels = diffusion.levels(scheduler.alphas_cumprod, times)
    return diffusion.denoised(scheduler.config.prediction_type, x, prediction, *levels)
