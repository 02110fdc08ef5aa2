"""Self-attention: queries and keys are kept, weights derived when read."""

import pytest
import torch
from recording_helpers import Reference, of_a_run

from unet_explained.recording import record


@pytest.fixture
def unet(sharp_unet):
    return sharp_unet


def test_self_attention(unet, inputs):
    reference = Reference(unet, "*attn1")
    with record(unet, attention=None, self_attention=True) as rec, of_a_run(forwards=2):
        unet(*inputs)
        first = reference.weights("mid_block.attentions.0.transformer_blocks.0.attn1")[1]
        unet(-inputs[0], 3, inputs[2])
    layer = "mid_block.attentions.0.transformer_blocks.0.attn1"
    second = reference.weights(layer)[1]
    close = dict(atol=1e-6, rtol=0, check_dtype=False)
    whole = rec.self_attention(layer="mid_block*", step=0)
    assert whole.shape == (2, 3, 2, 3)
    torch.testing.assert_close(whole.reshape(6, 6), first.mean(dim=0), **close)
    row = rec.self_attention(layer=layer, step=1, pixel=(1, 2), head=4)
    torch.testing.assert_close(row, second[4, 5].reshape(2, 3), **close)
    mean = rec.self_attention(layer=layer, pixel=(0, 2))
    expected = (first + second).mean(dim=0)[2].reshape(2, 3) / 2
    torch.testing.assert_close(mean, expected, **close)
    assert torch.equal(whole[1, 2], rec.self_attention(layer=layer, step=0, pixel=(1, 2)))

    with pytest.raises(ValueError, match="choose one of"):
        rec.self_attention(layer="down_blocks.0*")
    with pytest.raises(IndexError, match=r"pixel \(2, 0\) is outside the layer's 2 x 3"):
        rec.self_attention(layer=layer, pixel=(2, 0))
    with pytest.raises(ValueError, match="kept no attention"):
        rec.attention(token=3)


def test_self_attention_has_to_be_asked_for(unet, inputs):
    with record(unet) as rec:
        unet(*inputs)
    assert not rec.runs[0].steps[0].pairs
    with pytest.raises(ValueError, match="self_attention=True"):
        rec.self_attention(layer="mid_block*")
