"""The last stage of training: the UNet learns to remove noise, and the text encoder with it."""

from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from diffusers import AutoencoderKL
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm import tqdm
from transformers import CLIPTextModel, CLIPTokenizer

from .autoencoder import to_pictures, to_tensor
from .captions import describe
from .draw import render
from .models import build_scheduler
from .world import Scene, sample_scene

EMPTY_SHARE = 0.1  # of the captions are dropped, for classifier-free guidance


class DiffusionLoss(nn.Module):
    """Squared error of the velocity that the UNet predicts, at random timesteps.

    Where less than a fifth of the variance is noise, the error is weighted by its effect on the
    picture: as in min-SNR (Hang et al. 2023) with gamma 5, but for that side only.
    """

    def __init__(self, unet: nn.Module, text_encoder: CLIPTextModel):
        super().__init__()
        self.unet, self.text_encoder = unet, text_encoder

    def forward(
        self,
        latents: Float[Tensor, "batch 4 height width"],
        ids: Int[Tensor, "batch token"],
    ) -> Float[Tensor, ""]:
        scheduler = build_scheduler(latents.shape[-1])
        scheduler.alphas_cumprod = kept = scheduler.alphas_cumprod.to(latents.device)
        times = _timesteps(latents, len(kept))
        noise = torch.randn_like(latents)
        noisy = scheduler.add_noise(latents, noise, times)
        velocity = scheduler.get_velocity(latents, noise, times)
        context = self.text_encoder(ids).last_hidden_state
        output = self.unet(noisy, times, context, return_dict=False)[0]
        error = (output - velocity).square().mean((1, 2, 3))
        return (error * (5 * (1 - kept[times])).clamp(max=1)).mean()


def _timesteps(latents: Tensor, count: int) -> Int[Tensor, " batch"]:
    """Random timesteps, late ones more often: there it is decided what goes where.

    One from each of `batch` equally likely parts, which makes the loss less noisy.
    """
    parts = torch.arange(len(latents), device=latents.device)
    uniform = (parts + torch.rand(len(latents), device=latents.device)) / len(latents)
    return (uniform.sqrt() * count).long().clamp(max=count - 1)


@dataclass
class Album:
    """Scenes and their scaled latents, encoded once: (scene, 4, height, width)."""

    scenes: list[Scene]
    latents: Tensor

    def batch(
        self, rng: Random, size: int, tokenizer: CLIPTokenizer, device: torch.device
    ) -> dict[str, Tensor]:
        """Random scenes with fresh captions: the inputs of DiffusionLoss."""
        chosen = [rng.randrange(len(self.scenes)) for _ in range(size)]
        texts = [
            "" if rng.random() < EMPTY_SHARE else describe(self.scenes[index], rng).text
            for index in chosen
        ]
        ids = token_ids(texts, tokenizer)
        return {"latents": self.latents[chosen].float().to(device), "ids": ids.to(device)}


def token_ids(texts: list[str], tokenizer: CLIPTokenizer) -> Int[Tensor, "batch token"]:
    return tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids


@torch.no_grad()
def make_album(vae: AutoencoderKL, rng: Random, count: int, side: int, batch: int = 16) -> Album:
    """`count` random scenes, encoded from pictures of side x side pixels."""
    scenes = [sample_scene(rng) for _ in range(count)]
    latents = []
    for start in tqdm(range(0, count, batch), f"encoding at {side}", mininterval=10):
        pictures = to_tensor([render(scene, side) for scene in scenes[start : start + batch]])
        mean = vae.encode(pictures.to(vae.device)).latent_dist.mean
        latents.append((mean * vae.config.scaling_factor).half().cpu())
    return Album(scenes, torch.cat(latents))


@torch.no_grad()
def sample(
    model: DiffusionLoss,
    vae: AutoencoderKL,
    tokenizer: CLIPTokenizer,
    texts: list[str],
    side: int,
    steps: int = 20,
    guidance: float = 5.0,
    seed: int = 0,
) -> np.ndarray:
    """Pictures of the prompts, uint8 (batch, 8 side, 8 side, 3), for latents of any side."""
    scheduler = build_scheduler(side)
    scheduler.set_timesteps(steps)
    context = model.text_encoder(token_ids([""] * len(texts) + texts, tokenizer).to(vae.device))[0]
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn((len(texts), 4, side, side), generator=generator).to(vae.device)
    for timestep in scheduler.timesteps:
        output = model.unet(latents.repeat(2, 1, 1, 1), timestep, context, return_dict=False)[0]
        empty, told = output.chunk(2)
        latents = scheduler.step(empty + guidance * (told - empty), timestep, latents).prev_sample
    return to_pictures(vae.decode(latents / vae.config.scaling_factor).sample)
