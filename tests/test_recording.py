"""A recorder sees everything and changes nothing."""

import pickle

import pytest
import torch

from unet_explained.recording import Identity, Origin, Row, identified, record
from unet_explained.recording.intervene import intervene

LAYER = "down_blocks.0.attentions.0"


@pytest.mark.parametrize(
    "options",
    [{}, {"attention": "heads", "halves": "both", "self_attention": True, "stats": True}],
    ids=["default", "everything"],
)
def test_output_is_bit_identical(unet, inputs, options):
    plain = unet(*inputs).sample
    with record(unet, "*", **options):
        recorded = unet(*inputs).sample
    assert torch.equal(plain, recorded)


def test_keyword_arguments_are_seen_too(unet, inputs):
    sample, _, prompt = inputs
    with record(unet) as rec:
        unet(sample=sample, encoder_hidden_states=prompt, timestep=torch.tensor(3))
    assert rec.timesteps == [3]
    assert len(rec.layers) == 16


def test_timesteps_of_a_batch(unet, inputs):
    sample, _, prompt = inputs
    with record(unet) as rec:
        unet(sample, torch.tensor([5, 5]), prompt)
        unet(sample, torch.tensor([5, 6]), prompt)
    assert rec.timesteps == [5, [5, 6]]


def test_calls_name_every_tensor_of_the_first_forward(unet, inputs):
    with record(unet) as rec:
        unet(*inputs)
        unet(inputs[0][:, :, :8, :8], *inputs[1:])
    assert [call.name for call in rec.calls[:3]] == ["", "time_proj", "time_embedding"]
    assert {call.name for call in rec.calls} == {
        name for name, module in unet.named_modules() if not isinstance(module, torch.nn.ModuleList)
    }
    attend = next(call for call in rec.calls if call.kind == "Attend")
    assert [str(seen) for seen in attend.inputs] == [
        "batch=2 head=2 query=384 head_dim=8",
        "batch=2 head=2 key=384 head_dim=8",
        "batch=2 head=2 key=384 head_dim=8",
    ]
    assert str(attend.outputs[0]) == "batch=2 head=2 query=384 head_dim=8"
    assert attend.outputs[0].dtype == torch.float32


def test_values_by_pattern(unet, inputs):
    seen = {name: [] for name in (LAYER, "down_blocks.0")}
    for name, outputs in seen.items():
        unet.get_submodule(name).register_forward_hook(
            lambda module, args, output, outputs=outputs: outputs.append(output)
        )
    with record(unet, "down_blocks.0*s.0", "down_blocks.?") as rec:
        unet(*inputs)
        unet(inputs[0], 8, inputs[2])
    assert len(rec[LAYER]) == 2
    assert all(torch.equal(*pair) for pair in zip(rec[LAYER], seen[LAYER], strict=True))
    hidden, skips = rec["down_blocks.0"][1]
    assert isinstance(skips, list)
    assert torch.equal(hidden, seen["down_blocks.0"][1][0])
    assert torch.equal(skips[2], seen["down_blocks.0"][1][1][2])
    assert not rec[LAYER][0].requires_grad


def test_a_second_call_within_a_forward_has_a_name_of_its_own(unet, inputs):
    name = "mid_block.resnets.0.nonlinearity"
    with record(unet, name, stats=True) as rec:
        unet(*inputs)
    assert [rec[key][0].shape for key in (name, f"{name}#2", f"{name}#3")] == [
        (2, 64, 2, 3), (2, 256 // 4), (2, 64, 2, 3),
    ]  # fmt: skip
    assert rec.stats[f"{name}#2"][0].mean == pytest.approx(rec[f"{name}#2"][0].mean().item())


def test_values_stay_when_the_tensor_is_changed_later(unet, inputs):
    plain = unet.conv_in(inputs[0])

    def spoil(module, args, output):
        output.zero_()

    with record(unet, "conv_in") as rec:
        unet.conv_in.register_forward_hook(spoil)
        unet(*inputs)
    assert torch.equal(rec["conv_in"][0], plain)


def test_records_need_no_gradient(unet, inputs):
    unet.requires_grad_(True)
    with record(unet, LAYER, self_attention=True) as rec:
        output = unet(*inputs).sample
    step = rec.runs[0].steps[0]
    assert output.requires_grad
    kept = [*step.attention.values(), *step.values.values(), *(p.q for p in step.pairs.values())]
    assert not any(tensor.requires_grad for tensor in kept)


def test_stats(unet, inputs):
    unet.conv_norm_out.weight.data[0] = float("nan")
    with record(unet, "conv_norm_out", "mid_block", "down_blocks.0", stats=True) as rec:
        unet(*inputs)
        unet(*inputs)
    value, stats = rec["mid_block"][1], rec.stats["mid_block"][1]
    expected = [value.mean(), value.std(correction=0), value.min(), value.max(), 0.0]
    assert list(stats) == pytest.approx([float(number) for number in expected], rel=1e-5)
    assert rec.stats["conv_norm_out"][0].nonfinite == pytest.approx(1 / 16)
    assert rec.stats["down_blocks.0"][0].max == rec["down_blocks.0"][0][0].max().item()
    assert len(rec.stats) > 500


def test_errors_of_values(unet, inputs):
    with record(unet, "down_blocks.0*") as rec:
        unet(*inputs)
    with pytest.raises(KeyError, match="no module 'mid_blocks'; the closest: mid_block"):
        rec["mid_blocks"]
    with pytest.raises(KeyError, match="'mid_block' was not kept: pass its name"):
        rec["mid_block"]
    with pytest.raises(KeyError, match="was not called"):
        rec["down_blocks.0.resnets"]
    with pytest.raises(ValueError, match="stats=True"):
        _ = rec.stats


@pytest.mark.parametrize("factor", [1e-24, 1e25])
def test_stats_of_numbers_whose_squares_are_none(unet, inputs, factor):
    with intervene(unet, "mid_block", lambda x: x * factor), record(unet, stats=True) as rec:
        unet(*inputs)
    with record(unet, stats=True) as plain:
        unet(*inputs)
    expected = plain.stats["mid_block"][0].std * factor
    assert rec.stats["mid_block"][0].std == pytest.approx(expected, rel=1e-4)


def test_a_record_of_what_cannot_be_asked_leaves_the_forward_alone(unet, inputs):
    """Rows of another half alone, latents that are none: the forward is as ever."""
    other = Identity(Origin(1), (Row(None, 0, "unconditional"),) * 2)
    with record(unet, self_attention=True, stats=True) as rec, identified(other):
        unet(*inputs)
    with pytest.raises(ValueError, match='halves="both"'):
        rec.attention(token=1)
    with record(unet) as rec, pytest.raises((ValueError, TypeError), match="sample"):
        unet(torch.tensor(1.0), 1, inputs[2])
    assert not rec.runs


def test_a_record_can_be_pickled(unet, inputs):
    with record(unet) as rec:
        unet(*inputs)
    loaded = pickle.loads(pickle.dumps(rec))
    assert torch.equal(loaded.attention(token=3, picture=1), rec.attention(token=3, picture=1))


def test_a_replay_under_inference_mode_is_of_what_was_given(unet, inputs):
    with torch.inference_mode():
        latents = inputs[0] + 0
        with record(unet, "conv_out") as rec:
            unet(latents, *inputs[1:])
        latents.mul_(2)
        again = rec.replay(0, "conv_out")
    assert torch.equal(again["conv_out"][0], rec["conv_out"][0])
    assert again.attention(token=3, picture=0).shape == (16, 24)
