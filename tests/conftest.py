"""Fixtures, and the check of every shape annotation in model/ while the tests run.

JAXTYPING_DISABLE=1 switches the check off, for torch.compile, which does not mix with it.
"""

import pytest
import torch
from jaxtyping import install_import_hook

install_import_hook("unet_explained.model", "beartype.beartype")

# Small enough to run anywhere, with the levels, block types and head counts of Stable Diffusion.
TINY = {
    "block_out_channels": [16, 32, 64, 64],
    "norm_num_groups": 8,
    "cross_attention_dim": 24,
    "attention_head_dim": [2, 4, 4, 8],
}


@pytest.fixture
def tiny_config() -> dict:
    """A UNet's config with SD 1.5's topology and few channels."""
    return dict(TINY)


@pytest.fixture
def tiny_unet(tiny_config):
    """A random UNet of that config; its forward is float32 on the CPU."""
    from unet_explained.model import UNet2DConditionModel

    return UNet2DConditionModel.from_config(tiny_config, seed=0)


@pytest.fixture
def randomised():
    """A function that makes every parameter of a model random.

    Default initialisation (scales 1, biases 0) hides swapped norms, a wrong eps and missing biases.
    """

    def fill(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_((0.1 * noise).to(parameter))
        return model

    return fill
