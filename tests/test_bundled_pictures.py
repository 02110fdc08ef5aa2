"""The bundled model's pictures: the same for the same seed, and what they were when it shipped.

After new weights: python -m figures reference
"""

import numpy as np
import pytest
import torch
from PIL import Image

from figures.bundled import REFERENCE, reference
from unet_explained.run.checkpoints import load

pytestmark = pytest.mark.slow


def levels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB")).astype(float)


def test_the_same_seed_gives_the_same_picture_to_the_last_bit():
    pipe = load(device="cpu")
    first, again = (pipe("a red circle", steps=3, seed=5) for _ in range(2))
    assert torch.equal(first.latents, again.latents)
    assert not torch.equal(first.latents, pipe("a red circle", steps=3, seed=6).latents)


@pytest.mark.long
@pytest.mark.parametrize("name", REFERENCE)
def test_pictures_are_what_they_were(name):
    """Other processors round otherwise, so a level of 255 may differ here and there."""
    kept = levels(Image.open(f"tests/reference/{name}.png"))
    assert np.abs(levels(reference(name)) - kept).mean() < 1


def test_bfloat16_paints_the_same_scene():
    prompt = "a red circle left of a blue square"
    pictures = [
        levels(load(device="cpu", dtype=dtype)(prompt, steps=4, seed=0).image)
        for dtype in (torch.float32, torch.bfloat16)
    ]
    assert np.abs(pictures[0] - pictures[1]).mean() < 4
