"""What several tests of training begin with."""

import torch

from training.album import Album
from training.diffusion import DiffusionLoss
from training.models import build_text_encoder, build_unet
from training.reading import ReadingLoss
from training.tokenizer import build_tokenizer
from unet_explained.bundled.world import GROUNDS, Scene, Thing


def two_things(side: int = 40) -> Album:
    """A star left of a boat, too far from each other for all windows to hold both."""
    scene = Scene(
        "pink",
        (
            Thing("star", "red", "small", 0.3, 0.5, 0.12),
            Thing("boat", "blue", "small", 0.7, 0.5, 0.12),
        ),
    )
    masks = torch.zeros(1, 3, side, side, dtype=torch.bool)
    latents = torch.randn(1, 4, side, side)
    album = Album([scene], latents, masks, torch.zeros(len(GROUNDS), 4, side, side))
    album.masks[0, 0, 20, 12] = album.masks[0, 1, 20, 28] = True
    return album


def diffusion_loss() -> DiffusionLoss:
    return DiffusionLoss(build_unet(0), ReadingLoss(build_text_encoder(build_tokenizer())))
