"""A step of the loop, a finished run, and the record that it keeps."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from math import inf
from typing import TYPE_CHECKING
from weakref import finalize, ref

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ..recording import Identity, Recording
from ..recording.given import Given
from ..recording.kept import Options, RecordedStep
from ..recording.nonfinite import extent
from ..recording.patterns import uncompiled
from ..recording.processors import autocast_of
from .text import Prompt

if TYPE_CHECKING:
    from .denoise import Pipeline


@dataclass(frozen=True)
class Step:
    """One step of a run: what the network was given and said, with guidance; the latents after it,
    and the clean ones that the model now sees."""

    index: int
    total: int
    timestep: int | float
    sample: Float[Tensor, "1 channel height width"] = field(repr=False)
    prediction: Float[Tensor, "1 channel height width"] = field(repr=False)
    latents: Float[Tensor, "1 channel height width"] = field(repr=False)
    denoised: Float[Tensor, "1 channel height width"] = field(repr=False)
    pipeline: "Pipeline" = field(repr=False)

    def preview(self) -> Image.Image:
        """The picture the model would arrive at if this step were the last."""
        return self.pipeline.decode(self.denoised)

    def glimpse(self) -> np.ndarray | None:
        """The same in rough colours, uint8 (height, width, 3) as the latents are, at no cost.

        None for a VAE whose colours are not known.
        """
        return self.pipeline.glimpse(self.denoised)


@dataclass(frozen=True)
class Run:
    """A finished run: its prompt, its picture, and a record of what each forward was given."""

    prompt: Prompt
    negative_prompt: str
    guidance: float
    seed: int
    _latents: Float[Tensor, "1 channel height width"] = field(repr=False)
    _denoised: tuple[Float[Tensor, "1 channel height width"], ...] = field(repr=False)
    recording: Recording = field(repr=False)
    pipeline: "Pipeline" = field(repr=False)

    @property
    def latents(self) -> Float[Tensor, "1 channel height width"]:
        """The last ones, a copy."""
        return self._latents.clone()

    @property
    def denoised(self) -> tuple[Float[Tensor, "1 channel height width"], ...]:
        """Of each step the clean latents that the model foresaw, Step.denoised, copies."""
        return tuple(latents.clone() for latents in self._denoised)

    @property
    def image(self) -> Image.Image:
        """The picture, a copy; decoded by the VAE when it is first asked for."""
        return self._image.copy()

    @cached_property
    def _image(self) -> Image.Image:
        return self.pipeline.decode(self._latents)

    @property
    def timesteps(self) -> tuple[int | float, ...]:
        return tuple(step.timestep.item() for step in self.recording.runs[0].steps)

    def replay(self, step: int, *patterns: str, **options) -> Recording:
        """One forward again, as Recording.replay."""
        return self.recording.replay(step, *patterns, **options)


def record_of(unet, identity: Identity) -> tuple[Recording, Callable[[dict, Tensor], None]]:
    """A record of what each forward is given and whom its rows are for, and what files one."""
    model = uncompiled(unet)
    options = Options((), None, False, "both", False, unet.device)
    recording = Recording(options, [name for name, _ in model.named_modules()], ref(model))
    run = recording.run_of(identity.origin, identity.origin)

    def file(given: dict, prediction: Tensor) -> None:
        step = RecordedStep(given["timestep"], identity.rows, tuple(range(len(identity.rows))))
        step.extent = extent(prediction)
        cast = autocast_of(given["sample"].device.type)
        recording.file(run, step, Given.of(given)._replace(autocast=cast), inf)

    finalize(file, setattr, identity.origin, "ended", True)  # the loop holds it to its own end
    return recording, file
