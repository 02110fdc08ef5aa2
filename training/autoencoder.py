"""The first stage of training: pictures to latents and back."""

from random import Random

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from unet_explained.bundled.draw import render
from unet_explained.bundled.world import Scene, sample_scene

KL_WEIGHT, GUIDE_WEIGHT = 0.01, 0.1


def to_tensor(pictures: list[np.ndarray]) -> Float[Tensor, "batch 3 height width"]:
    """uint8 pictures (height, width, 3) to floats in [-1, 1]."""
    return to_floats(torch.from_numpy(np.stack(pictures)))


def to_floats(levels: UInt8[Tensor, "batch y x 3"]) -> Float[Tensor, "batch 3 y x"]:
    return levels.permute(0, 3, 1, 2).float() / 127.5 - 1


def to_pictures(tensor: Float[Tensor, "batch 3 height width"]) -> np.ndarray:
    """The inverse of `to_tensor`: uint8 (batch, height, width, 3)."""
    levels = ((tensor.clamp(-1, 1) + 1) * 127.5).round().byte()
    return levels.permute(0, 2, 3, 1).cpu().numpy()


def guide(pictures: Float[Tensor, "batch 3 y x"]) -> Float[Tensor, "batch 4 height width"]:
    """What latents should resemble: each 8x8 square's mean red, green and blue, and its contrast.

    Latents that look like a small picture are smooth, so the UNet learns them from few samples.
    """
    mean = F.avg_pool2d(pictures, 8)
    grey = pictures.mean(1, keepdim=True)
    spread = F.avg_pool2d(grey**2, 8) - F.avg_pool2d(grey, 8) ** 2
    return torch.cat([mean, 2 * spread.clamp(min=0).sqrt()], 1)


class AutoencoderLoss(nn.Module):
    """Reconstruction + a little KL + how far the latents are from their guide."""

    def __init__(self, vae: AutoencoderKL):
        super().__init__()
        self.vae = vae

    def forward(self, pictures: Float[Tensor, "batch 3 y x"]) -> Float[Tensor, ""]:
        posterior = self.vae.encode(pictures).latent_dist
        difference = self.vae.decode(posterior.sample()).sample - pictures
        sharp = difference.abs().mean() + 2 * difference.square().mean()
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        guided = F.mse_loss(posterior.mean, guide(pictures))
        return sharp + KL_WEIGHT * kl + GUIDE_WEIGHT * guided


def crops(rng: Random, batch: int, side: int) -> Float[Tensor, "batch 3 side side"]:
    """Squares of `side` pixels, cut near a thing from pictures of three sizes."""
    return to_tensor(
        [
            _crop(rng, sample_scene(rng), side, rng.choice((128, 256, 512, 512)))
            for _ in range(batch)
        ]
    )


def _crop(rng: Random, scene: Scene, side: int, size: int) -> np.ndarray:
    thing = rng.choice(scene.things)
    left, top = (
        min(max(int((place + rng.uniform(-0.2, 0.2)) * size) - side // 2, 0), size - side)
        for place in (thing.x, thing.y)
    )
    return render(scene, size)[top : top + side, left : left + side]


@torch.no_grad()
def calibrate(vae: AutoencoderKL, rng: Random, count: int = 64, size: int = 256) -> None:
    """Moves each latent channel's mean to zero and stores the scale that gives a spread of one.

    The shift is folded into the convolutions around the latents, so pictures stay the same.
    """
    pictures = to_tensor([render(sample_scene(rng), size) for _ in range(count)]).to(vae.device)
    latents = torch.cat([vae.encode(part).latent_dist.mean for part in pictures.split(8)])
    mean = latents.mean((0, 2, 3))
    vae.quant_conv.bias[:4] -= mean
    vae.post_quant_conv.bias += vae.post_quant_conv.weight[:, :, 0, 0] @ mean
    spread = (latents - mean[:, None, None]).std().item()
    vae.register_to_config(scaling_factor=round(1 / spread, 4))


@torch.no_grad()
def latent_rgb(vae: AutoencoderKL, rng: Random) -> list[list[float]]:
    """The linear map, by least squares, from a scaled latent pixel to its square's mean colour.

    A row for each latent channel, and one to be added; colours are from -1 to 1.
    """
    pictures = to_tensor([render(sample_scene(rng), 256) for _ in range(16)]).to(vae.device)
    latents = vae.encode(pictures).latent_dist.mean * vae.config.scaling_factor
    known = F.pad(latents.permute(0, 2, 3, 1).flatten(0, 2), (0, 1), value=1.0)
    colours = F.avg_pool2d(pictures, 8).permute(0, 2, 3, 1).flatten(0, 2)
    found = torch.linalg.lstsq(known.double().cpu(), colours.double().cpu()).solution
    return [[round(value, 4) for value in row] for row in found.tolist()]


@torch.no_grad()
def psnr(vae: AutoencoderKL, rng: Random, count: int = 8, size: int = 512) -> float:
    """Mean PSNR in dB of `count` pictures against their round trips."""
    errors = []
    for _ in range(count):
        picture = to_tensor([render(sample_scene(rng), size)]).to(vae.device)
        back = vae.decode(vae.encode(picture).latent_dist.mean).sample.clamp(-1, 1)
        errors.append((back - picture).square().mean() / 4)  # a range of 2, squared
    return -10 * torch.stack(errors).log10().mean().item()
