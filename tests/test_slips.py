"""A common slip in a forward is told by its name, and only to the answer that makes it."""

import pytest
import torch
from model_reference import CROSS, NARROW, inputs_of, ours_of, reference_of

from unet_explained.lessons import slips
from unet_explained.lessons.check import check
from unet_explained.lessons.traps import trapped
from unet_explained.model.attention import GEGLU, Attention
from unet_explained.model.config import UNetConfig
from unet_explained.model.resnet import ResnetBlock2D
from unet_explained.run.in_diffusers import one_of_theirs

# Heads of more than one, levels of equal width: every slip can be made.
OPTIONS = NARROW | CROSS | dict(block_out_channels=[32, 32], attention_head_dim=2)
WHOLE = inputs_of(OPTIONS)


def numbers(*sizes: int) -> torch.Tensor:
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(sum(sizes)))


@pytest.fixture(scope="module")
def references():
    torch.manual_seed(0)
    config = UNetConfig.load(OPTIONS)
    time = config.time_embed_dim
    return {
        ResnetBlock2D: (ResnetBlock2D(16, 32, config), numbers(2, 16, 6, 4), numbers(2, time)),
        Attention: (Attention(32, 4, 32), 3 * numbers(2, 9, 32), numbers(2, 7, 32)),
        GEGLU: (GEGLU(8, 16), numbers(2, 5, 8)),
    }


@pytest.mark.parametrize("kind", slips.FORWARDS)
def test_the_forward_that_slips_are_made_in_is_the_right_one(kind, references):
    module, *inputs = references[kind]
    assert check(lambda *given: slips.FORWARDS[kind](module, *given), module, *inputs)


@pytest.mark.parametrize("kind", slips.FORWARDS)
def test_each_slip_of_a_module_is_named(kind, references):
    module, *inputs = references[kind]
    known = dict(slips.slips_in(module))
    assert len(known) >= 4
    for sentence, on in known.items():
        with on(module):
            answer = module(*inputs)
        told = check(lambda *_, answer=answer: answer, module, *inputs)
        assert not told
        assert told.hint.endswith(sentence)


def test_each_slip_of_the_whole_network_is_named():
    unet = ours_of(OPTIONS, reference_of(OPTIONS)).requires_grad_(False)
    one_of_theirs(unet)  # as a pipeline has it
    for name in ("conv_act", "every transformer"):
        with dict(slips.slips_in(unet))[f"{name} is left out"](unet):
            answer = unet(**WHOLE)
        assert f"{name} is left out" in check(lambda answer=answer, **_: answer, unet, **WHOLE).hint
    for name in ("skip first", "skips in order", "one silu"):
        with trapped(unet, name):
            answer = unet(**WHOLE)
        assert f"slip: “{name}”. " in check(lambda answer=answer, **_: answer, unet, **WHOLE).hint


def test_an_answer_wrong_in_its_own_way_is_told_no_slip(references):
    module, *inputs = references[Attention]
    told = check(lambda *given: module(*given).sin(), module, *inputs)
    assert not told
    assert "slip" not in told.hint


def test_a_mask_and_a_slip_that_sizes_forbid_are_no_error():
    module, mask = Attention(32, 4, 16), torch.tensor([[0.0, -1e4, 0.0]])
    inputs = numbers(1, 9, 32), numbers(1, 3, 16)
    assert not check(lambda x, *_: x, module, *inputs, mask)
    told = check(lambda x, context, _: module(x, context), module, *inputs, mask)
    assert "slip" not in told.hint


def test_a_network_without_a_part_is_tried_without_its_slips():
    plain = dict(down_block_types=["DownBlock2D"] * 2, up_block_types=["UpBlock2D"] * 2)
    config = OPTIONS | plain | dict(mid_block_type=None)
    unet = ours_of(config, reference_of(config)).requires_grad_(False)
    told = check(lambda **given: unet(**given).sample.sin(), unet, **inputs_of(config))
    assert not told
    assert "slip" not in told.hint
    with trapped(unet, "skip first"):
        answer = unet(**WHOLE)
    assert "“skip first”" in check(lambda **_: answer, unet, **WHOLE).hint
