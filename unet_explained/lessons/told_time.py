"""An experiment for the lesson on time: the network is told another timestep than the true one."""

from collections.abc import Sequence

import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor

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
    kept = scheduler.alphas_cumprod.to(unet.device)[times].reshape(-1, 1, 1, 1)
    if scheduler.config.prediction_type == "v_prediction":  # Salimans and Ho 2022
        return kept.sqrt() * x - (1 - kept).sqrt() * prediction
    return (x - (1 - kept).sqrt() * prediction) / kept.sqrt()
