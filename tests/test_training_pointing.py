"""Attention taught to point: which tokens speak of a thing, and what it costs to look elsewhere."""

from random import Random

import pytest
import torch

from training.diffusion import fewer_keys
from training.models import build_unet
from training.pointing import PointingLoss, place_loss, word_loss, word_tokens
from training.tokenizer import build_tokenizer
from unet_explained.bundled.captions import describe, mentioned
from unet_explained.bundled.world import Scene, Thing


def test_words_are_found_among_the_tokens():
    things = (Thing("triangle", "red", "large", 0.25, 0.5, 0.2),
              Thing("circle", "red", "large", 0.75, 0.5, 0.2))  # fmt: skip
    caption = describe(Scene("pink", things), Random(3))
    tokenizer = build_tokenizer()
    (told,) = word_tokens([caption], tokenizer)
    tokens = tokenizer.convert_ids_to_tokens(tokenizer(caption.text).input_ids)
    read = [
        ["".join(tokens[i] for i in told[role, thing].nonzero().flatten()) for role in range(2)]
        for thing in range(3)
    ]
    assert [[word.replace("</w>", "") for word in pair] for pair in read] == [
        ["red", "triangle"],
        ["red", caption.nouns[1]],
        ["", ""],
    ]
    assert not (told[:, 0] * told[:, 1]).any(), "the two reds are different tokens"
    padding = told[2, :, len(tokens) :]
    assert padding[:2].sum() == pytest.approx(padding.shape[1] * 2 / 3, abs=1)
    assert not told[2, :, : len(tokens)].any()


def test_the_padding_tells_of_the_things_in_the_order_of_the_caption():
    tokenizer, orders = build_tokenizer(), set()
    things = (Thing("star", "red", "large", 0.25, 0.5, 0.2),
              Thing("circle", "blue", "large", 0.75, 0.5, 0.2))  # fmt: skip
    for seed in range(6):
        caption = describe(Scene("pink", things), Random(seed))
        order = mentioned(caption)
        orders.add(tuple(order))
        (told,) = word_tokens([caption], tokenizer)
        for slot, thing in enumerate(order):
            assert set((told[2, thing].nonzero() % 3).flatten().tolist()) == {slot}
    assert orders == {(0, 1), (1, 0)}


def test_attention_on_the_right_words_costs_less():
    """Queries and keys made by hand: pixels of the thing look at its words, or at others."""
    words = torch.zeros(1, 3, 3, 77)
    words[0, 0, 0, 4] = words[0, 1, 0, 5] = words[0, 2, 0, 20] = 1
    masks = torch.zeros(1, 3, 4, 4)
    masks[0, 0, :2] = 1

    def cost(pixels: torch.Tensor, tokens: list[int], shown: float = 1.0) -> float:
        q = torch.zeros(1, 2, 16, 8)
        q[:, :, pixels.flatten().bool(), 0] = 8.0
        q[:, :, ~pixels.flatten().bool(), 1] = 8.0
        k = torch.zeros(1, 2, 77, 8)
        k[:, :, tokens, 0] = 8.0
        k[:, :, 0, 1] = 8.0  # everything else looks at the start token
        return word_loss(q, k, words, masks, torch.tensor([shown])).item()

    right = cost(masks[0, 0], [4, 5])
    assert right == pytest.approx(0.69, abs=0.01)  # log 2: half of each word is all there is
    assert cost(1 - masks[0, 0], [4, 5]) > right + 3
    assert cost(masks[0, 0], [7, 8]) > right + 3
    assert cost(masks[0, 0], [20], shown=0) < 0.1, "lost in noise: the padding tells of it"
    assert cost(masks[0, 0], [4, 5], shown=0) > 3


def test_a_place_is_the_middle_of_its_pixel():
    right = torch.tensor([[[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5], [0.5, 0.5]]])
    assert place_loss(right) == 0
    assert place_loss(right.flip(2)) == pytest.approx(0.5)


def test_training_watches_the_taught_layers_and_thins_the_keys_of_large_pictures():
    unet = build_unet(0)
    keys = []
    attend = unet.down_blocks[0].attentions[0].transformer_blocks[0].attn1.attend
    attend.register_forward_hook(lambda _, inputs, output: keys.append(inputs[1].shape[2]))
    inputs = torch.randn(1, 4, 32, 32), torch.tensor(5), torch.randn(1, 77, 96)
    pointing = PointingLoss(unet)
    with torch.no_grad(), pointing.watching() as seen, fewer_keys(unet):
        unet(*inputs)
    with torch.no_grad():
        unet(*inputs)
        with fewer_keys(unet):
            for side in (8, 64):
                unet(torch.randn(1, 4, side, side), *inputs[1:])
    assert [(h.shape[1], q.shape[2], k.shape[2]) for h, q, k in seen] == [
        *[(64, 64, 77)] * 3,
        *[(256, 256, 77)] * 3,
    ]
    assert keys[:2] == [128, 1024], "and every key is back afterwards"
    assert keys[2:] == [64, 512], "all of few, an eighth of many"
    loss = pointing(seen, torch.zeros(1, 3, 3, 77), torch.zeros(1, 3, 32, 32), torch.ones(1))
    assert loss.isfinite()
