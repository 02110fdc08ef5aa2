"""The same weights give the same numbers as diffusers, in the output and in every named module."""

import diffusers
import pytest
import torch
from model_reference import (
    CROSS,
    FAMILIES,
    NARROW,
    OPTIONS,
    SHALLOW,
    adapter,
    assert_parity,
    case,
    cast,
    controlnet,
    error,
    inputs_of,
    options_of,
    ours_of,
    pair,
    recorded,
    reference_of,
)
from torch import nn

from unet_explained.model import Attention

ONE_LEVEL = NARROW | dict(
    block_out_channels=[16],
    down_block_types=["CrossAttnDownBlock2D"],
    up_block_types=["CrossAttnUpBlock2D"],
)


def assert_same_output(name: str, inputs: dict) -> torch.Tensor:
    reference, ours = pair(name)
    with torch.no_grad():
        expected, actual = reference(**inputs).sample, ours(**inputs).sample
    assert error(actual, expected) <= 1e-5
    return actual


def plain_down_blocks(reference: nn.Module) -> set[str]:
    """Our DownBlock2D adds an adapter's residual itself, diffusers' leaves that to its caller."""
    return {n for n, m in reference.named_modules() if type(m).__name__ == "DownBlock2D"}


@pytest.mark.parametrize("name", [*FAMILIES, *OPTIONS])
def test_every_module_gives_what_the_reference_gives(name):
    assert_parity(*case(name))


@pytest.mark.parametrize("size", [(17, 18), (8, 24), (24, 9)], ids=str)
@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_latents_need_not_be_square_nor_divisible_by_8(name, size):
    reference, ours, inputs = case(name, size=size)
    assert_parity(reference, ours, inputs)
    assert ours(**inputs).sample.shape[-2:] == size


@pytest.mark.parametrize("size", [(17, 18), (16, 9)], ids=str)
def test_downsampling_with_padding_0_takes_odd_sizes(size):
    assert_parity(*case("padding_0", size=size))


@pytest.mark.parametrize("change", [dict(batch=1), dict(tokens=1), dict(tokens=77)], ids=str)
def test_any_batch_and_length_of_text(change):
    assert_parity(*case("sd15", **change))


@pytest.mark.parametrize(
    "timestep",
    [
        417,
        417.25,
        0,
        torch.tensor(417),
        torch.tensor(417, dtype=torch.int32),
        torch.tensor(417.25, dtype=torch.float64),
        torch.tensor([417]),
        torch.tensor([417, 3]),
        torch.tensor([417.25, 3.5]),
    ],
    ids=repr,
)
def test_timesteps_are_numbers_or_tensors_for_all_or_for_each(timestep):
    assert_same_output(
        "no_mid_block", inputs_of(options_of("no_mid_block")) | {"timestep": timestep}
    )


def test_the_guidance_embedding_may_be_left_out():
    inputs = inputs_of(options_of("lcm"))
    guided = assert_same_output("lcm", inputs)
    assert not guided.equal(assert_same_output("lcm", inputs | {"timestep_cond": None}))


@pytest.mark.parametrize("return_dict", [True, False])
def test_the_prediction_comes_as_sample_or_in_a_tuple(return_dict):
    reference, ours, inputs = case("mid_scale")
    with torch.no_grad():
        expected = reference(**inputs, return_dict=return_dict)
        actual = ours(**inputs, return_dict=return_dict)
    assert len(actual) == len(expected) == 1
    assert error(actual[0], expected[0]) <= 1e-5
    assert hasattr(actual, "sample") == hasattr(expected, "sample") == return_dict
    assert not return_dict or actual.sample is actual[0]


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32], ids=str)
def test_masked_tokens_are_passed_over(dtype):
    reference, ours, inputs = case("depth_as_list")
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], dtype=dtype)
    inputs["encoder_attention_mask"] = mask
    assert_parity(reference, ours, inputs)
    before, text = ours(**inputs).sample, inputs["encoder_hidden_states"]
    inputs["encoder_hidden_states"] = text + 5 * (1 - mask.to(text))[..., None]
    assert ours(**inputs).sample.equal(before)
    assert not ours(**inputs | {"encoder_attention_mask": None}).sample.equal(before)


def test_the_attention_mask_covers_what_attn1_looks_at():
    reference = reference_of(ONE_LEVEL)
    ours, inputs = ours_of(ONE_LEVEL, reference), inputs_of(ONE_LEVEL, size=(3, 4))
    before = ours(**inputs).sample
    inputs["attention_mask"] = torch.arange(24).remainder(5).reshape(2, 12) > 0
    inputs["encoder_attention_mask"] = torch.arange(10).remainder(3).reshape(2, 5) > 0
    assert_parity(reference, ours, inputs)
    assert error(ours(**inputs).sample, before) > 1e-3


def test_the_attention_mask_covers_the_text_where_attn1_looks_at_the_text():
    options = NARROW | SHALLOW | CROSS
    options |= dict(only_cross_attention=True, mid_block_type="UNetMidBlock2D")
    reference = reference_of(options)
    inputs = inputs_of(options) | {
        "attention_mask": torch.tensor([[1, 1, 0, 0, 0], [1, 0, 1, 0, 1]])
    }
    assert_parity(reference, ours_of(options, reference), inputs)


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_controlnet_residuals(name):
    reference, ours, inputs = case(name)
    control = controlnet(recorded(reference, inputs), len(reference.down_blocks))
    assert_parity(reference, ours, inputs | control)
    assert error(ours(**inputs, **control).sample, ours(**inputs).sample) > 1e-2


@pytest.mark.parametrize("mid", [False, True], ids=["down", "down_and_mid"])
@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_t2i_adapter_residuals(name, mid):
    reference, ours, inputs = case(name)
    added = adapter(recorded(reference, inputs), reference, mid)
    count = len(added["down_intrablock_additional_residuals"])
    assert_parity(reference, ours, inputs | added, but=plain_down_blocks(reference))
    assert error(ours(**inputs, **added).sample, ours(**inputs).sample) > 1e-2
    assert len(added["down_intrablock_additional_residuals"]) == count, "the list was emptied"


def test_a_controlnet_and_a_t2i_adapter_together():
    reference, ours, inputs = case("sd15")
    seen = recorded(reference, inputs)
    both = controlnet(seen, 4) | adapter(seen, reference, mid=True)
    assert_parity(reference, ours, inputs | both, but=plain_down_blocks(reference))


def test_dropout_drops_the_same_numbers():
    options = options_of("scale_shift") | {"dropout": 0.4}
    reference = reference_of(options)
    ours, inputs = ours_of(options, reference), inputs_of(options)
    torch.manual_seed(5)
    expected = recorded(reference.train(), inputs)
    torch.manual_seed(5)
    actual = recorded(ours.train(), inputs)
    assert max(error(actual[name][0], expected[name][0]) for name in expected) <= 1e-5
    assert error(actual[""][0], ours.eval()(**inputs).sample) > 1e-2


def test_without_norm_num_groups_there_is_no_norm_at_the_end():
    """diffusers cannot build this with these blocks, so its parts are put together by hand."""
    options = options_of("only_cross_attention")
    with pytest.raises(TypeError):
        diffusers.UNet2DConditionModel.from_config(options | {"norm_num_groups": None})
    reference = reference_of(options)
    reference.conv_norm_out = reference.conv_act = None
    for norm in [m for m in reference.modules() if isinstance(m, nn.GroupNorm)]:
        norm.num_groups = min(norm.num_channels // 4, 32)
    ours = ours_of(options | {"norm_num_groups": None}, reference)
    assert_parity(reference, ours, inputs_of(options))


def test_adapters_count_attention_layers_in_the_same_order():
    def layers(model, kind):
        return [name for name, module in model.named_modules() if isinstance(module, kind)]

    reference, ours = pair("sdxl")
    expected = layers(reference, diffusers.models.attention_processor.Attention)
    assert layers(ours, Attention) == expected


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_gradients_equal_those_of_the_reference(name):
    reference, ours, inputs = case(name)
    for model in (reference, ours):
        model.zero_grad()
        model(**inputs).sample.square().mean().backward()
    expected = {n: p.grad for n, p in reference.named_parameters()}
    wrong = {n for n, p in ours.named_parameters() if not error(p.grad, expected[n]) <= 1e-4}
    assert not wrong


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_bfloat16_is_as_near_to_float64_as_the_reference_is(name):
    def output(model, dtype):
        with torch.no_grad():
            return model(**cast(inputs, dtype)).sample.double()

    options = options_of(name)
    reference = reference_of(options).bfloat16()
    ours = ours_of(options, reference)
    inputs = cast(inputs_of(options), torch.bfloat16)
    theirs, mine = output(reference, torch.bfloat16), output(ours, torch.bfloat16)
    exact = output(reference.double(), torch.float64)
    assert 0 < torch.dist(mine, exact) <= 1.05 * torch.dist(theirs, exact)
    assert torch.dist(theirs, exact) < 0.1 * exact.norm()
