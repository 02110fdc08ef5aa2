"""A word's map by four tools' definitions, against each written out from single heads."""

from random import Random

import pytest
import torch

from unet_explained.bundled.draw import render
from unet_explained.bundled.world import sample_scene
from unet_explained.lessons.definitions import by_each_definition
from unet_explained.recording.heatmaps import resize
from unet_explained.run.look import maps_of

PROMPT = "a red butterfly left of a red star"


def seen(pipe, side: int):
    return maps_of(pipe, render(sample_scene(Random(0)), side), PROMPT, t=500, attention="heads")


@pytest.fixture
def rec(tiny_pipe):
    return seen(tiny_pipe, 128)


def single(rec, layer: str) -> list[torch.Tensor]:
    """The map of the second "red" in each head of a layer, alone."""
    heads = rec.runs[0].steps[0].attention[layer].shape[1]
    return [rec.attention("red", occurrence=1, layer=layer, head=h) for h in range(heads)]


def test_each_is_as_that_tool_has_it(rec):
    maps = by_each_definition(rec, "red", 1)
    assert torch.equal(maps["this package"], rec.attention("red", occurrence=1))
    assert torch.equal(maps["DAAM"], rec.attention("red", occurrence=1, method="daam"))

    sums = [resize(torch.stack(single(rec, name)).sum(dim=0), (16, 16)) for name in rec.layers]
    expected = torch.stack(sums).mean(dim=0)
    torch.testing.assert_close(maps["attention-map-diffusers"], expected, rtol=1e-3, atol=1e-4)

    large = [name for name, size in rec.layers.items() if size == (16, 16)]
    every = torch.stack([heat for name in large for heat in single(rec, name)])
    torch.testing.assert_close(maps["prompt-to-prompt"], every.mean(dim=0), rtol=1e-3, atol=1e-4)


def test_no_two_of_them_are_one(rec):
    maps = list(by_each_definition(rec, "butterfly").values())
    for i, one in enumerate(maps):
        for other in maps[:i]:
            assert one.shape != other.shape or not torch.allclose(one, other, rtol=1e-2)


def test_where_no_layer_is_16_by_16_it_says_which_there_are(tiny_pipe):
    with pytest.raises(ValueError, match=r"no layer is 16 x 16.*\(8, 8\)"):
        by_each_definition(seen(tiny_pipe, 64), "red")
