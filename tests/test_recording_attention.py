"""Recorded maps are what the network computed: against a float64 softmax taken independently."""

import inspect

import pytest
import torch
from recording_helpers import Reference, first_layer, of_a_run

from unet_explained.model import Attend, Attention, UNet2DConditionModel
from unet_explained.model.attention import Transformer2DModel
from unet_explained.recording import record

HALF = torch.float16  # storage: entries of at most 1 are rounded by at most 2.5e-4

X4 = {
    "in_channels": 7,
    "block_out_channels": [16, 32, 32, 64],
    "norm_num_groups": 8,
    "cross_attention_dim": 24,
    "attention_head_dim": 8,
    "use_linear_projection": True,
    "num_class_embeds": 1000,
    "only_cross_attention": [True, True, True, False],
    "down_block_types": ["DownBlock2D"] + ["CrossAttnDownBlock2D"] * 3,
    "up_block_types": ["CrossAttnUpBlock2D"] * 3 + ["UpBlock2D"],
}


@pytest.fixture
def unet(sharp_unet):
    return sharp_unet


def kept(rec, step=0):
    return rec.runs[0].steps[step].attention


def test_every_layer_of_the_topology_equals_a_float64_softmax(unet, inputs):
    reference = Reference(unet)
    with record(unet) as rec, of_a_run():
        unet(*inputs)
    assert len(rec.layers) == 16
    assert set(rec.layers) == set(reference.heads)
    for name, (height, width) in rec.layers.items():
        expected = reference.weights(name)[1].mean(dim=0)
        weights = kept(rec)[name]
        assert weights.dtype == HALF
        assert weights.shape == (1, height * width, 77)
        assert expected.max() > 0.1, "the layer looks nowhere in particular: this proves little"
        torch.testing.assert_close(weights[0].double(), expected, atol=1e-3, rtol=0)
        torch.testing.assert_close(
            weights.float().sum(dim=-1), torch.ones(1, height * width), atol=2e-3, rtol=0
        )


def test_sizes_come_from_the_picture_not_from_a_square_root(unet, inputs):
    reference = Reference(unet)
    with record(unet) as rec, of_a_run():
        unet(*inputs)
    sizes = sorted(set(rec.layers.values()))
    assert sizes == [(2, 3), (4, 6), (8, 12), (16, 24)]
    layer = "up_blocks.3.attentions.2.transformer_blocks.0.attn2"
    expected = reference.weights(layer)[1, :, :, 5].mean(dim=0)
    heat = rec.attention(token=5, layer=layer)
    for row, column in ((0, 1), (3, 0), (15, 23)):
        assert heat[row, column] == pytest.approx(float(expected[24 * row + column]), abs=1e-3)


def test_odd_sizes_and_another_number_of_tokens(unet, inputs):
    with record(unet) as rec:
        unet(inputs[0][:1, :, :15, :9], 7, inputs[2][:1, :5])
    assert set(rec.layers.values()) == {(15, 9), (8, 5), (4, 3), (2, 2)}
    assert rec.attention(token=4).shape == (15, 9)


def test_cross_attention_is_found_by_its_context(inputs):
    unet = UNet2DConditionModel.from_config(X4, seed=0)
    latents = torch.cat([inputs[0], inputs[0][:, :3]], dim=1)[:, :, :16, :16]
    with record(unet, self_attention=True) as rec:
        unet(latents, 7, inputs[2], class_labels=torch.tensor([20, 20]))
    assert sum(name.endswith("attn1") for name in rec.layers) == 10
    assert sum(name.endswith("attn2") for name in rec.layers) == 16
    assert len(rec.runs[0].self_layers) == 6


def test_as_many_pixels_as_tokens_is_not_cross_attention(unet, inputs):
    with record(unet) as rec:
        unet(inputs[0][:1, :, :7, :11], 7, inputs[2][:1])
    assert len(rec.layers) == 16
    assert all(name.endswith("attn2") for name in rec.layers)


def test_heads(unet, inputs):
    reference = Reference(unet)
    with record(unet, attention="heads") as rec, of_a_run():
        unet(*inputs)
    for name in rec.layers:
        expected = reference.weights(name)[1:]
        assert kept(rec)[name].shape == expected.shape
        torch.testing.assert_close(kept(rec)[name].double(), expected, atol=1e-3, rtol=0)
    one, size = rec.attention(token=3, layer=name, head=1), rec.layers[name]
    torch.testing.assert_close(one.double(), expected[0, 1, :, 3].reshape(size), atol=1e-3, rtol=0)
    heads = [rec.attention(token=3, layer=name, head=head) for head in range(expected.shape[1])]
    torch.testing.assert_close(torch.stack(heads).mean(dim=0), rec.attention(token=3, layer=name))
    with pytest.raises(IndexError, match="head 8 is not among the 2"):
        rec.attention(token=3, layer=name, head=8)


def test_sum_is_the_mean_of_the_steps(unet, inputs):
    with record(unet) as each, record(unet, attention="sum") as total, of_a_run(forwards=3):
        for timestep in (900, 500, 100):
            unet(inputs[0] + timestep, timestep, inputs[2])
    assert not any(step.attention for step in total.runs[0].steps)
    (sums,) = total.runs[0].totals.values()
    assert {weights.dtype for weights in sums.sums.values()} == {torch.float32}
    mean = torch.stack([each.attention(token=3, step=step) for step in range(3)]).mean(dim=0)
    torch.testing.assert_close(each.attention(token=3), mean)
    torch.testing.assert_close(total.attention(token=3), mean, atol=5e-4, rtol=0)
    with pytest.raises(ValueError, match="keeps no single step"):
        total.attention(token=3, step=1)


@pytest.mark.parametrize("without", [0, 1])
def test_a_sum_is_of_the_forwards_that_called_the_layer(unet, inputs, without, monkeypatch):
    name = "mid_block.attentions.0.transformer_blocks.0.attn2"
    with record(unet) as each, record(unet, attention="sum") as total, of_a_run(forwards=2):
        for step in range(2):
            with monkeypatch.context() as patch:
                if step == without:
                    patch.setattr(unet.mid_block, "forward", lambda x, *_: x)
                unet(*inputs)
    torch.testing.assert_close(total.weights(name), each.weights(name), atol=5e-4, rtol=0)


def test_arguments_may_be_given_by_name(unet, inputs):
    """Nobody calls these modules so today; a hook must not depend on it."""

    def by_name(module, args, kwargs):
        return (), dict(zip(inspect.signature(module.forward).parameters, args)) | kwargs

    with record(unet) as plain, of_a_run():
        unet(*inputs)
    for module in unet.modules():
        if isinstance(module, Transformer2DModel | Attention | Attend):
            module.register_forward_pre_hook(by_name, with_kwargs=True)
    with record(unet) as named, of_a_run():
        unet(*inputs)
    assert plain.layers == named.layers
    assert torch.equal(plain.attention(token=3), named.attention(token=3))


def test_masks_are_included(unet, inputs):
    reference = Reference(unet)
    mask = torch.ones(2, 77)
    mask[1, 40:] = 0
    with record(unet) as rec, of_a_run():
        unet(*inputs, encoder_attention_mask=mask)
    layer, size = first_layer(rec)
    added = ((1 - mask) * -10000.0)[:, None].double()
    expected = reference.weights(layer, added)[1, :, :, 3].mean(dim=0).reshape(size)
    heat = rec.attention(token=3, layer=layer)
    torch.testing.assert_close(heat.double(), expected, atol=1e-3, rtol=0)
    assert rec.attention(token=50).max() == 0


def test_weights_are_float32_under_autocast_and_in_bfloat16(unet, inputs):
    with record(unet) as rec, torch.autocast("cpu", torch.bfloat16), of_a_run():
        unet(*inputs)
    unet.bfloat16()
    with record(unet) as low, of_a_run():
        unet(inputs[0].bfloat16(), 7, inputs[2].bfloat16())
    for one in (rec, low):
        rows = torch.cat([weights.float().sum(dim=-1).flatten() for weights in kept(one).values()])
        torch.testing.assert_close(rows, torch.ones_like(rows), atol=2e-3, rtol=0)


def test_reading_while_the_run_goes_on(unet, inputs):
    with record(unet) as rec, of_a_run(forwards=2):
        unet(*inputs)
        early = rec.attention(token=3)
        unet(-inputs[0], 3, inputs[2])
    assert torch.equal(early, rec.attention(token=3, step=0))
    with pytest.raises(IndexError, match="step 2 is not among the 2"):
        rec.attention(token=3, step=2)
