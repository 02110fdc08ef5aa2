"""What passes can be changed, anywhere, and nothing of it is left behind."""

from contextlib import ExitStack

import pytest
import torch
from model_reference import (
    assert_recorded,
    error,
    inputs_of,
    options_of,
    ours_of,
    recorded,
    reference_of,
)

from unet_explained.lessons import what_if
from unet_explained.recording import record
from unet_explained.recording.intervene import intervene


def hooks(model) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def twice(x):
    return x * 2


def test_an_output_is_changed_only_inside_the_with(unet, inputs):
    before = unet(*inputs).sample
    with intervene(unet, "conv_out", twice):
        assert torch.equal(unet(*inputs).sample, before * 2)
    assert torch.equal(unet(*inputs).sample, before)


@pytest.mark.parametrize(("on", "index"), [("input", 0), ("input_tensor", 0), ("temb", 1)])
def test_an_input_and_an_argument_by_name(unet, inputs, on, index):
    block, seen = "down_blocks.0.resnets.0", []
    unet.get_submodule(block).register_forward_hook(lambda m, args, out: seen.append(args))
    unet(*inputs)
    with intervene(unet, block, twice, on=on):
        unet(*inputs)
    assert torch.equal(seen[1][index], seen[0][index] * 2)
    assert torch.equal(seen[1][1 - index], seen[0][1 - index])


def test_an_argument_passed_by_keyword(unet, inputs):
    names = ("sample", "timestep", "encoder_hidden_states")
    expected = unet(inputs[0], torch.tensor(9), inputs[2]).sample
    with intervene(unet, "", lambda t: t + 2, on="timestep"):
        assert torch.equal(unet(**dict(zip(names, inputs))).sample, expected)


def test_everything_that_fits_the_pattern_is_changed(unet, inputs):
    with record(unet, "*attn2.attend") as rec, intervene(unet, "up_blocks.*attn2.attend", twice):
        unet(*inputs)
    with record(unet, "*attn2.attend") as before:
        unet(*inputs)
    first = "up_blocks.1.attentions.0.transformer_blocks.0.attn2.attend"
    same = "mid_block.attentions.0.transformer_blocks.0.attn2.attend"
    assert torch.equal(rec[first][0], before[first][0] * 2)
    assert torch.equal(rec[same][0], before[same][0])


@pytest.mark.parametrize("recorder_first", [True, False])
def test_a_recorder_sees_the_changed_values(unet, inputs, recorder_first):
    layer = "down_blocks.0.attentions.0.transformer_blocks.0.attn2"
    watch = record(unet, "mid_block", layer + ".to_k", attention="heads")
    change = intervene(unet, "mid_block", lambda x: 0 * x)
    swap = intervene(unet, "*attn2.to_k", what_if.swap_keys(1, 2))
    managers = [watch, change, swap] if recorder_first else [change, swap, watch]
    with record(unet, attention="heads") as before:
        unet(*inputs)
    with ExitStack() as stack:
        entered = [stack.enter_context(manager) for manager in managers]
        unet(*inputs)
    rec = entered[managers.index(watch)]
    assert not rec["mid_block"][0].any()
    swapped = [rec.attention(token=t, layer=layer, picture=0) for t in (2, 1)]
    for token, weights in zip((1, 2), swapped):
        expected = before.attention(token=token, layer=layer, picture=0)
        torch.testing.assert_close(weights, expected)


def test_interventions_nest_and_the_last_acts_first(unet, inputs):
    before = unet(*inputs).sample
    with intervene(unet, "conv_out", twice):
        with intervene(unet, "conv_out", lambda x: x + 1):
            assert torch.equal(unet(*inputs).sample, (before + 1) * 2)
        assert torch.equal(unet(*inputs).sample, before * 2)
    assert torch.equal(unet(*inputs).sample, before)


def test_undone_after_exceptions(unet, inputs):
    def fail(error):
        with intervene(unet, "*", twice, on="output"):
            assert hooks(unet) > 100
            raise error

    for kind in (ValueError, KeyboardInterrupt):
        with pytest.raises(kind):
            fail(kind)
        assert hooks(unet) == 0


def test_an_error_inside_a_change_says_where(unet, inputs):
    with (
        intervene(unet, "mid_block", lambda x: x[9]),
        pytest.raises(IndexError) as raised,
    ):
        unet(*inputs)
    assert (
        "the output of mid_block, which is (2, 64, 2, 3) float32 cpu" in raised.value.__notes__[0]
    )
    assert hooks(unet) == 0


@pytest.mark.parametrize(
    ("pattern", "on", "change", "message"),
    [
        ("mid_block", "output", lambda x: x[:1], r"output of mid_block: expected \(2, 64, 2, 3\)"),
        ("mid_block", "output", lambda x: x.double(), "gave .* float64 cpu; keep the shape"),
        ("mid_block", "input", lambda x: None, "is a `return` missing"),
        ("down_blocks.0", "output", lambda x: x[0], r"expected tuple\[.*, list\[.*the change gave"),
        ("conv_out", "output", lambda x: x.mul_(2), "output of conv_out: the change wrote into"),
        (
            "up_blocks.1",
            "skips",
            lambda x: [s.zero_() for s in x],
            "skips of up_blocks.1: .* wrote",
        ),
        ("*attend", "mask", twice, "mask of .*attn1.attend: nothing to change"),
    ],
)
def test_a_change_that_does_not_fit(unet, inputs, pattern, on, change, message):
    with intervene(unet, pattern, change, on=on), pytest.raises(ValueError, match=message):
        unet(*inputs)


def test_errors_before_any_forward(unet):
    with pytest.raises(ValueError, match="fits 'mid_blok'; the closest: mid_block"):
        intervene(unet, "mid_blok", twice)
    with pytest.raises(ValueError, match="no module with a forward fits 'down_blocks'"):
        intervene(unet, "down_blocks", twice)  # a list, never called
    with pytest.raises(
        ValueError, match=r"mid_block \(UNet.*\) has no .*; the closest: temb; .*put"
    ):
        intervene(unet, "mid_block", twice, on="tem")
    with pytest.raises(TypeError, match=r"pipe\.unet.*got Linear"):
        intervene(torch.nn.Linear(1, 1), "*", twice)
    with pytest.raises(TypeError, match="expected a function of a tensor, got a int"):
        intervene(unet, "mid_block", 0)


def test_drop_skip_drops_the_skip_that_arrives_there(unet, inputs):
    widths = what_if.stream_widths(unet, 2)
    with intervene(unet, "up_blocks.2", what_if.drop_skip(1), on="skips"):
        seen = []
        for resnet in unet.up_blocks[2].resnets:
            resnet.register_forward_hook(lambda m, args, out: seen.append(args[0]))
        unet(*inputs)
    for i, (both, width) in enumerate(zip(seen, widths)):
        assert both[:, :width].any()
        assert both[:, width:].any() == (i != 1)


def test_silence_head_silences_one_head(unet, inputs):
    layer = "mid_block.attentions.0.transformer_blocks.0.attn2.attend"
    with record(unet, layer) as rec, intervene(unet, layer, what_if.silence_head(3)):
        unet(*inputs)
    silent = [head for head in range(8) if not rec[layer][0][:, head].any()]
    assert silent == [3]


def test_swap_keys_in_some_rows(unet, inputs):
    layer = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
    with record(unet, layer) as before:
        unet(*inputs)
    swap = what_if.swap_keys(4, 6, rows=slice(1, 2))
    with record(unet, layer) as rec, intervene(unet, layer, swap):
        unet(*inputs)
    old, new = before[layer][0], rec[layer][0]
    assert torch.equal(new[0], old[0])
    order = [*range(4), 6, 5, 4, *range(7, 77)]
    assert torch.equal(new[1], old[1, order])


def test_freeze_timestep_is_the_forward_at_that_timestep(unet, inputs):
    latents, _, prompt = inputs
    with intervene(unet, "time_proj", what_if.freeze_timestep(400), on="input"):
        frozen = unet(*inputs).sample
    assert torch.equal(frozen, unet(latents, torch.tensor(400), prompt).sample)


@pytest.mark.parametrize(
    ("change", "pattern", "on", "message"),
    [
        (what_if.drop_skip(3), "up_blocks.1", "skips", "resnet=3: expected 0 to 2"),
        (what_if.silence_head(8), "mid_block*attn2.attend", "output", "head=8: expected 0 to 7"),
        (what_if.swap_keys(1, 77), "*attn2.to_k", "output", "second=77: expected 0 to 76"),
    ],
)
def test_ready_made_changes_say_what_there_is(unet, inputs, change, pattern, on, message):
    with intervene(unet, pattern, change, on=on), pytest.raises(IndexError, match=message):
        unet(*inputs)


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_freeu_equals_the_reference(name):
    """To 1e-5 of the largest value, in every module."""
    reference = reference_of(options_of(name))
    ours, inputs = ours_of(options_of(name), reference), inputs_of(options_of(name), size=(16, 24))
    plain = recorded(reference, inputs)
    reference.enable_freeu(s1=0.9, s2=0.2, b1=1.5, b2=1.6)
    expected = recorded(reference, inputs)
    assert error(plain["conv_out"][0], expected["conv_out"][0]) > 1e-3
    with what_if.freeu(ours, s1=0.9, s2=0.2, b1=1.5, b2=1.6):
        assert_recorded(expected, reference, ours, inputs)
    assert_recorded(plain, reference, ours, inputs)


def test_freeu_in_half_precision(unet, inputs):
    half, given = unet.bfloat16(), [x.bfloat16() if x.is_floating_point() else x for x in inputs]
    before = half(*given).sample
    with what_if.freeu(half, s1=0.9, s2=0.2, b1=1.5, b2=1.6):
        assert half(*given).sample.isfinite().all()
        assert not torch.equal(half(*given).sample, before)
