"""Each trap makes its slip in the model given, there alone, and leaves nothing of it behind."""

import inspect

import pytest
import torch
from model_reference import CROSS, NARROW, error, inputs_of, ours_of, reference_of

from unet_explained.lessons.traps import TRAPS, trapped
from unet_explained.model import UNet2DConditionModel

# Levels of equal width: two skips of each level have one shape.
OPTIONS = NARROW | CROSS | dict(block_out_channels=[32, 32], layers_per_block=1)
INPUTS = inputs_of(OPTIONS)

# Traps that a config can set too, rightly or wrongly.
BY_CONFIG = {
    "sine first": dict(flip_sin_to_cos=False),
    "freq shift": dict(freq_shift=1),
    "head size for heads": dict(attention_head_dim=16),
    "padding right and below": dict(downsample_padding=0),
}


@pytest.fixture(scope="module")
def unet():
    return ours_of(OPTIONS, reference_of(OPTIONS)).requires_grad_(False)


@pytest.fixture(scope="module")
def right(unet):
    return unet(**INPUTS).sample


def state(model) -> list:
    """Everything about a model's modules that a trap could have left behind."""
    return [
        {key: dict(value) if isinstance(value, dict) else value for key, value in vars(m).items()}
        for m in model.modules()
    ]


@pytest.mark.parametrize("name", TRAPS)
def test_a_trap_changes_the_output_and_is_undone(name, unet, right):
    before, seen = state(unet), []
    with trapped(unet, name):
        wrong = unet(**INPUTS).sample
        seen.append(error(wrong, right))
    assert wrong.isfinite().all()
    assert seen[0] > 1e-6
    assert state(unet) == before
    assert torch.equal(unet(**INPUTS).sample, right)


@pytest.mark.parametrize("name", TRAPS)
def test_another_model_does_not_make_it(name, unet, right):
    other = UNet2DConditionModel(unet.config)
    with trapped(other, name):
        assert torch.equal(unet(**INPUTS).sample, right)


@pytest.mark.parametrize("name", TRAPS)
def test_undone_after_an_exception(name, unet, right):
    before = state(unet)
    with pytest.raises(KeyboardInterrupt), trapped(unet, name):
        raise KeyboardInterrupt
    assert state(unet) == before


@pytest.mark.parametrize("name", BY_CONFIG)
def test_the_slip_is_the_one_it_is_named_for(name, unet):
    wrong = UNet2DConditionModel.from_config(OPTIONS | BY_CONFIG[name])
    wrong.load_state_dict(unet.state_dict())
    with trapped(unet, name):
        torch.testing.assert_close(unet(**INPUTS).sample, wrong(**INPUTS).sample)


def test_two_traps_at_once(unet, right):
    with trapped(unet, "tanh gelu"), trapped(unet, "geglu halves"):
        both = unet(**INPUTS).sample
        assert not torch.equal(both, right)
    assert torch.equal(unet(**INPUTS).sample, right)


def test_every_trap_says_what_it_is(unet):
    assert len(TRAPS) >= 8
    for name, trap in TRAPS.items():
        assert trap.name == name
        assert trap.slip.endswith(".")
        assert trap.right.endswith(".")
        assert inspect.getsource(trap.source)


def test_an_unknown_trap_names_the_closest(unet):
    with pytest.raises(ValueError, match="no trap is called 'sin first'; the closest: sine first"):
        trapped(unet, "sin first")
    with pytest.raises(TypeError, match=r"pipe\.unet"):
        trapped(torch.nn.Linear(1, 1), "sine first")
