"""Which picture of the batch a map belongs to."""

import pytest
import torch
from recording_helpers import Reference, first_layer, of_a_run

from unet_explained.recording import Identity, Origin, Row, identified, record


@pytest.fixture
def unet(sharp_unet):
    return sharp_unet


def test_both_halves(unet, inputs):
    reference = Reference(unet)
    with (
        record(unet, halves="both") as rec,
        record(unet) as conditional,
        of_a_run(conditional=slice(0, 1)),
    ):
        unet(*inputs)
    layer, size = first_layer(rec)
    for row, half in enumerate(("conditional", "unconditional")):
        heat = rec.attention(token=3, layer=layer, half=half)
        expected = reference.weights(layer)[row, :, :, 3].mean(dim=0).reshape(size)
        torch.testing.assert_close(heat.double(), expected, atol=1e-3, rtol=0)
    assert torch.equal(rec.attention(token=3), conditional.attention(token=3))
    with pytest.raises(ValueError, match='halves="both"'):
        conditional.attention(token=3, half="unconditional")
    with pytest.raises(ValueError, match="half='left'"):
        rec.attention(token=3, half="left")


def test_both_halves_without_guidance(unet, inputs):
    with record(unet, halves="both") as rec, of_a_run(conditional=slice(0, 2)):
        unet(*inputs)
    assert rec.attention(token=3, picture=1).shape == (16, 24)
    with pytest.raises(ValueError, match="guidance was off"):
        rec.attention(token=3, half="unconditional")


def test_without_a_pipeline_pictures_are_the_rows_of_the_batch(unet, inputs):
    reference = Reference(unet)
    with record(unet) as rec:
        unet(*inputs)
    layer, size = first_layer(rec)
    for picture in range(2):
        heat = rec.attention(token=3, layer=layer, picture=picture)
        expected = reference.weights(layer)[picture, :, :, 3].mean(dim=0).reshape(size)
        torch.testing.assert_close(heat.double(), expected, atol=1e-3, rtol=0)
    with pytest.raises(ValueError, match="2 pictures were kept: pass picture=0 to 1"):
        rec.attention(token=3)
    with pytest.raises(IndexError, match="picture 2"):
        rec.attention(token=3, picture=2)
    with pytest.raises(ValueError, match="nobody said which half"):
        rec.attention(token=3, half="unconditional")


def test_several_conditional_pictures(unet, inputs):
    batch = [torch.cat([inputs[0], -inputs[0]]), 7, torch.cat([inputs[2], inputs[2]])]
    reference = Reference(unet)
    with (
        record(unet, halves="both") as both,
        record(unet) as rec,
        of_a_run(conditional=slice(2, 4), batch=4),
    ):
        unet(*batch)
    layer, size = first_layer(rec)
    for one in (rec, both):
        heat = one.attention(token=3, layer=layer, picture=1)
        expected = reference.weights(layer)[3, :, :, 3].mean(dim=0).reshape(size)
        torch.testing.assert_close(heat.double(), expected, atol=1e-3, rtol=0)


def rows(*pairs):
    return tuple(Row(None, picture, role) for picture, role in pairs)


@pytest.mark.parametrize("attention", ["mean", "sum"])
def test_guidance_that_goes_off_on_the_way(unet, inputs, attention):
    origin, (latents, t, text) = Origin(2), inputs
    with record(unet, halves="both", attention=attention) as rec:
        with identified(Identity(origin, rows((0, "unconditional"), (0, "conditional")))):
            unet(*inputs)
        with identified(Identity(origin, rows((0, "conditional")))):
            unet(latents[1:] + 1, t, text[1:])
    with record(unet) as first, of_a_run(1):
        unet(*inputs)
    with record(unet, halves="both") as both, of_a_run(1):
        unet(*inputs)
    with record(unet) as second, of_a_run(1, slice(0, 1), 1):
        unet(latents[1:] + 1, t, text[1:])
    mean = (first.attention(token=3) + second.attention(token=3)) / 2
    close = dict(atol=1e-3, rtol=0)
    torch.testing.assert_close(rec.attention(token=3), mean, **close)
    without = both.attention(token=3, half="unconditional")
    torch.testing.assert_close(rec.attention(token=3, half="unconditional"), without, **close)


def test_halves_as_forwards_of_their_own(unet, inputs):
    origin, (latents, t, text) = Origin(2), inputs
    with record(unet, halves="both") as rec, record(unet) as prompts:
        for row, role in enumerate(("unconditional", "conditional")):
            with identified(Identity(origin, rows((0, role)))):
                unet(latents[row : row + 1], t, text[row : row + 1])
    for row, half in enumerate(("unconditional", "conditional")):
        with record(unet) as alone:
            unet(latents[row : row + 1], t, text[row : row + 1])
        assert torch.equal(rec.attention(token=3, half=half), alone.attention(token=3))
    assert torch.equal(prompts.attention(token=3), rec.attention(token=3))


def test_a_picture_goes_by_its_number(unet, inputs):
    origin = Origin(2)
    with record(unet) as rec:
        for pictures in ((1, 0), (3, 2)):
            batch = rows(*((picture, "conditional") for picture in pictures))
            with identified(Identity(origin, batch)):
                unet(inputs[0] + pictures[0], *inputs[1:])
    for step, pictures in enumerate(((1, 0), (3, 2))):
        for row, picture in enumerate(pictures):
            with record(unet) as alone:
                unet(inputs[0] + pictures[0], *inputs[1:])
            heat = rec.attention(token=3, picture=picture)
            assert torch.equal(heat, alone.attention(token=3, picture=row)), (step, picture)
    with pytest.raises(IndexError, match="picture 4 is not among"):
        rec.attention(token=3, picture=4)
    with pytest.raises(ValueError, match="2 pictures were kept"):
        rec.attention(token=3)
