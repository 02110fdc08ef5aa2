"""ux.load of single files with true weights and few channels: as from a folder, offline."""

import os
import re

import compvis
import diffusers
import numpy as np
import pipelines
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from small_families import BLOCKS, SMALL, parts, single_state, text_config, theirs, write

import unet_explained as ux
from unet_explained.model import PRESETS, UNetConfig
from unet_explained.run.family import NAMES, TABLES, family_of

EXAMPLES = int(os.environ.get("UNET_EXAMPLES", "200")) // 4  # each builds a network
from_pretrained = ux.UNet2DConditionModel.from_pretrained
PREFIX = "model.diffusion_model."
LAYERS = 2  # of every level, in all families
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_network")]


@pytest.fixture
def small(monkeypatch):
    """The tables of families, with few channels: all else is as it ships."""
    for preset, config in SMALL.values():
        narrow = UNetConfig.load(preset).to_dict() | config | {"sample_size": 8}
        monkeypatch.setitem(PRESETS, preset, narrow)
    base = PRESETS["sd21"] | {"sample_size": 16}
    monkeypatch.setitem(PRESETS, "sd21-base", base)
    monkeypatch.setitem(TABLES["vaes"], "vae", TABLES["vaes"]["vae"] | BLOCKS)
    for name, table in TABLES["text_encoders"].items():
        narrow = text_config(name, **table["config"])
        monkeypatch.setitem(TABLES["text_encoders"], name, table | {"config": narrow})


@pytest.mark.parametrize("family", SMALL)
def test_a_single_file_makes_the_latents_of_diffusers_pipeline(family, small, tmp_path):
    ours = ux.load(write(family, tmp_path / "model.safetensors"), device="cpu")
    reference = theirs(family)
    assert type(ours.scheduler) is type(reference.scheduler)
    configs = [
        {option: value for option, value in pipe.scheduler.config.items() if option[0] != "_"}
        for pipe in (ours, reference)
    ]
    assert configs[0] == configs[1]
    prompt = "a photo of a naïve cat, don't"
    run = ours(prompt, steps=3, guidance=5.0)
    options = dict(prompt=prompt, num_inference_steps=3, guidance_scale=5.0)
    made = pipelines.run(reference, output_type="latent", **options)
    assert (run.latents - made).abs().max() / made.abs().max() < 1e-4
    picture = pipelines.run(reference, output_type="np", **options)[0]
    assert abs(np.asarray(run.image) / 255 - picture).max() < 0.5 / 255 + 1e-4
    assert ours.guidance == (5.0 if family == "sdxl" else 7.5)


def test_the_vae_stays_in_float32_where_its_family_asks_for_it(small, tmp_path):
    for family, kept in (("sd1", torch.bfloat16), ("sdxl", torch.float32)):
        file = write(family, tmp_path / f"{family}.safetensors")
        pipe = ux.load(file, device="cpu", dtype="bfloat16")
        assert (pipe.unet.dtype, pipe.vae.dtype) == (torch.bfloat16, kept)


def test_marks_of_velocity_and_of_zero_terminal_noise_set_the_scheduler(small, tmp_path):
    marks = {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}
    pipe = ux.load(write("sdxl", tmp_path / "model.safetensors", **marks), device="cpu")
    assert pipe.scheduler.config.prediction_type == "v_prediction"
    assert pipe.scheduler.config.rescale_betas_zero_snr
    assert pipe.guidance == 5.0


def test_the_line_of_the_docstring_says_what_stable_diffusion_2_predicts(small, tmp_path):
    pipe = ux.load(write("sd2", tmp_path / "model.safetensors"), device="cpu")
    assert pipe.scheduler.config.prediction_type == "v_prediction"
    (lines,) = re.findall(r"(?s)    (pipe\.scheduler = .*?\n        \))", ux.load.__doc__)
    exec(lines)
    assert pipe.scheduler.config.prediction_type == "epsilon"
    reference = theirs("sd2")
    reference.scheduler = pipe.scheduler.from_config(pipe.scheduler.config)
    made = pipelines.run(reference, output_type="latent", num_inference_steps=2, guidance_scale=5.0)
    run = pipe(pipelines.RED, steps=2, guidance=5.0)
    assert (run.latents - made).abs().max() / made.abs().max() < 1e-4


def same(unet, state) -> bool:
    return all(torch.equal(tensor, state[name]) for name, tensor in unet.state_dict().items())


@pytest.mark.parametrize("kept", ["whole", "bare", "diffusers"])
def test_from_pretrained_takes_the_unet_of_a_single_file_and_a_unet_alone(kept, small, tmp_path):
    file, unet = tmp_path / "model.safetensors", parts("sdxl")["unet"].state_dict()
    state = single_state("sdxl")
    if kept == "bare":
        state = {n.removeprefix(PREFIX): t for n, t in state.items() if n.startswith(PREFIX)}
    save_file(unet if kept == "diffusers" else state, file)
    assert same(from_pretrained(file), unet)
    assert from_pretrained(str(file), torch_dtype=torch.bfloat16).dtype == torch.bfloat16


def test_a_guidance_embedding_is_found_under_either_name(small, tmp_path):
    config = UNetConfig.load("sd15").to_dict() | {"time_cond_proj_dim": 8}
    unet = pipelines.sharpened(diffusers.UNet2DConditionModel.from_config(config)).state_dict()
    for name, state in (("single", compvis.unet(unet, LAYERS)), ("unet", unet)):
        save_file(state, tmp_path / f"{name}.safetensors")
        found = from_pretrained(tmp_path / f"{name}.safetensors")
        assert found.config.time_cond_proj_dim == 8
        assert same(found, unet)


def test_older_names_of_clip_are_read_too(small, tmp_path):
    """Without text_model, as files of 2022 may have them."""
    state = {name.replace(".text_model.", "."): t for name, t in single_state("sd1").items()}
    save_file(state, tmp_path / "model.safetensors")
    encoder = ux.load(tmp_path / "model.safetensors", device="cpu").text_encoder
    assert same(encoder, parts("sd1")["text_encoder"].state_dict())


UNET_NAME = f"{PREFIX}middle_block.0.in_layers.2.weight"
VAE_NAME = "first_stage_model.decoder.mid.attn_1.q.weight"
CLIP_NAME = "cond_stage_model.transformer.text_model.final_layer_norm.weight"


@pytest.mark.parametrize(
    ("name", "where"),
    [
        (UNET_NAME, r", unet: mid_block\.resnets\.0\.conv1\.weight"),
        (VAE_NAME, r", vae: decoder\.mid_block\.attentions\.0\.to_q\.weight"),
        (CLIP_NAME, r", text_encoder: .*final_layer_norm\.weight"),
    ],
)
def test_numbers_that_are_none_are_named_in_every_part(name, where, small, tmp_path):
    state = single_state("sd1")
    state[name].view(-1)[0] = float("nan")
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=rf"safetensors{where} has 1 numbers of"):
        ux.load(tmp_path / "model.safetensors", device="cpu")
    if name == UNET_NAME:
        with pytest.raises(ValueError, match="has 1 numbers of"):
            from_pretrained(tmp_path / "model.safetensors", device="cpu")
    assert ux.load(tmp_path / "model.safetensors", device="cpu", allow_nonfinite=True).unet


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (UNET_NAME, r"lacks 1 tensors of its shapes"),
        (VAE_NAME, r"lacks 1 tensors, as decoder\.mid_block\.attentions\.0\.to_q\.weight"),
        (CLIP_NAME, r"lacks 1 tensors, as (text_model\.)?final_layer_norm\.weight"),
    ],
)
def test_a_tensor_that_a_part_lacks_or_that_is_quantized_is_named(name, words, small, tmp_path):
    file, state = tmp_path / "model.safetensors", single_state("sd1")
    whole = state[name]
    save_file(state | {name: whole.to(torch.int8)}, file)
    with pytest.raises(ValueError, match=r"weight is torch\.int8, expected floating point"):
        ux.load(file, device="cpu")
    del state[name]
    save_file(state, file)
    with pytest.raises(ValueError, match=words) as refusal:
        ux.load(file, device="cpu")
    assert str(refusal.value).startswith(str(file))


SIDES = st.sampled_from(["input", "output", f"{PREFIX}input", f"{PREFIX}output"])


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    drop=st.lists(st.integers(0, 2000), max_size=30),
    put=st.dictionaries(
        st.sampled_from([*NAMES[True].values(), *NAMES[False].values()])
        | st.builds("{}_blocks.{}.0.op.weight".format, SIDES, st.integers(0, 9999)),
        st.lists(st.integers(0, 2000), max_size=4),
        max_size=4,
    ),
)  # fmt: skip
def test_mutated_names_and_shapes_are_told_or_refused(drop, put, small, tmp_path_factory):
    file = tmp_path_factory.getbasetemp() / "mutated.safetensors"
    state = compvis.unet(parts("sd1")["unet"].state_dict(), LAYERS)
    names = list(state)
    for number in drop:
        state.pop(names[number % len(names)], None)
    changed = {name: torch.empty(shape, device="meta") for name, shape in put.items()}
    compvis.sparse(file, {**state, **{n: t for n, t in changed.items() if t.numel() < 2**20}})
    try:
        family_of(file)
    except ValueError as error:
        if not str(error).startswith(str(file)):
            raise AssertionError(error) from error


@pytest.mark.parametrize("option", [dict(variant="fp16"), dict(use_safetensors=False)], ids=str)
@pytest.mark.parametrize("load", [ux.load, from_pretrained])
def test_what_chooses_among_files_is_refused_where_one_is_named(load, option, tmp_path):
    file = tmp_path / "model.safetensors"
    save_file({"conv_in.weight": torch.zeros(1)}, file)
    with pytest.raises(ValueError, match=f"{next(iter(option))}=.* is one file: leave it out"):
        load(file, **option)
