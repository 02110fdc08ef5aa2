"""Between what a VAE encodes and decodes and the latents of a UNet, which are of unit variance."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

Latents = Float[Tensor, "batch channel height width"]


def factor_of(vae: Any) -> int:
    """Pixels of a picture that are one of its latents, along each side."""
    return 2 ** (len(vae.config.block_out_channels) - 1)


def normalised(vae: Any, encoded: Latents) -> Latents:
    """What a VAE encoded, as a UNet's latents."""
    if (moments := _moments(vae, encoded)) is not None:
        mean, std = moments
        return (encoded - mean) / std * vae.config.scaling_factor
    shift = getattr(vae.config, "shift_factor", None) or 0
    return (encoded - shift) * vae.config.scaling_factor


def unnormalised(vae: Any, latents: Latents) -> Latents:
    """A UNet's latents, as a VAE decodes them."""
    latents = latents / vae.config.scaling_factor
    if (moments := _moments(vae, latents)) is not None:
        mean, std = moments
        return latents * std + mean
    return latents + (getattr(vae.config, "shift_factor", None) or 0)


def _moments(vae: Any, like: Tensor) -> tuple[Tensor, Tensor] | None:
    """Mean and deviation of each channel, where the VAE's config has both (Playground 2.5's)."""
    found = [getattr(vae.config, f"latents_{name}", None) for name in ("mean", "std")]
    if None in found:
        return None
    mean, std = (torch.tensor(values).to(like)[:, None, None] for values in found)
    return mean, std
