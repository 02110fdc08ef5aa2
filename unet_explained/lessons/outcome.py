"""What comes of one forward of a run, whatever changes the network is under just now."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from .. import diffusion
from ..run.denoise import Pipeline
from ..run.steps import Run
from ..show.picture import Picture
from ..show.runs import change_row


@dataclass(frozen=True)
class Outcome:
    """The prediction of one forward, and the picture that it sees beneath the noise."""

    prediction: Float[Tensor, "channel height width"] = field(repr=False)  # noise or velocity
    latents: Float[Tensor, "1 channel height width"] = field(repr=False)  # without the noise
    pipeline: Pipeline = field(repr=False)

    @cached_property
    def image(self) -> Image.Image:
        """Decoded when it is first asked for."""
        return self.pipeline.decode(self.latents)


@torch.no_grad()
def forward_again(run: Run, step: int) -> Outcome:
    """One forward of a run again, with its guidance, under what interventions there now are.

    Raises IndexError for a step this run did not have.
    """
    given, pipeline = run.recording.given(step), run.pipeline
    prediction = pipeline.unet(**given).sample.float()
    if len(prediction) == 2:
        prediction = diffusion.guided(prediction[:1], prediction[1:], run.guidance)
    noisy, kind = given["sample"][-1:].float(), pipeline.scheduler.config.prediction_type
    levels = diffusion.levels(pipeline.scheduler.alphas_cumprod, given["timestep"][None])
    latents = diffusion.denoised(kind, noisy, prediction, *levels)
    return Outcome(prediction[0], latents, pipeline)


def share(changed: Outcome, original: Outcome) -> float:
    """How large a change is: its root mean square as a share of the original prediction's."""
    before = original.prediction
    return ((changed.prediction - before).norm() / before.norm()).item()


def compare(before: Outcome, after: Outcome, *, images=None, title: str = "") -> Picture:
    """Two outcomes side by side; images: two other pictures in the place of theirs."""
    maps = [one.prediction[0].cpu().numpy() for one in (before, after)]
    seen = images or (before.image, after.image)
    return change_row(maps, [*map(np.asarray, seen)], title=title, share=share(after, before))
