"""One step of anybody's scheduler, and the clean picture that it now sees; checked beforehand."""

import copy
import inspect
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from .. import diffusion

Latents = Float[Tensor, "1 channel height width"]
WAY_OUT = "pipe.scheduler = diffusers.DDIMScheduler.from_config(...), or diffusers' own pipeline"


def advance(
    scheduler: Any, prediction: Latents, timestep: Tensor, latents: Latents, generator
) -> tuple[Latents, Latents]:
    """The latents one step on, and the picture's latents as the model now sees them (x0)."""
    # eta as diffusers' pipelines have it: none, where TCD's own would be 0.3.
    extra = {"generator": generator, "eta": 0.0}
    accepts = inspect.signature(scheduler.step).parameters
    extra = {name: value for name, value in extra.items() if name in accepts}
    output = scheduler.step(prediction, timestep, latents, **extra)
    for name in ("pred_original_sample", "denoised"):
        if getattr(output, name, None) is not None:
            return output.prev_sample, getattr(output, name)
    return output.prev_sample, _denoised(scheduler, prediction, timestep, latents)


def _denoised(scheduler, prediction, timestep, latents) -> Latents:
    """By the formulas, of a scheduler that does not say."""
    if hasattr(scheduler, "precondition_outputs"):  # Karras et al. 2022, equation 7
        sigma = scheduler.sigmas[scheduler.step_index - 1]  # its step was made
        return scheduler.precondition_outputs(latents, prediction, sigma)
    signal, sigma = diffusion.levels(scheduler.alphas_cumprod, timestep[None])
    kind = scheduler.config.prediction_type
    return diffusion.denoised(kind, latents, prediction, signal, sigma)


def rehearse(scheduler: Any, steps: int) -> None:
    """ValueError for a scheduler that could not make these steps: its first is made, of zeros."""
    name, trial = type(scheduler).__name__, copy.deepcopy(scheduler)
    if not hasattr(trial, "alphas_cumprod") and not hasattr(trial, "precondition_outputs"):
        raise ValueError(
            f"{name}: expected a scheduler of noise levels (alphas_cumprod or Karras' sigmas), as "
            f"Stable Diffusion is trained on; {WAY_OUT}"
        )
    try:
        trial.set_timesteps(steps)
        zeros, first = torch.zeros(1, 1, 1, 1), trial.timesteps[0]
        advance(trial, trial.scale_model_input(zeros, first), first, zeros, None)
    except (ValueError, NotImplementedError) as error:
        kind = trial.config.get("prediction_type")
        raise ValueError(
            f"{name} does not make {steps} steps of prediction_type {kind!r}: {error}; {WAY_OUT}"
        ) from error
