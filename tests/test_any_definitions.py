"""A word's map by DAAM's definition, and side by side with another package's capture."""

import pytest
import torch
import torch.nn.functional as F
from pipeline_cases import TRIANGLE
from pipelines import RED, UNET, build, run, unet

import unet_explained as ux

pytestmark = pytest.mark.slow  # many small runs: half a minute and more together

FOUR_LEVELS = {"block_out_channels": (16, 32, 32, 32), "attention_head_dim": [2, 2, 4, 4]}
KINDS = {
    "two levels": UNET,
    "stable diffusion's": FOUR_LEVELS
    | {
        "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    },
    "attention on every level": FOUR_LEVELS
    | {
        "down_block_types": ("CrossAttnDownBlock2D",) * 4,
        "up_block_types": ("CrossAttnUpBlock2D",) * 4,
    },
}
AGAIN = "a red triangle above a blue triangle"  # triangle: tokens 3 and 4, 8 and 9


def daam(rec, model, places: list[tuple[int, ...]], latents: int) -> torch.Tensor:
    """Tang et al. 2023, in plain loops over heads: the sum over steps, in the latents' size (64 for
    theirs), not below 0; the mean of all such maps; the mean over all tokens of the word.
    """
    words = []
    for token in (token for place in places for token in place):
        maps = []
        for layer, (height, width) in rec.layers.items():
            if layer.startswith("mid_block") or height * 8 <= latents:
                continue
            for head in range(model.get_submodule(layer).heads):
                total = torch.zeros(height, width)
                for step in range(len(rec.timesteps)):
                    weights = rec.weights(layer, step=step, head=head)
                    total += weights[:, token].view(height, width)
                large = F.interpolate(total[None, None], size=(latents, latents), mode="bicubic")
                maps.append(large[0, 0].clamp(min=0))
        words.append(torch.stack(maps).mean(dim=0))
    return torch.stack(words).mean(dim=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("prompt", "word", "places"),
    [
        (RED, "circle", [(3,)]),
        (TRIANGLE, "triangle", [(3, 4)]),
        (AGAIN, "triangle", [(3, 4), (8, 9)]),
    ],
)
def test_daams_definition(kind, prompt, word, places):
    pipe, options = build("sd")
    pipe.unet = unet(**KINDS[kind])
    with ux.record(pipe, attention="heads") as rec:
        run(pipe, prompt, **options)
    expected = daam(rec, pipe.unet, places, latents=8)
    assert expected.std() > 1e-3, "a flat map proves little"
    actual = rec.attention(word, method="daam")
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-4)


def test_daams_definition_in_the_size_of_its_authors():
    pipe, options = build("sd")
    with ux.record(pipe, attention="heads") as rec:
        run(pipe, TRIANGLE, **options | {"width": 512, "height": 512, "num_inference_steps": 1})
    expected = daam(rec, pipe.unet, [(3, 4)], latents=64)
    actual = rec.attention("triangle", method="daam")
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-4)


def test_an_unknown_definition_is_refused():
    pipe, options = build("sd")
    with ux.record(pipe) as rec:
        run(pipe, **options)
    with pytest.raises(ValueError, match=r"method='median'.*mean.*daam"):
        rec.attention("circle", method="median")


def other_package():
    """Its maps, and its capture; a test's dependency alone."""
    reason = "pip install --no-deps attention-map-diffusers"
    return pytest.importorskip("attention_map_diffusers", reason=reason)


def captured(pipe):
    options = dict(relations="image->text", timesteps="all", heads="mean", mode="exact")
    return other_package().AttentionCapture(pipe, **options)


@pytest.mark.parametrize("together", [False, True])
def test_the_maps_of_attention_map_diffusers(together):
    pipe, options = build("sd")
    plain = run(pipe, **options)
    if together:
        with captured(pipe) as theirs, ux.record(pipe, halves="both") as rec:
            output = run(pipe, **options)
    else:
        with captured(pipe) as theirs:
            run(pipe, **options)
        with ux.record(pipe, halves="both") as rec:
            output = run(pipe, **options)
    torch.testing.assert_close(output, plain, atol=1e-5, rtol=1e-5)
    steps = {time: step for step, time in enumerate(rec.timesteps)}
    records = theirs.records
    assert len(records) == len(rec.layers) * len(rec.timesteps)
    for record in records:
        layer, step = record.layer_id.removeprefix("unet."), steps[int(record.timestep)]
        for row, half in enumerate(("unconditional", "conditional")):
            mine = rec.weights(layer, step=step, half=half)
            torch.testing.assert_close(mine, record.data[row, 0], atol=2e-3, rtol=0)
