"""Diffusion on one page: how noise is put on a picture, and what a prediction says lies beneath it.

A timestep mixes a clean picture (or its latents) x₀ with noise ε of unit variance:
x = signal x₀ + sigma ε, where signal² + sigma² = 1. From x and the timestep a network predicts one
of three things, from which the others follow: the noise, the velocity, or the clean picture.
"""

from einops import rearrange
from jaxtyping import Float, Shaped
from torch import Tensor

Picture = Float[Tensor, "batch channel height width"]  # or latents, or what is predicted of them
Level = Float[Tensor, "batch 1 1 1"]


def levels(
    alphas_cumprod: Float[Tensor, "timestep"], timesteps: Shaped[Tensor, "batch"]
) -> tuple[Level, Level]:
    """signal = √ᾱ and sigma = √(1 - ᾱ) at some timesteps: Ho et al. 2020 (DDPM).

    alphas_cumprod: ᾱ of every whole timestep, as schedulers name it; others are rounded down.
    """
    share = alphas_cumprod.to(timesteps.device)[timesteps.long()]
    share = rearrange(share, "batch -> batch 1 1 1")
    return share.sqrt(), (1 - share).sqrt()


def noised(clean: Picture, noise: Picture, signal: Level, sigma: Level) -> Picture:
    """x = signal x₀ + sigma ε: Ho et al. 2020, equation 4."""
    return signal * clean + sigma * noise


def velocity(clean: Picture, noise: Picture, signal: Level, sigma: Level) -> Picture:
    """v = signal ε - sigma x₀: Salimans and Ho 2022, section 4."""
    return signal * noise - sigma * clean


def denoised(
    kind: str, noisy: Picture, prediction: Picture, signal: Level, sigma: Level
) -> Picture:
    """x₀ from a prediction; kind: what is predicted, by the schedulers' `prediction_type`.

    Of noise, (x - sigma ε) / signal: Ho et al. 2020, equation 15. Of velocity, signal x - sigma v:
    Salimans and Ho 2022, section 4. Raises ValueError for another kind.
    """
    if kind == "epsilon":
        return (noisy - sigma * prediction) / signal
    if kind == "v_prediction":
        return signal * noisy - sigma * prediction
    if kind == "sample":
        return prediction
    raise ValueError(f"prediction_type {kind!r}: expected 'epsilon', 'v_prediction' or 'sample'")


def guided(without: Picture, with_prompt: Picture, scale: float) -> Picture:
    """Classifier-free guidance: ε₀ + scale (ε - ε₀), Ho and Salimans 2022, equation 6.

    Their w is scale - 1: at a scale of 1 the prediction is the one with the prompt, unchanged.
    """
    return without + scale * (with_prompt - without)
