"""maps_of: a picture that one has, noised, through the UNet once."""

import numpy as np
import pipelines
import pytest
import torch
from PIL import Image

import unet_explained as ux

PROMPT = "a red circle left of a blue square"
SIZE = 64, 96


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def noised(pipe, picture, t: int) -> torch.Tensor:
    """Written out again, from the pipeline's parts."""
    pixels = torch.tensor(picture).permute(2, 0, 1)[None] / 127.5 - 1
    latents = pipe.vae.encode(pixels).latent_dist.mean * pipe.vae.config.scaling_factor
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    share = pipe.scheduler.alphas_cumprod[t]
    return share.sqrt() * latents + (1 - share).sqrt() * noise


@torch.no_grad()
@pytest.mark.parametrize("kind", ["sd", "xl"])
def test_it_is_one_forward_on_the_noised_picture(kind, picture):
    pipe = pipelines.build(kind)[0]
    rec = ux.maps_of(pipe, picture, PROMPT, t=300)
    given, extra = rec.given(0), {}
    assert torch.allclose(given["sample"], noised(pipe, picture, 300), atol=1e-5)
    assert given["timestep"].tolist() == [300]
    encoded = pipe.encode_prompt(
        prompt=PROMPT, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False
    )
    assert torch.equal(given["encoder_hidden_states"], encoded[0])
    if kind == "xl":
        sizes = torch.tensor([[*SIZE, 0, 0, *SIZE]]).float()
        extra = {"text_embeds": encoded[2], "time_ids": sizes}
        assert all(torch.equal(given["added_cond_kwargs"][key], extra[key]) for key in extra)
    with ux.record(pipe.unet) as bare:
        pipe.unet(given["sample"], 300, encoded[0], added_cond_kwargs=extra)
    (tokens,) = rec.texts[0].find("circle")
    same = sum(bare.attention(token=token) for token in tokens)
    assert torch.allclose(rec.attention("circle"), same, atol=1e-6)
    assert rec.unknown == []
    assert rec.runs[0].finished
    assert ux.plot_heatmaps(picture, rec).axes


def test_this_packages_pipeline_is_told_the_same(picture, tmp_path):
    theirs = pipelines.build("xl")[0]
    theirs.save_pretrained(tmp_path)
    ours = ux.load(tmp_path, device="cpu")
    given, expected = (ux.maps_of(pipe, picture, PROMPT).given(0) for pipe in (ours, theirs))
    assert torch.allclose(given["sample"], expected["sample"], atol=1e-5)
    added, told = given["added_cond_kwargs"], expected["added_cond_kwargs"]
    assert torch.equal(added["time_ids"].float(), told["time_ids"].float())
    assert torch.allclose(added["text_embeds"], told["text_embeds"], atol=1e-5)


def test_several_timesteps_are_pictures_of_one_forward(picture):
    pipe = pipelines.build("sd")[0]
    rec = ux.maps_of(pipe, Image.fromarray(picture), PROMPT, t=(900, 100), attention="heads")
    assert rec.timesteps == [[900, 100]]
    alone = ux.maps_of(pipe, picture, PROMPT, t=900)
    both = rec.attention("square", picture=0), alone.attention("square")
    assert torch.allclose(*both, atol=1e-3)


def test_ours_and_theirs_give_the_same_maps(picture):
    theirs = pipelines.build("sd")[0]
    ours = ux.Pipeline(
        theirs.tokenizer, theirs.text_encoder, ux.from_diffusers(theirs.unet), theirs.vae,
        theirs.scheduler,
    )  # fmt: skip
    maps = [ux.maps_of(pipe, picture, PROMPT).attention("red circle") for pipe in (theirs, ours)]
    assert torch.allclose(*maps, atol=1e-5)


def test_what_does_not_fit_is_refused_before_any_forward(picture):
    pipe = pipelines.build("sd")[0]
    for wrong, message in (
        (dict(t=1000), "t=.*1000.*: expected timesteps from 0 to 999"),
        (dict(t=()), "expected timesteps"),
        (dict(image=picture[:50]), r"divisible by 8.*resize\(\(96, 48\)\)"),
        (dict(image=np.zeros((2, 64, 64, 3))), "one picture"),
    ):
        with pytest.raises(ValueError, match=message):
            ux.maps_of(pipe, prompt=PROMPT, **{"image": picture} | wrong)
    with pytest.raises(TypeError, match="one string"):
        ux.maps_of(pipe, picture, [PROMPT])
    with pytest.raises(TypeError, match="alphas_cumprod"):
        ux.maps_of(pipe.unet, picture, PROMPT)
    with pytest.raises(ValueError, match="takes 9 channels"):
        ux.maps_of(pipelines.build("inpaint")[0], picture, PROMPT)
