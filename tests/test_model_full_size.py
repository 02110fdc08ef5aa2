"""Stable Diffusion 1.5 at its full size: 860 million random weights, the same numbers."""

import pytest
import torch
from model_reference import assert_parity, inputs_of, reference_of

from unet_explained.model import UNet2DConditionModel, UNetConfig


@pytest.mark.long
def test_sd15_at_full_size_gives_what_the_reference_gives():
    options = UNetConfig.load("sd15").to_dict()
    reference = reference_of(options)
    with torch.device("meta"):
        ours = UNet2DConditionModel.from_config(options)
    # The reference's tensors themselves: a second copy would take 3.4 GB more.
    ours.load_state_dict(reference.state_dict(), strict=True, assign=True)
    assert_parity(reference, ours, inputs_of(options, size=(64, 64), tokens=77), copy=False)
