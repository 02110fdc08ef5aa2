"""The maps of a picture that one has: noised to a timestep, and one forward of the UNet."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from einops import rearrange, repeat
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from .. import diffusion
from ..numbers import whole_number
from ..recording import Identity, Origin, Recording, Row, Text, identified
from ..recording import record as record_unet
from ..recording.identity import ROLES
from ..recording.memory import SMALLER, advising, expect_room
from ..recording.nested import changed
from ..recording.patterns import uncompiled
from .denoise import Pipeline
from .latents import factor_of, normalised
from .pictures import as_image
from .reader import PipelineReader
from .text import expect_text, read_prompt
from .told import added, told


@torch.no_grad()
def maps_of(
    pipe: Any, image: Any, prompt: str, *, t: int | Sequence[int] = 500, **options
) -> Recording:
    """Which pixels of a picture look at which word: what is recorded of one forward.

    pipe: of this package, or diffusers' for Stable Diffusion or SDXL. image: as for plot_heatmaps,
    sides divisible by 8. t: how far it is noised, 0 to 999; of several, picture= is their index.
    options as for record(). The noise is seed 0's. Raises TypeError or ValueError, before
    any forward, for what does not fit.
    """
    times = [whole_number("t", time) for time in (t if isinstance(t, Iterable) else [t])]
    expect_text(prompt)
    alphas = _alphas(pipe, times)
    picture, unet = _fitting(pipe.vae, image), pipe.unet
    width, height = (side // factor_of(pipe.vae) for side in picture.size)
    asked = f"{len(times)} timesteps of a picture of {picture.width} x {picture.height} pixels"
    expect_room(asked, uncompiled(unet), len(times), height, width)
    with advising("encoding the picture", SMALLER):
        latents = _encoded(pipe.vae, picture)
    if unet.config.in_channels != latents.shape[1]:
        raise ValueError(
            f"maps_of: this UNet takes {unet.config.in_channels} channels, latents of a picture "
            f"have {latents.shape[1]}: it needs more than a picture and a prompt"
        )
    text, beside = _prompted(pipe, prompt, picture.size[::-1])
    pattern = "1 channel height width -> time channel height width"
    latents = repeat(latents, pattern, time=len(times))
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0)).to(latents)
    steps = torch.tensor(times, device=latents.device)
    noisy = diffusion.noised(latents, noise, *diffusion.levels(alphas, steps))
    origin = Origin(1)
    rows = tuple(Row(text, number, ROLES[0]) for number in range(len(times)))
    watch = record_unet(unet, **options).of(origin)
    identity = identified(Identity(origin, rows), unet)
    with watch as recording, identity, advising("a forward"):
        unet(
            noisy.to(unet.device, unet.dtype),
            steps.to(unet.device),
            **changed(beside, lambda value: value.expand(len(times), *value.shape[1:])),
        )
    origin.finished = True
    return recording


def _alphas(pipe: Any, times: list[int]) -> Float[Tensor, "timestep"]:
    """The share of signal at each timestep, for timesteps that there are."""
    alphas = getattr(getattr(pipe, "scheduler", None), "alphas_cumprod", None)
    if alphas is None:
        raise TypeError(
            f"maps_of: expected a pipeline whose scheduler has alphas_cumprod, got a "
            f"{type(pipe).__name__}"
        )
    if not times or not all(0 <= time < len(alphas) for time in times):
        raise ValueError(f"t={times}: expected timesteps from 0 to {len(alphas) - 1}")
    return alphas


def _fitting(vae: Any, image: Any) -> Image.Image:
    """A picture that is whole pixels of the latents."""
    picture, factor = as_image(image), factor_of(vae)
    width, height = (side // factor * factor for side in picture.size)
    if (width, height) != picture.size:
        raise ValueError(
            f"image: expected sides divisible by {factor}, got {picture.width} x {picture.height}: "
            f"image.resize(({width}, {height}))"
        )
    return picture


def _encoded(vae: Any, picture: Image.Image) -> Float[Tensor, "1 channel height width"]:
    """A picture's latents, of unit variance, in float32."""
    pixels = torch.tensor(np.asarray(picture))
    pixels = rearrange(pixels, "height width channel -> 1 channel height width") / 127.5 - 1
    dtype, wide = vae.dtype, getattr(vae.config, "force_upcast", False)
    if wide and dtype != torch.float32:  # SDXL's overflows in float16
        vae.to(torch.float32)
    try:
        latents = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist.mean.float()
    finally:
        if vae.dtype != dtype:
            vae.to(dtype)
    return normalised(vae, latents)


def _prompted(pipe: Any, prompt: str, size: tuple[int, int]) -> tuple[Text, dict[str, Any]]:
    """The text, and what the UNet is told of it and of the picture's size."""
    config = pipe.unet.config
    if config.addition_embed_type not in (None, "text_time") or config.class_embed_type:
        raise ValueError("maps_of: this UNet is told more than a prompt, a timestep and sizes")
    if isinstance(pipe, Pipeline):
        own = read_prompt(prompt, pipe.tokenizer, pipe.tokenizer_2)
        return own, told(pipe, [own], size)
    if not hasattr(pipe, "encode_prompt"):
        raise TypeError(f"maps_of: a {type(pipe).__name__} has no encode_prompt to ask")
    options = dict(num_images_per_prompt=1, do_classifier_free_guidance=False)
    given = pipe.encode_prompt(prompt=prompt, device=pipe.unet.device, **options)
    beside = {"encoder_hidden_states": given[0]}
    if config.addition_embed_type:
        beside["added_cond_kwargs"] = added(given[2], size)
    text, _ = PipelineReader(pipe).read(given[0], prompt)
    return text, beside
