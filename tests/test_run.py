"""Running a checkpoint: the same latents as diffusers' own pipeline, and clear refusals."""

import json
import re
import shutil
import time
import warnings
from random import Random

import diffusers
import pytest
import torch

import unet_explained as ux
from unet_explained.run.denoise import Pipeline
from unet_explained.run.hub import BUNDLED
from unet_explained.run.palette import Palette
from unet_explained.run.text import embed, read_prompt

PROMPT = "a red circle left of a blue square"
SCHEDULERS = {
    "DDIMScheduler": {"clip_sample": False},
    "PNDMScheduler": {"skip_prk_steps": True},
    "EulerDiscreteScheduler": {},
    "EulerAncestralDiscreteScheduler": {},
    "DPMSolverMultistepScheduler": {"prediction_type": "v_prediction"},
    "UniPCMultistepScheduler": {},
}


def reference_latents(folder, pipe: Pipeline, **options) -> torch.Tensor:
    """The same run by diffusers' own pipeline, with its own UNet, VAE and text encoder."""
    reference = diffusers.StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    reference.scheduler = pipe.scheduler
    reference.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(options.pop("seed", 0))
    return reference(PROMPT, generator=generator, output_type="latent", **options).images


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).abs().max() / b.abs().max()).item()


@pytest.mark.parametrize("name", SCHEDULERS)
def test_latents_equal_those_of_diffusers(tiny_folder, tiny_pipe, name):
    tiny_pipe.scheduler = getattr(diffusers, name)(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", **SCHEDULERS[name]
    )
    ours = tiny_pipe(PROMPT, steps=4, guidance=5.0, seed=3, negative_prompt="green")
    reference = reference_latents(
        tiny_folder, tiny_pipe, num_inference_steps=4, guidance_scale=5.0, seed=3,
        negative_prompt="green",
    )  # fmt: skip
    assert relative(ours.latents, reference) < 1e-5


def test_without_guidance_and_not_square(tiny_folder, tiny_pipe):
    options = {"height": 48, "width": 96}
    ours = tiny_pipe(PROMPT, steps=3, guidance=1.0, **options)
    assert ours.image.size == (96, 48)
    assert ours.recording.given(0)["sample"].shape == (1, 4, 6, 12)
    reference = reference_latents(
        tiny_folder, tiny_pipe, num_inference_steps=3, guidance_scale=1.0, **options
    )
    assert relative(ours.latents, reference) < 1e-5


def test_a_guidance_distilled_unet_is_told_its_guidance(tiny_folder, tiny_pipe, tiny_config):
    reference = diffusers.UNet2DConditionModel(sample_size=8, time_cond_proj_dim=32, **tiny_config)
    tiny_pipe.unet = ux.UNet2DConditionModel.from_config(dict(reference.config))
    tiny_pipe.unet.load_state_dict(reference.state_dict())
    ours = tiny_pipe(PROMPT, steps=2, guidance=8.5)
    stock = diffusers.StableDiffusionPipeline.from_pretrained(tiny_folder, safety_checker=None)
    stock.unet, stock.scheduler = reference.eval(), tiny_pipe.scheduler
    stock.set_progress_bar_config(disable=True)
    theirs = stock(
        PROMPT, num_inference_steps=2, guidance_scale=8.5, output_type="latent",
        generator=torch.Generator().manual_seed(0),
    ).images  # fmt: skip
    assert relative(ours.latents, theirs) < 1e-5


def test_start_latents_replace_the_seed(tiny_pipe):
    start = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    given = tiny_pipe(PROMPT, steps=2, seed=0, latents=start)
    assert torch.equal(given.latents, tiny_pipe(PROMPT, steps=2, seed=5).latents)


def test_the_last_preview_is_the_picture(tiny_pipe):
    *_, last = tiny_pipe.denoise(PROMPT, steps=3)
    run = tiny_pipe(PROMPT, steps=3)
    assert torch.allclose(last.denoised, run.latents, atol=1e-4)


def test_a_glimpse_has_the_pictures_colours_and_is_none_where_they_are_not_known(tiny_pipe):
    *_, last = tiny_pipe.denoise("a red circle", steps=1)
    assert last.glimpse().shape == (8, 8, 3)
    factors = torch.tensor([[0.298, 0.207, 0.208], [0.187, 0.286, 0.173]])  # of SD, the first two
    first = tiny_pipe.glimpse(torch.eye(4)[:2].T[None, :, None])[0]
    assert torch.equal(torch.tensor(first), ((factors + 1) * 127.5).round().byte())
    tiny_pipe.latent_rgb = None
    assert last.glimpse() is None


def test_a_glimpse_of_the_bundled_model_is_nearly_its_picture():
    from training.autoencoder import to_tensor
    from unet_explained.bundled.draw import render
    from unet_explained.bundled.world import sample_scene

    pipe, picture = ux.load(), render(sample_scene(Random(1)), 256)
    with torch.no_grad():
        latents = pipe.vae.encode(to_tensor([picture])).latent_dist.mean
    rough = pipe.glimpse(latents * pipe.vae.config.scaling_factor).astype(float)
    small = picture.reshape(32, 8, 32, 8, 3).mean(axis=(1, 3))
    assert abs(rough - small).mean() < 8  # of 255


def test_runs_do_not_disturb_each_other(tiny_pipe):
    alone = tiny_pipe(PROMPT, steps=3).latents
    first, second = tiny_pipe.denoise(PROMPT, steps=3), tiny_pipe.denoise(PROMPT, steps=3)
    for a, b in zip(first, second):
        assert torch.equal(a.latents, b.latents)
    assert torch.equal(a.latents, alone)


def test_a_replay_sees_what_the_run_saw(tiny_pipe):
    with ux.record(tiny_pipe.unet, "conv_out") as rec:
        run = tiny_pipe(PROMPT, steps=3)
    again = run.replay(2, "conv_out")
    assert torch.equal(again["conv_out"][0], rec["conv_out"][2])
    assert torch.equal(again.attention("square"), rec.attention("square", step=2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps"),
        ({"height": 50}, "multiple of 8"),
        ({"latents": torch.zeros(1, 3, 8, 8)}, "latents"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_work(tiny_pipe, options, message):
    with pytest.raises(ValueError, match=message):
        tiny_pipe.denoise(PROMPT, **options)


def test_a_list_of_prompts_is_refused(tiny_pipe):
    with pytest.raises(TypeError, match="one string"):
        tiny_pipe([PROMPT])


def test_words_know_their_tokens(tiny_pipe):
    prompt = read_prompt("A triangle, left of a triangle!", tiny_pipe.tokenizer)
    assert prompt.words == ("A", "triangle", "left", "of", "a", "triangle")
    assert prompt.spans[1].tokens == (2, 3)  # tri + angle
    assert prompt.tokens[prompt.spans[2].tokens[0]] == "left</w>"
    covered = [i for word in prompt.spans for i in word.tokens]
    assert len(covered) == len(set(covered))
    assert 0 not in covered
    assert len(prompt.tokens) - 1 not in covered


def test_a_prompt_too_long_names_what_is_cut_off(tiny_pipe):
    with pytest.warns(UserWarning, match="blue square"):
        prompt = read_prompt("a red circle " * 25 + "and a blue square", tiny_pipe.tokenizer)
    assert len(prompt.tokens) == 77
    assert "square" not in prompt.words


PALETTE = Palette(
    ("circle", "cat"), ("red", "black"), ("pink",), ("big",), others=("a", "and", "at", "on")
)


@pytest.mark.parametrize(
    ("prompt", "notes"),
    [
        ("a red circel", ["no thing", "'circel'.* the nearest thing: circle$"]),
        ("a cat at a hat", ["'hat'.* the nearest thing: cat$"]),  # never a word that is no thing
        ("a red quokka", ["no thing.*: circle, cat$", "'quokka'.* this word$"]),  # listed once
        ("a red quokka and a cat", ["'quokka'.*it paints circle, cat$"]),
        ("two red circle", ["'two'.*never shown a number"]),
        ("3 red circle", ["'3'.*never shown a number"]),
        ("a pink circle", ["'pink' is a colour of the ground; things are red, black$"]),
        ("a pink big circle", ["'pink' is a colour of the ground"]),
        ("a circle on a black ground", ["'ground'.*", "'black' is a colour of things; .* pink$"]),
        ("a big red circle on a pink", []),
    ],
)
def test_of_a_small_world_it_is_said_what_is_not_in_it(tiny_pipe, prompt, notes):
    tiny_pipe.palette = PALETTE
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        tiny_pipe.denoise(prompt)
    said = [str(warning.message) for warning in said]
    assert len(said) == len(notes), said
    for one, note in zip(said, notes):
        assert re.search(note, one), said


def test_bfloat16_on_the_cpu_runs_and_float16_is_refused(tiny_folder):
    pipe = ux.load(tiny_folder, device="cpu", dtype="bfloat16")
    assert pipe(PROMPT, steps=2).latents.isfinite().all()
    with pytest.raises(ValueError, match="bfloat16"):
        ux.load(tiny_folder, device="cpu", dtype="float16")


def test_the_layout_is_channels_last(tiny_pipe):
    assert tiny_pipe.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("form", ["fp16 variant", "sharded", "bin"])
def test_other_forms_of_weights_load(tiny_folder, tmp_path, form):
    stock = diffusers.StableDiffusionPipeline.from_pretrained(tiny_folder, safety_checker=None)
    if form == "fp16 variant":
        stock.to(torch.float16).save_pretrained(tmp_path, variant="fp16")
        assert not (tmp_path / "unet/diffusion_pytorch_model.safetensors").exists()
    else:
        stock.save_pretrained(tmp_path)
        shutil.rmtree(tmp_path / "unet")
        options = {"sharded": {"max_shard_size": "200KB"}, "bin": {"safe_serialization": False}}
        stock.unet.save_pretrained(tmp_path / "unet", **options[form])
    pipe = ux.load(tmp_path, device="cpu")
    assert pipe.unet.dtype == torch.float32
    original = stock.unet.float().state_dict()
    loaded = pipe.unet.state_dict()
    assert loaded.keys() == original.keys()
    assert all(torch.equal(loaded[name], original[name]) for name in original)


def test_a_preset_is_no_checkpoint():
    with pytest.raises(ValueError, match="stable-diffusion-v1-5/stable-diffusion-v1-5"):
        ux.load("sd15")


def test_a_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match=r"missing\.safetensors"):
        ux.load("./missing.safetensors")


def test_a_hub_id_without_a_network_says_so_soon(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", "http://127.0.0.1:9")
    start = time.perf_counter()
    with pytest.raises(FileNotFoundError, match="nobody/nothing"):
        ux.load("nobody/nothing", device="cpu")
    assert time.perf_counter() - start < 2


def test_a_pipeline_of_another_kind_is_refused(tiny_folder, tmp_path):
    shutil.copytree(tiny_folder, tmp_path / "xl")
    index = json.loads((tmp_path / "xl/model_index.json").read_text())
    index["text_encoder_2"] = ["transformers", "CLIPTextModelWithProjection"]
    (tmp_path / "xl/model_index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="two text encoders"):
        ux.load(tmp_path / "xl", device="cpu")


def test_a_damaged_file_is_found(tiny_folder, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(tiny_folder, folder)
    (folder / "SHA256SUMS").write_text("0" * 64 + "  model_index.json\n")
    with pytest.raises(ValueError, match=r"model_index\.json is damaged"):
        ux.load(folder, device="cpu")


def test_weights_that_do_not_fit_the_config_are_refused(tiny_folder, tmp_path):
    shutil.copytree(tiny_folder / "unet", tmp_path / "unet")
    config = json.loads((tmp_path / "unet/config.json").read_text())
    (tmp_path / "unet/config.json").write_text(json.dumps(config | {"mid_block_type": None}))
    with pytest.raises(ValueError, match="has too much"):
        ux.UNet2DConditionModel.from_pretrained(tmp_path / "unet")


def test_the_bundled_model_gives_stock_diffusers_the_same_latents():
    pipe = ux.load(device="cpu")
    ours = pipe(PROMPT, steps=2)
    reference = reference_latents(
        BUNDLED, pipe, num_inference_steps=2, guidance_scale=pipe.guidance
    )
    assert relative(ours.latents, reference) < 1e-5


@torch.no_grad()
def test_words_are_read_from_the_half_that_was_given_the_prompt(tiny_pipe):
    for name, weight in tiny_pipe.unet.named_parameters():
        if "attn2.to_q" in name or "attn2.to_k" in name:
            weight.mul_(5)  # the maps of a fresh random network are nearly flat
    run = tiny_pipe(PROMPT, steps=2, negative_prompt="a green fish")
    (token,) = run.prompt.spans[2].tokens
    seen, given = run.replay(1).attention("circle"), run.recording.given(1)
    sample, timestep, context = given["sample"], given["timestep"], given["encoder_hidden_states"]
    prompted = embed(run.prompt, tiny_pipe.text_encoder)
    with ux.record(tiny_pipe.unet) as alone:
        tiny_pipe.unet(sample[:1], timestep, prompted)
    with ux.record(tiny_pipe.unet) as other:
        tiny_pipe.unet(sample[:1], timestep, context[:1])
    near = (seen - alone.attention(token=token)).abs().max()
    far = (seen - other.attention(token=token)).abs().max()
    assert near < 0.1 * far
