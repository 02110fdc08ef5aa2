"""ux.load: the latents of diffusers' own pipelines, of each family that it runs."""

import copy
import warnings
from functools import cache

import diffusers
import numpy as np
import pipelines
import pytest
import torch
from pipelines import FISH, RED

import unet_explained as ux

SCHEDULERS = {
    "DDIMScheduler": {"clip_sample": False},
    "DDPMScheduler": {"clip_sample": False},
    "PNDMScheduler": {"skip_prk_steps": True},
    "EulerDiscreteScheduler": {"timestep_spacing": "trailing"},
    "EulerAncestralDiscreteScheduler": {"timestep_spacing": "trailing"},
    "DPMSolverMultistepScheduler": {"use_karras_sigmas": True},
    "UniPCMultistepScheduler": {},
    "HeunDiscreteScheduler": {},
    "DEISMultistepScheduler": {},
    "LCMScheduler": {},
    "TCDScheduler": {},
}
FAMILIES = {
    "sd": ("sd", "epsilon", {}),
    "sd2-v": ("sd", "v_prediction", {}),
    "turbo": ("sd", "epsilon", {"guidance": 0.0}),
    "lcm": ("lcm", "epsilon", {}),
    "xl": ("xl", "epsilon", {}),
    "xl-turbo": ("xl", "epsilon", {"guidance": 0.0}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A function: the folder of a tiny pipeline, as diffusers saves it."""

    @cache
    def saved(kind: str):
        pipe = pipelines.build(kind)[0]
        if kind == "xl":  # SDXL's second tokenizer pads with another token, id 0
            pipe.tokenizer_2 = copy.deepcopy(pipe.tokenizer_2)
            pipe.tokenizer_2.pad_token = pipe.tokenizer_2.convert_ids_to_tokens(0)
        where = tmp_path_factory.mktemp(kind) / "pipeline"
        pipe.save_pretrained(where)
        return where

    return saved


@pytest.fixture(scope="module")
def both(folder):
    """A function: a folder as this package loads it and as diffusers does."""

    @cache
    def loaded(kind: str):
        theirs = diffusers.DiffusionPipeline.from_pretrained(folder(kind))
        if kind == "lcm":  # its own pipeline runs two schedulers alone, this one all
            theirs = diffusers.StableDiffusionPipeline(
                **theirs.components, requires_safety_checker=False
            )
        theirs.set_progress_bar_config(disable=True)
        # In the other layout the last digits differ, and steps make more of them.
        theirs.unet.to(memory_format=torch.channels_last)
        return ux.load(folder(kind), device="cpu"), theirs

    return loaded


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).abs().max() / b.abs().max()).item()


def given_to_theirs(steps: int, guidance: float, **options) -> dict:
    return dict(num_inference_steps=steps, guidance_scale=guidance, **options)


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("family", FAMILIES)
def test_latents_equal_those_of_diffusers(both, family, name):
    kind, prediction, options = FAMILIES[family]
    ours, theirs = both(kind)
    config = SCHEDULERS[name] | {"prediction_type": prediction}
    ours.scheduler, theirs.scheduler = (pipelines.scheduler(name, **config) for _ in range(2))
    options = dict(steps=4, guidance=options.get("guidance", 5.0))
    run = ours(RED, **options)
    made = pipelines.run(theirs, output_type="latent", **given_to_theirs(**options))
    assert distance(run.latents, made) < 1e-4


def test_latents_equal_those_of_lcms_own_pipeline(folder):
    theirs = diffusers.DiffusionPipeline.from_pretrained(folder("lcm"))
    assert type(theirs) is diffusers.LatentConsistencyModelPipeline
    ours = ux.load(folder("lcm"), device="cpu")
    made = pipelines.run(theirs, output_type="latent")  # at its defaults
    assert distance(ours(RED).latents, made) < 1e-4


@pytest.mark.parametrize("zeros", [True, False])
@pytest.mark.parametrize("negative", ["", FISH])
def test_sdxl_with_a_negative_prompt_and_not_square(both, zeros, negative):
    ours, theirs = both("xl")
    ours.zeros_for_empty = zeros
    theirs.register_to_config(force_zeros_for_empty_prompt=zeros)
    size = {"height": 64, "width": 96}
    run = ours(RED, steps=2, guidance=4.0, negative_prompt=negative, **size)
    made = pipelines.run(
        theirs, output_type="latent", negative_prompt=negative or None,
        **given_to_theirs(2, 4.0, **size),
    )  # fmt: skip
    ours.zeros_for_empty = True
    theirs.register_to_config(force_zeros_for_empty_prompt=True)
    assert distance(run.latents, made) < 1e-4
    assert (
        run.recording.given(0)["added_cond_kwargs"]["time_ids"].tolist()
        == [[64, 96, 0, 0, 64, 96]] * 2
    )


def test_sdxl_is_recorded_as_diffusers_own_pipeline_is(both, tmp_path):
    ours, theirs = both("xl")
    ours.scheduler, theirs.scheduler = pipelines.ddim(), pipelines.ddim()
    with ux.record(ours) as rec:
        run = ours(RED, steps=2, guidance=5.0)
    with ux.record(theirs) as other:
        pipelines.run(theirs, output_type="latent", **given_to_theirs(2, 5.0))
    assert rec.unknown == other.unknown == []
    assert [text.text for text in rec.texts] == [text.text for text in other.texts]
    for word in run.prompt.words:
        assert torch.allclose(rec.attention(word), other.attention(word), atol=1e-4)
    again = run.replay(1).attention("circle")
    assert torch.allclose(again, rec.attention("circle", step=1), atol=1e-3)
    rec.save(tmp_path / "record")
    loaded = ux.Recording.load(tmp_path / "record")
    assert torch.allclose(loaded.attention("square"), rec.attention("square"))
    assert ux.plot_heatmaps(run, rec).axes


@pytest.mark.parametrize("kind", ["sd", "xl"])
def test_maps_of_are_those_of_diffusers_pipeline(both, kind):
    picture = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    found = [ux.maps_of(pipe, picture, RED, t=300) for pipe in both(kind)]
    for word in ("circle", "blue square"):
        assert torch.allclose(*(rec.attention(word) for rec in found), atol=1e-4)


def test_the_vae_stays_in_float32_where_its_file_says_so(folder):
    assert ux.load(folder("xl"), device="cpu", dtype="bfloat16").vae.dtype == torch.float32
    assert ux.load(device="cpu", dtype="bfloat16").vae.dtype == torch.bfloat16  # says false


def test_mean_and_deviation_of_latents_are_heeded(folder):
    pair = (
        ux.load(folder("xl"), device="cpu"),
        diffusers.DiffusionPipeline.from_pretrained(folder("xl")),
    )
    for pipe in pair:
        pipe.vae.register_to_config(latents_mean=[1.0, -2, 3, 0.5], latents_std=[2.0, 4, 0.5, 1])
    ours, theirs = pair
    made = pipelines.run(theirs, output_type="np", **given_to_theirs(2, 5.0))
    picture = np.asarray(ours(RED, steps=2, guidance=5.0).image) / 255
    assert abs(picture - made[0]).max() < 0.5 / 255 + 1e-4
    maps = [ux.maps_of(pipe, picture, RED) for pipe in pair]
    back = ours.vae.encode(torch.tensor(picture).permute(2, 0, 1)[None].float() * 2 - 1)
    mean, std = torch.tensor([1.0, -2, 3, 0.5]), torch.tensor([2.0, 4, 0.5, 1])
    clean = (back.latent_dist.mean - mean[:, None, None]) / std[:, None, None]
    clean = clean * ours.vae.config.scaling_factor
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    share = ours.scheduler.alphas_cumprod[500]
    for rec in maps:
        expected = share.sqrt() * clean + (1 - share).sqrt() * noise
        assert torch.allclose(rec.given(0)["sample"], expected, atol=1e-4)


PREVIEWED = (
    "DDIM",
    "EulerDiscrete",
    "DPMSolverMultistep",
    "UniPCMultistep",
    "DEISMultistep",
    "TCD",
)


@pytest.mark.parametrize("name", PREVIEWED)
def test_a_preview_of_a_clean_picture_is_what_was_predicted(both, name):
    ours, _ = both("sd")
    config = {"clip_sample": False} if name == "DDIM" else {}
    ours.scheduler = pipelines.scheduler(f"{name}Scheduler", prediction_type="sample", **config)
    with ux.record(ours.unet, "conv_out", attention=None) as rec:
        steps = list(ours.denoise(RED, steps=3, guidance=5.0))
    for step, (without, prompted) in zip(steps, rec["conv_out"], strict=True):
        assert torch.allclose(step.denoised[0], without + 5 * (prompted - without), atol=1e-5)


@pytest.mark.parametrize("name", ["EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"])
def test_karras_sigmas_run_and_their_last_preview_is_the_picture(both, name):
    ours, theirs = both("xl")
    ours.scheduler, theirs.scheduler = (getattr(diffusers, name)() for _ in range(2))
    *_, last = ours.denoise(RED, steps=3, guidance=5.0)
    made = pipelines.run(theirs, output_type="latent", **given_to_theirs(3, 5.0))
    assert distance(last.latents, made) < 1e-4
    assert distance(last.denoised, made) < 1e-4


@pytest.mark.parametrize(
    ("scheduler", "steps", "message"),
    [
        (lambda: diffusers.IPNDMScheduler(), 4, "IPNDMScheduler: expected a scheduler of noise"),
        (lambda: diffusers.FlowMatchEulerDiscreteScheduler(), 4, "FlowMatchEuler.*: expected"),
        (lambda: pipelines.scheduler("PNDMScheduler", prediction_type="sample"), 4, "PNDM.*sample"),
        (lambda: pipelines.scheduler("LCMScheduler"), 60, "LCMScheduler does not make 60 steps"),
    ],
)
def test_a_scheduler_that_cannot_is_refused_by_name_before_any_work(
    both, scheduler, steps, message
):
    ours, _ = both("sd")
    ours.scheduler = scheduler()
    with pytest.raises(ValueError, match=message):
        ours.denoise(RED, steps=steps)


def test_a_negative_prompt_without_guidance_is_said_to_change_nothing(both):
    ours, _ = both("lcm")
    with pytest.warns(UserWarning, match="'a green fish' changes nothing"):
        ours.denoise(RED, negative_prompt=FISH)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours.denoise(RED)
