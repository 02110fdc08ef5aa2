"""What one forward of a run makes of its step, whatever changes the network is under just now."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from .. import diffusion
from ..run.denoise import Pipeline, Run
from ..show.changes import change_row
from ..show.plots import Picture


@dataclass(frozen=True)
class Glance:
    """The prediction of one forward, and the picture that it sees beneath the noise."""

    prediction: Float[Tensor, "channel height width"] = field(repr=False)  # noise or velocity
    latents: Float[Tensor, "1 channel height width"] = field(repr=False)  # without the noise
    pipeline: Pipeline = field(repr=False)

    @cached_property
    def image(self) -> Image.Image:
        """Decoded when it is first asked for."""
        return self.pipeline.decode(self.latents)


@torch.no_grad()
def glance(run: Run, step: int) -> Glance:
    """One forward of a run again, with its guidance, under what interventions there now are.

    Raises IndexError for a step this run did not have.
    """
    if not -len(run.forwards) <= step < len(run.forwards):
        raise IndexError(f"step {step}: this run has forwards 0 to {len(run.forwards) - 1}")
    forward, pipeline = run.forwards[step], run.pipeline
    prediction = pipeline.unet(**vars(forward)).sample.float()
    if len(prediction) == 2:
        prediction = diffusion.guided(*prediction.chunk(2), run.guidance)
    noisy, kind = forward.sample[-1:].float(), pipeline.scheduler.config.prediction_type
    levels = diffusion.levels(pipeline.scheduler.alphas_cumprod, forward.timestep[None])
    latents = diffusion.denoised(kind, noisy, prediction, *levels)
    return Glance(prediction[0], latents, pipeline)


def share(changed: Glance, original: Glance) -> float:
    """How large a change is: its root mean square as a share of the original prediction's."""
    before = original.prediction
    return ((changed.prediction - before).norm() / before.norm()).item()


def compare(
    before: Glance, after: Glance, *, images=None, title: str = "", channel: int = 0
) -> Picture:
    """Two glances side by side; images: two pictures in the place of what the glances see."""
    maps = [each.prediction[channel].cpu().numpy() for each in (before, after)]
    seen = images or (before.image, after.image)
    return change_row(maps, [*map(np.asarray, seen)], title=title, share=share(after, before))
