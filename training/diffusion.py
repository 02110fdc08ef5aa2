"""The UNet's stages of training: it learns to remove noise, and the text encoder with it."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from diffusers import AutoencoderKL
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from unet_explained.diffusion import guided, levels, noised, velocity

from .autoencoder import to_pictures
from .models import LATENT_SIDE, TIMESTEPS, build_scheduler
from .pointing import PointingLoss
from .reading import ReadingLoss
from .tokenizer import token_ids

POINTING_WEIGHT = 0.05
READING_WEIGHT = 0.02  # what the text encoder can read it is to keep
THING = 256  # latent pixels: over so many the noise is averaged when a thing of usual size is seen
NEAR = 0.9  # of the timesteps: up to there something can be seen of the things in a window
DECIDING = (0.55, 0.85)  # of the timesteps: there a thing, on its way out of noise, gets its kind
STEPS = 20  # to a picture of a sample sheet
KEYS = 128  # a pixel's self-attention looks at so many in training, or an eighth of all if more


class DiffusionLoss(nn.Module):
    """Squared error of the velocity that the UNet predicts, at random timesteps; pointing; reading.

    Smaller latents stand for latents of full size that were averaged down to them: a mean of four
    pixels has half their noise. So what an inner level learns from them holds at full size.

    Where less than a fifth of the variance is noise, the error is weighted by its effect on the
    picture: as in min-SNR (Hang et al. 2023) with gamma 5, but for that side only.

    A thing may lie anywhere in its place, as a window may around its thing, and through much noise
    nobody can tell where. Where an Album tells what may be, the target is the mean of all that,
    each weighted by how well it explains what is seen: a stable target (Xu et al. 2023), with less
    variance. On average it is the same, except for things at an edge: more of them lie right there
    than it assumes.
    """

    def __init__(self, unet: nn.Module, reading: ReadingLoss):
        super().__init__()
        self.unet, self.reading, self.pointing = unet, reading, PointingLoss(unet)

    @property
    def text_encoder(self) -> CLIPTextModel:
        return self.reading.text_encoder

    def forward(
        self,
        whole: dict[str, Tensor] | None = None,
        windows: dict[str, Tensor] | None = None,
        captions: dict[str, Tensor] | None = None,
        fresh: dict[str, Tensor] | None = None,
    ) -> Float[Tensor, ""]:
        """The sum of the losses of what is given.

        whole and windows are an Album's, fresh are of a SceneStore, captions a reading_batch.

        Windows are cheap: a thing's edges and kind depend on what is near. Nobody asks where in
        the picture their pixels are, so the last timesteps, which lay things out, are not theirs.
        """
        losses = []
        if whole is not None:
            inner = whole["latents"].shape[-1] < LATENT_SIDE
            times = _timesteps(whole["latents"], late=1, deciding=0.0 if inner else 0.2)
            losses.append(self.denoising(**whole, times=times, where=True))
        if windows is not None:
            times = _timesteps(windows["latents"], latest=NEAR, deciding=0.5)
            losses.append(self.denoising(**windows, times=times, where=False))
        if fresh is not None:
            # half of all in DECIDING; so many samples leave enough for the early ones too
            times = _timesteps(fresh["latents"], late=0.5, deciding=0.25)
            losses.append(self.denoising(**fresh, times=times, where=True))
        if captions is not None:
            losses.append(READING_WEIGHT * self.reading(**captions))
        return sum(losses)

    def denoising(
        self,
        latents: Float[Tensor, "batch 4 height width"],
        ids: Int[Tensor, "batch token"],
        words: Float[Tensor, "batch role thing token"],
        masks: Float[Tensor, "batch thing height width"],
        times: Int[Tensor, " batch"],
        where: bool,
        others: Float[Tensor, "batch part other 4 height width"] | None = None,
        alike: Bool[Tensor, "batch part other"] | None = None,
    ) -> Float[Tensor, ""]:
        signal, sigma = levels(build_scheduler().alphas_cumprod, times)
        scale = noise_scale(latents) if where else 1.0
        noise = scale * torch.randn_like(latents)
        noisy = noised(latents, noise, signal, sigma)
        if others is not None:
            latents, noise = expected(latents, others, alike, noisy, signal, sigma, scale)
        target = velocity(latents, noise, signal, sigma)
        context = self.text_encoder(ids).last_hidden_state
        with self.pointing.watching() as seen, fewer_keys(self.unet):
            output = self.unet(noisy, times, context, return_dict=False)[0]
        error = (output - target).square().mean((1, 2, 3))
        ratio = rearrange((signal / sigma).square(), "batch 1 1 1 -> batch")
        error = (error * (5 / (1 + ratio)).clamp(max=1)).mean()
        shown = THING * ratio / (1 + THING * ratio)
        return error + POINTING_WEIGHT * self.pointing(seen, words, masks, shown, where)


def expected(
    latents: Float[Tensor, "batch 4 height width"],
    others: Float[Tensor, "batch part other 4 height width"],
    alike: Bool[Tensor, "batch part other"],
    noisy: Float[Tensor, "batch 4 height width"],
    signal: Float[Tensor, "batch 1 1 1"],
    sigma: Float[Tensor, "batch 1 1 1"],
    scale: float = 1.0,
) -> tuple[Float[Tensor, "batch 4 height width"], Float[Tensor, "batch 4 height width"]]:
    """The latents and the noise that are to be expected in `noisy`.

    It was made of `latents`, or, as likely, of one of the `others` that are `alike`: each part may
    be elsewhere, and what can be known of it is asked with all the other parts where they are.
    signal, sigma: as `levels` has them; scale: noise_scale.
    """
    missed = (noisy[:, None, None] - signal[:, None, None] * others).square()
    missed = missed.sum((3, 4, 5)) / (2 * scale**2 * sigma[..., 0].square())
    weights = torch.softmax(-missed.masked_fill(~alike, torch.inf), dim=2)
    with torch.autocast(noisy.device.type, enabled=False):  # of a target every digit counts
        means = einsum(
            weights, others, "batch part other, batch part other c y x -> batch part c y x"
        )
    latents = latents + (means - latents[:, None]).sum(1)
    return latents, (noisy - signal * latents) / sigma


def noise_scale(latents: Float[Tensor, "batch 4 height width"]) -> float:
    """What is left of full-size noise once it is averaged down to latents of this size."""
    return latents.shape[-1] / LATENT_SIDE


@contextmanager
def fewer_keys(unet: nn.Module) -> Iterator[None]:
    """Lets self-attention look at few random pixels only: most of its time at 4096, saved."""

    def thin(module, inputs):
        q, k, v, mask = inputs
        few = max(KEYS, k.shape[2] // 8)
        if k.shape[2] <= few:
            return inputs
        chosen = torch.randperm(k.shape[2], device=k.device)[:few]
        return q, k[:, :, chosen], v[:, :, chosen], mask

    hooks = [
        module.register_forward_pre_hook(thin)
        for name, module in unet.named_modules()
        if name.endswith("attn1.attend")
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _timesteps(
    latents: Tensor, latest: float = 1, late: float = 0, deciding: float = 0
) -> Int[Tensor, " batch"]:
    """Random timesteps up to that share of them.

    In a share `late` the later ones, which lay things out, come more often; a share `deciding` of
    all is where kinds are decided. One timestep from each of `batch` equally likely parts, which
    makes the loss less noisy.
    """
    parts = torch.arange(len(latents), device=latents.device)
    share = (parts + torch.rand(len(latents), device=latents.device)) / len(latents)
    first, last = DECIDING
    here = torch.rand(len(latents), device=latents.device) < deciding
    laying = torch.rand(len(latents), device=latents.device) < late
    there = torch.where(laying, share.sqrt(), share) * latest
    share = torch.where(here, first + (last - first) * share, there)
    return (share * TIMESTEPS).long().clamp(max=TIMESTEPS - 1)


@torch.no_grad()
def sample(
    model: DiffusionLoss,
    vae: AutoencoderKL,
    tokenizer: CLIPTokenizer,
    texts: list[str],
    side: int,
    guidance: float,
) -> np.ndarray:
    """Pictures of the prompts, uint8 (batch, 8 side, 8 side, 3), for latents of any side."""
    scheduler = build_scheduler()
    scheduler.set_timesteps(STEPS)
    context = model.text_encoder(token_ids([""] * len(texts) + texts, tokenizer).to(vae.device))[0]
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(len(texts), 4, side, side, generator=generator).to(vae.device)
    latents = noise_scale(latents) * latents
    for timestep in scheduler.timesteps:
        output = model.unet(latents.repeat(2, 1, 1, 1), timestep, context, return_dict=False)[0]
        prediction = guided(*output.chunk(2), guidance)
        latents = scheduler.step(prediction, timestep, latents).prev_sample
    return to_pictures(vae.decode(latents / vae.config.scaling_factor).sample)
