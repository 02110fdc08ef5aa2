"""The sampling loop, as a generator of steps."""

import copy
import warnings
from collections.abc import Generator
from dataclasses import dataclass
from inspect import signature
from numbers import Integral
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn
from tqdm.auto import tqdm

from .. import diffusion
from ..model import UNet2DConditionModel
from ..model.embeddings import Timesteps
from ..model.expect import Axes, expect
from ..numbers import guidance_of, seed_of, steps_of
from ..recording import Identity, Origin, Row, identified
from ..recording.identity import ROLES
from ..recording.memory import advising, expect_room
from ..recording.nonfinite import NonfiniteWarning, say
from ..recording.patterns import uncompiled
from ..words import brief, closest
from .advance import advance, rehearse
from .latents import factor_of
from .palette import Palette
from .preview import decoded, levels, rough
from .steps import Run, Step, record_of
from .text import NOTHING, Prompt, read_prompt
from .told import told

TILES = "a finished run's latents are kept, run.latents: pipe.vae.enable_tiling() takes less"

# Options of diffusers' pipelines, by the names that they have here.
OURS = {"num_inference_steps": "steps", "guidance_scale": "guidance", "generator": "seed"}


@dataclass
class Pipeline:
    """Text to picture with every part in reach: tokenizer, text encoder, UNet, VAE, scheduler."""

    tokenizer: Any
    text_encoder: nn.Module
    unet: UNet2DConditionModel
    vae: Any
    scheduler: Any
    guidance: float = 7.5
    palette: Palette | None = None  # the words it was taught; None: too many to list
    latent_rgb: Float[Tensor, "channel 3"] | None = None  # see glimpse()
    steps: int = 20  # of a run that names no number
    tokenizer_2: Any = None  # SDXL's: both text encoders read the same prompt
    text_encoder_2: Any = None
    zeros_for_empty: bool = False  # no negative prompt is zeros, not the embeddings of ""

    def __call__(self, prompt: str, **options) -> Run:
        """Run to the end, with a progress bar if it takes over a second; options as denoise()."""
        steps = self.denoise(prompt, **options)
        with tqdm(desc="denoising", unit="step", leave=False, delay=1) as bar:
            while True:
                try:
                    bar.total = next(steps).total
                except StopIteration as end:
                    return end.value
                bar.update()

    def denoise(
        self,
        prompt: str,
        *,
        negative_prompt: str = "",
        steps: int | None = None,
        guidance: float | None = None,
        seed: int = 0,
        height: int | None = None,
        width: int | None = None,
        latents: Float[Tensor, "1 channel height width"] | None = None,
        **theirs,
    ) -> Generator[Step, None, Run]:
        """A generator of Step that returns the Run.

        height and width are in pixels; latents: the start noise, of unit variance, instead of the
        seed's; steps and guidance None: the pipeline's own (classifier-free, Ho and Salimans 2022).
        Raises ValueError or TypeError, before any work, for what does not fit, and MemoryError if
        memory runs out; diffusers' names for these options are answered with this package's. A run
        whose output is not finite says so at its end: a NonfiniteWarning names the step and the
        module.
        """
        for name in theirs:
            known = f": write {OURS[name]}=" if name in OURS else closest(name, _options())
            known = known or ": see help(Pipeline.denoise)"
            raise TypeError(f"{name}= is no option of this pipeline{known}")
        steps = steps_of(self.steps if steps is None else steps)
        guidance = guidance_of(self.guidance if guidance is None else guidance)
        seed = seed_of(seed)
        shape = self._latent_shape(height, width)
        if latents is not None:
            _check_latents(latents, shape, any_size=height is None and width is None)
        sides = shape[2:] if latents is None else tuple(latents.shape[-2:])
        asked = " x ".join(str(side * self._factor) for side in reversed(sides)) + " pixels"
        rows = 1 + self._is_guided(guidance)
        expect_room(asked, uncompiled(self.unet), rows, sides[0], sides[1], steps)
        rehearse(self.scheduler, steps)
        texts = [self._read(negative_prompt, "negative_prompt"), self._read(prompt)]
        if self.zeros_for_empty and not negative_prompt:
            texts[0] = NOTHING
        if self.palette is not None:
            for note in dict.fromkeys(n for text in texts for n in self.palette.notes(text.words)):
                warnings.warn(note, stacklevel=2)
        generator = torch.Generator().manual_seed(seed)
        if latents is None:
            # float32 on the CPU, so that a seed means the same picture on every device and type.
            latents = torch.randn(shape, generator=generator)
        _expect(bool(latents.isfinite().all()), "latents: expected finite numbers, got NaN or Inf")
        if negative_prompt and not self._is_guided(guidance):
            said = f"negative_prompt={brief(negative_prompt)}"
            warnings.warn(f"{said} changes nothing in a run without guidance", stacklevel=2)
        return self._steps(texts, steps, guidance, seed, generator, latents.float())

    @torch.no_grad()
    def _steps(
        self, texts, steps, guidance, seed, generator, latents
    ) -> Generator[Step, None, Run]:
        unet, scheduler = self.unet, copy.deepcopy(self.scheduler)
        scheduler.set_timesteps(steps, device=unet.device)
        latents = latents.to(unet.device) * scheduler.init_noise_sigma
        channels = unet.config.time_cond_proj_dim
        guided = self._is_guided(guidance)
        prompts = texts if guided else texts[1:]
        height, width = (side * self._factor for side in latents.shape[-2:])
        beside = told(self, prompts, (height, width))
        if channels is not None:
            beside["timestep_cond"] = self._guidance_embedding(guidance, channels)
        total = len(scheduler.timesteps)
        roles = ROLES[::-1] if guided else ROLES[:1]
        rows = (Row(text, 0, role) for text, role in zip(prompts, roles, strict=True))
        origin = Origin(total)
        identity = Identity(origin, tuple(rows))
        recording, file = record_of(unet, identity)
        foreseen = []

        for index, timestep in enumerate(scheduler.timesteps):
            with advising(f"step {index} of {total} ({width} x {height} pixels, {unet.dtype})"):
                sample = scheduler.scale_model_input(torch.cat([latents] * len(prompts)), timestep)
                given = dict(sample=sample.to(unet.dtype), timestep=timestep) | beside
                with identified(identity, unet):
                    prediction = unet(**given).sample.float()
                file(given, prediction)
                if guided:
                    prediction = diffusion.guided(prediction[:1], prediction[1:], guidance)
                latents, denoised = advance(scheduler, prediction, timestep, latents, generator)
            seen = sample[:1].float(), prediction, latents, denoised
            foreseen.append(denoised.clone())  # a step is in its reader's hands
            yield Step(index, total, timestep.item(), *seen, self)
        origin.finished = True
        say(recording)
        kept = latents, tuple(foreseen), recording
        return Run(texts[1], texts[0].text, guidance, seed, *kept, self)

    def _is_guided(self, guidance: float) -> bool:
        """By a row without the prompt; with time_cond_proj_dim guidance is an input (LCM)."""
        return guidance > 1 and self.unet.config.time_cond_proj_dim is None

    def _read(self, text: str, name: str = "prompt") -> Prompt:
        return read_prompt(text, self.tokenizer, self.tokenizer_2, name)

    @property
    def _factor(self) -> int:
        return factor_of(self.vae)

    def _latent_shape(self, height: int | None, width: int | None) -> tuple[int, int, int, int]:
        factor, size = self._factor, self.unet.config.sample_size or 64
        sizes = size if isinstance(size, tuple) else (size, size)
        sides = []
        for name, pixels, default in zip(("height", "width"), (height, width), sizes, strict=True):
            pixels = default * factor if pixels is None else pixels
            whole = isinstance(pixels, Integral) and not isinstance(pixels, bool)
            fits = whole and pixels > 0 and pixels % factor == 0
            _expect(fits, f"{name}: expected a multiple of {factor} pixels, got {brief(pixels)}")
            sides.append(pixels // factor)
        return (1, self.vae.config.latent_channels, *sides)

    def _guidance_embedding(self, guidance: float, channels: int) -> Float[Tensor, "1 channel"]:
        """The guidance scale as sinusoids: how LCM is told it (Luo et al. 2023)."""
        waves = Timesteps(channels, False, freq_shift=1)
        scale = torch.tensor([(guidance - 1) * 1000], device=self.unet.device)
        return waves(scale).to(self.unet.dtype)

    def decode(self, latents: Float[Tensor, "1 channel height width"]) -> Image.Image:
        """Latents to a picture, eight times as high and wide for Stable Diffusion's VAE.

        Where it is not finite it is grey; a NonfiniteWarning says if that is the VAE's doing.
        """
        device = next(self.vae.parameters()).device
        with advising("decoding the picture", TILES):
            pixels = decoded(self.vae, latents.to(device))
        if latents.isfinite().all() and not pixels.isfinite().all():
            said = "the picture is not finite: the VAE made NaN or Inf of finite latents; run it in"
            warnings.warn(f"{said} float32, or load its weights again", NonfiniteWarning, 2)
        return Image.fromarray(levels(pixels))

    def glimpse(self, latents: Float[Tensor, "1 channel height width"]) -> np.ndarray | None:
        """Rough colours, uint8 (height, width, 3): a linear map of each latent pixel, latent_rgb.

        Its last row is the colour of latents of zero; -1 is black and 1 is white.
        """
        return None if self.latent_rgb is None else rough(latents, self.latent_rgb)


def _options() -> list[str]:
    return [*signature(Pipeline.denoise).parameters][1:]


def _check_latents(latents: Any, shape: tuple[int, int, int, int], any_size: bool) -> None:
    """One picture's, of the VAE's channels, in numbers."""
    axes: Axes = (*shape[:2], "height", "width") if any_size else shape
    expect("latents", latents, axes, latents, "real")
    _expect(0 not in latents.shape, f"latents: expected {shape}, got {tuple(latents.shape)}")
    _expect(not latents.is_meta, "latents: they are on meta, which has no numbers")


def _expect(fits: bool, message: str) -> None:
    if not fits:
        raise ValueError(message)
