"""Each trap makes its slip in the model given, there alone, and leaves nothing of it behind."""

import inspect
import math

import pytest
import torch
from einops import rearrange
from model_reference import CROSS, NARROW, error, inputs_of, ours_of, reference_of

from unet_explained.lessons.traps import TRAPS, trapped
from unet_explained.model import UNet2DConditionModel
from unet_explained.model.attention import Transformer2DModel

# Levels of equal width: two skips of each level have one shape.
OPTIONS = NARROW | CROSS | dict(block_out_channels=[32, 32], layers_per_block=1)
INPUTS = inputs_of(OPTIONS)

# Traps that a config can set too, rightly or wrongly.
BY_CONFIG = {
    "sine first": dict(flip_sin_to_cos=False),
    "freq shift": dict(freq_shift=1),
    "head size for heads": dict(attention_head_dim=16),
    "padding right and below": dict(downsample_padding=0),
    "mid over root two": dict(mid_block_scale_factor=math.sqrt(2)),
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


def test_no_bias_is_as_a_bias_of_zero(unet):
    wrong = UNet2DConditionModel.from_config(OPTIONS)
    wrong.load_state_dict(
        {n: 0 * v if n.endswith("to_out.0.bias") else v for n, v in unet.state_dict().items()}
    )
    with trapped(unet, "no bias after attention"):
        torch.testing.assert_close(unet(**INPUTS).sample, wrong(**INPUTS).sample)


def test_columns_for_rows_turns_what_a_transformer_adds(unet):
    transformer = next(m for m in unet.modules() if isinstance(m, Transformer2DModel))
    channels = transformer.norm.num_channels
    x = torch.randn(1, channels, 6, 6, generator=torch.Generator().manual_seed(0))
    text = INPUTS["encoder_hidden_states"][:1]
    added = transformer(x, text) - x
    with trapped(unet, "columns for rows"):
        turned = transformer(x, text) - x
    torch.testing.assert_close(turned, rearrange(added, "b c y x -> b c x y"))


def test_softmax_in_float16_is_wrong_in_its_last_digits_alone(unet, right):
    with trapped(unet, "softmax in float16"):
        assert 1e-6 < error(unet(**INPUTS).sample, right) < 1e-2


def test_two_traps_at_once(unet, right):
    with trapped(unet, "tanh gelu"), trapped(unet, "geglu halves"):
        both = unet(**INPUTS).sample
        assert not torch.equal(both, right)
    assert torch.equal(unet(**INPUTS).sample, right)


def test_every_trap_says_what_it_is(unet):
    assert len(TRAPS) == 17
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
