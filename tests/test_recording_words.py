"""One map a word: which tokens, layers and steps it is made of."""

import math
import re

import pytest
import torch
from recording_helpers import of_a_run

from unet_explained.model import UNet2DConditionModel
from unet_explained.recording import Text, Word, record
from unet_explained.recording.heatmaps import average, head_mean, iou, pointing_game, word_map

TEXT = Text(
    "A circle a circle",
    ("<start>", "a", "cir", "cle", "a", "circle", "<end>"),
    ((0, 0), (0, 1), (2, 5), (5, 8), (9, 10), (11, 17), (0, 0)),
    (Word("A", (1,)), Word("circle", (2, 3)), Word("a", (4,)), Word("circle", (5,))),
)
CONFIG = {
    "block_out_channels": [16, 32, 64, 64],
    "norm_num_groups": 8,
    "cross_attention_dim": 24,
    "attention_head_dim": 4,
}
MID = "mid_block.attentions.0.transformer_blocks.0.attn2"
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
    """Two steps of a run whose prompt has a word of two tokens and a repeated word."""
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(2, 4, 16, 24, generator=generator)
    prompt = 4 * torch.randn(2, 9, 24, generator=generator)
    with record(unet) as recording, of_a_run(2, text=TEXT):
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
    both = rec.attention("circle", layer=["mid_block*", "up_blocks.1*", "*.1.attentions.0*"])
    chosen = [
        name for name in rec.layers if re.match(r"mid|up_blocks\.1|.*\.1\.attentions\.0", name)
    ]
    largest = max((rec.layers[name] for name in chosen), key=math.prod)
    each = [rec.attention("circle", layer=name)[None, None] for name in chosen]
    resized = [torch.nn.functional.interpolate(one, largest, mode="bilinear")[0, 0] for one in each]
    torch.testing.assert_close(both, torch.stack(resized).mean(dim=0))


def test_steps_are_averaged_in_float32(rec):
    steps = [rec.attention("circle", step=step) for step in (0, 1)]
    assert not torch.allclose(*steps)
    torch.testing.assert_close(rec.attention("circle"), (steps[0] + steps[1]) / 2)
    assert torch.equal(rec.attention("circle", step=-1), steps[1])
    assert rec.attention("circle").dtype == torch.float32
    for several in (range(2), [0, 1], (-2, -1)):
        assert torch.equal(rec.attention("circle", step=several), rec.attention("circle"))
        layer = next(iter(rec.layers))
        assert torch.equal(rec.weights(layer, step=several), rec.weights(layer))
    assert torch.equal(rec.attention("circle", step=[1]), steps[1])
    assert torch.equal(rec.attention("circle", step=range(1, 2)), steps[1])


def test_all_tokens_together_are_one(rec):
    total = sum(rec.attention(token=token) for token in range(9))
    torch.testing.assert_close(total, torch.ones(16, 24), atol=2e-3, rtol=0)


def test_words_in_a_row_and_tokens_by_name(rec):
    tokens = [rec.attention(token=token) for token in range(7)]
    together = rec.attention("A circle", occurrence=0)
    torch.testing.assert_close(together, tokens[1] + tokens[2] + tokens[3])
    torch.testing.assert_close(rec.attention("circle  a circle"), sum(tokens[2:6]))
    assert torch.equal(rec.attention("<start>"), tokens[0])
    assert torch.equal(rec.attention("<end>"), tokens[6])
    with pytest.raises(ValueError, match="'cir' is not in the prompt"):
        rec.attention("cir")
    with pytest.raises(ValueError, match=r"'circel' is not .*; the closest: circle"):
        rec.attention("circel")


@pytest.mark.parametrize("phrase", ["<cat-toy>", "*", "red <cat-toy>", "it's"])
def test_placeholders_with_punctuation_are_found(phrase):
    text = "a red <cat-toy> and * , it's"
    pieces = ["a", "red", "<cat-toy>", "and", "*", ",", "it", "'s"]
    starts, at = [], 0
    for piece in pieces:
        at = text.index(piece, at)
        starts.append((at, at + len(piece)))
        at += len(piece)
    found = Text(text, tuple(pieces), tuple(starts), ()).find(phrase)
    wanted = {"<cat-toy>": (2,), "*": (4,), "red <cat-toy>": (1, 2), "it's": (6, 7)}[phrase]
    assert found == [wanted]


def test_the_raw_map_is_one_call(rec):
    whole = rec.weights(FIRST)
    assert (whole.shape, whole.dtype) == ((16 * 24, 9), torch.float32)
    torch.testing.assert_close(whole.sum(dim=1), torch.ones(16 * 24), atol=3e-3, rtol=0)
    for token in range(9):
        heat = rec.attention(token=token, layer=FIRST)
        torch.testing.assert_close(whole[:, token].reshape(16, 24), heat)
    assert not torch.equal(rec.weights(FIRST, step=0), rec.weights(FIRST, step=1))
    assert torch.equal(rec.weights("mid_block*"), rec.weights(MID))
    with pytest.raises(ValueError, match="choose one of the cross-attentions"):
        rec.weights("down_blocks*")
    with pytest.raises(ValueError, match='attention="heads"'):
        rec.weights(FIRST, head=0)


@pytest.mark.parametrize(
    ("where", "error", "message"),
    [
        (dict(word="square"), ValueError, "'square' is not in the prompt: A, circle, a, circle"),
        (dict(word="circle", occurrence=2), IndexError, "occurrence 2 is not among the 2"),
        (dict(), ValueError, "pass a word, or token="),
        (dict(word="circle", token=1), ValueError, "pass a word, or token="),
        (dict(token=9), IndexError, "token 9 is not among the 9"),
        (dict(word="circle", head=0), ValueError, 'attention="heads"'),
        (dict(word="circle", half="unconditional"), ValueError, 'halves="both"'),
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
    with pytest.raises(ValueError, match=r"nobody said here what the prompt is.*pass token="):
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


def test_whole_words_and_only_what_is_not_cut_off():
    text = "don't concat a cat-toy, cat red square"
    pieces = ["don", "'t", "concat", "a", "cat", "-", "toy", ",", "cat", "red"]
    places, at = [], 0
    for piece in pieces:
        at = text.index(piece, at)
        places.append((at, at + len(piece)))
        at += len(piece)
    found = Text(text, tuple(pieces), tuple(places), ())  # "square" is beyond the encoder's length
    assert found.find("cat") == [(8,)]
    assert found.find("cat-toy") == [(4, 5, 6)]
    assert found.find("don't") == [(0, 1)]
    for phrase in ("don", "t", "red square", "square", "", "  ", "c.t", "(", "conca"):
        assert found.find(phrase) == [], phrase
