"""One map a word: which tokens, layers and steps it is made of."""

import pytest
import torch

from unet_explained.model import UNet2DConditionModel
from unet_explained.recording import Announcement, Word, announce, record
from unet_explained.recording.heatmaps import average, head_mean, iou, pointing_game, word_map

WORDS = (Word("A", (1,)), Word("circle", (2, 3)), Word("a", (4,)), Word("circle", (5,)))
CONFIG = {
    "block_out_channels": [16, 32, 64, 64],
    "norm_num_groups": 8,
    "cross_attention_dim": 24,
    "attention_head_dim": 4,
}
FIRST = "down_blocks.0.attentions.0.transformer_blocks.0.attn2"


@pytest.fixture(scope="module")
def unet():
    """With sharp attention: default weights look everywhere alike."""
    unet = UNet2DConditionModel.from_config(CONFIG, seed=0).requires_grad_(False)
    for name, parameter in unet.named_parameters():
        if "to_q" in name or "to_k" in name:
            parameter.data *= 4
    return unet


@pytest.fixture(scope="module")
def rec(unet):
    """Two announced steps of a prompt with a word of two tokens and a repeated word."""
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(2, 4, 16, 24, generator=generator)
    prompt = 4 * torch.randn(2, 9, 24, generator=generator)
    with record(unet) as recording:
        announce(unet, Announcement("A circle a circle", WORDS, 2, slice(1, 2)))
        for timestep in (900, 1):
            unet(latents, timestep, prompt)
    return recording


def test_sub_tokens_are_summed_and_occurrences_averaged(rec):
    two, three, five = (rec.attention(token=token) for token in (2, 3, 5))
    torch.testing.assert_close(rec.attention("circle", occurrence=0), two + three)
    torch.testing.assert_close(rec.attention("circle", occurrence=1), five)
    torch.testing.assert_close(rec.attention("circle"), (two + three + five) / 2)
    assert not torch.allclose(two, five)


def test_upper_case_may_differ_but_not_if_both_are_there(rec):
    assert torch.equal(rec.attention("Circle"), rec.attention("circle"))
    assert torch.equal(rec.attention("A"), rec.attention(token=1))
    assert torch.equal(rec.attention("a"), rec.attention(token=4))


def test_layers_are_weighted_equally_in_the_size_of_the_largest(rec):
    maps = [rec.attention("circle", layer=name) for name in rec.layers]
    assert {tuple(each.shape) for each in maps} == {(16, 24), (8, 12), (4, 6), (2, 3)}
    resized = [
        torch.nn.functional.interpolate(each[None, None], (16, 24), mode="bilinear")[0, 0]
        for each in maps
    ]
    torch.testing.assert_close(rec.attention("circle"), torch.stack(resized).mean(dim=0))
    assert rec.attention("circle", layer="mid_block*").shape == (2, 3)
    some = rec.attention("circle", layer="up_blocks.1*")
    torch.testing.assert_close(some, torch.stack(maps[7:10]).mean(dim=0))


def test_steps_are_averaged_in_float32(rec):
    steps = [rec.attention("circle", step=step) for step in (0, 1)]
    assert not torch.allclose(*steps)
    torch.testing.assert_close(rec.attention("circle"), (steps[0] + steps[1]) / 2)
    assert torch.equal(rec.attention("circle", step=-1), steps[1])
    assert rec.attention("circle").dtype == torch.float32


def test_all_tokens_together_are_one(rec):
    total = sum(rec.attention(token=token) for token in range(9))
    torch.testing.assert_close(total, torch.ones(16, 24), atol=2e-3, rtol=0)


@pytest.mark.parametrize(
    ("where", "error", "message"),
    [
        (dict(word="square"), ValueError, "'square' is not in the prompt: A, circle, a, circle"),
        (dict(word="circle", occurrence=2), IndexError, "occurrence 2 is not among the 2"),
        (dict(), ValueError, "pass a word, or token="),
        (dict(word="circle", token=1), ValueError, "pass a word, or token="),
        (dict(token=9), IndexError, "9 is out of bounds"),
        (dict(word="circle", head=0), ValueError, 'attention="heads"'),
        (dict(word="circle", half="unconditional"), ValueError, "given another text: pass token="),
        (dict(token=1, half="unconditional"), ValueError, 'halves="both"'),
        (dict(word="circle", step=2), IndexError, "step 2 is not among the 2"),
        (
            dict(word="circle", layer=FIRST.replace("attn2", "atn2")),
            ValueError,
            f"no cross-attention fits .*; the closest: {FIRST}",
        ),
    ],
)
def test_errors_say_what_there_is(rec, where, error, message):
    with pytest.raises(error, match=message):
        rec.attention(**where)


def test_words_need_a_pipeline(unet):
    with record(unet) as rec:
        unet(torch.randn(1, 4, 8, 8), 1, torch.randn(1, 9, 24))
    assert rec.attention(token=5).shape == (8, 8)
    with pytest.raises(ValueError, match=r"no pipeline announced a prompt.*pass token="):
        rec.attention("circle")


def test_word_map_reads_in_rows():
    weights = torch.arange(24.0).reshape(6, 4)
    heat = word_map(weights, [(1,), (2, 3)], (2, 3))
    assert heat.tolist() == [
        [(4 * pixel * 3 + 6) / 2 for pixel in row] for row in ([0, 1, 2], [3, 4, 5])
    ]


def test_average_of_one_map_is_that_map():
    heat = torch.rand(3, 5)
    assert torch.equal(average([heat]), heat)


def test_head_mean_is_the_same_in_parts(monkeypatch):
    from unet_explained.recording import heatmaps

    q, k, mask = torch.randn(2, 3, 10, 4), torch.randn(2, 3, 7, 4), torch.randn(2, 1, 1, 7)
    whole = head_mean(q, k, mask)
    sizes = []
    real = heatmaps.attention_weights
    monkeypatch.setattr(
        heatmaps, "attention_weights", lambda q, *rest: sizes.append(q.shape[2]) or real(q, *rest)
    )
    monkeypatch.setattr(heatmaps, "AT_ONCE", 4 * 2 * 3 * 7 * 4)
    torch.testing.assert_close(head_mean(q, k, mask), whole)
    assert sizes == [4, 4, 2]
    assert whole.shape == (2, 10, 7)


def test_pointing_game():
    heat = torch.zeros(4, 4)
    heat[1, 2] = 1
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[4:8, 8:12] = True
    assert pointing_game(heat, mask)
    assert not pointing_game(heat.flip(0), mask)


def test_iou_takes_as_many_pixels_as_the_mask_has():
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[:4, :4] = True
    assert iou(mask.float(), mask) == 1
    assert iou(1 - mask.float(), mask) == 0
    half = torch.zeros(8, 8)
    half[2:6, :4] = 1
    assert iou(half, mask) == pytest.approx(8 / 24)
    with pytest.raises(ValueError, match="mask is empty"):
        iou(half, mask & ~mask)
