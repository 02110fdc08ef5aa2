"""Which pipelines ux.load runs, told before weights are read; and their own guidance and steps."""

import json
import re
import shutil
from pathlib import Path

import diffusers
import numpy as np
import pipelines
import pytest
import torch
from PIL import Image

import unet_explained as ux


def saved(kind: str, where: Path, scheduler=None) -> Path:
    pipe = pipelines.build(kind)[0]
    if scheduler is not None:
        pipe.scheduler = scheduler
    pipe.save_pretrained(where)
    return where


def changed(file: Path, **values) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


REFUSED = {
    "inpaint": "StableDiffusionInpaintPipeline",
    "pix2pix": "StableDiffusionInstructPix2PixPipeline",
    "depth": "StableDiffusionDepth2ImgPipeline",
    "upscale": "StableDiffusionUpscalePipeline",
    "controlnet": "StableDiffusionControlNetPipeline",
    "xl_controlnet": "StableDiffusionXLControlNetPipeline",
    "pag": "StableDiffusionPAGPipeline",
    "refiner": "StableDiffusionXLImg2ImgPipeline",
}


@pytest.mark.parametrize("kind", REFUSED)
def test_another_kind_is_refused_by_name_before_weights_are_read(kind, tmp_path):
    folder = saved(kind, tmp_path / "pipeline")
    for file in folder.rglob("*.safetensors"):
        file.write_bytes(b"read")
    with pytest.raises(
        ValueError, match=f"a {REFUSED[kind]}, and ux.load runs only Stable"
    ) as info:
        ux.load(folder, device="cpu")
    assert f"from_pretrained({str(folder)!r})" in str(info.value)


@pytest.mark.parametrize("kind", ["inpaint", "pix2pix", "upscale", "controlnet", "pag", "refiner"])
def test_the_lines_of_a_refusal_run_it_and_record_its_words(kind, tmp_path):
    with pytest.raises(ValueError, match="recorded all the same") as info:
        ux.load(saved(kind, tmp_path / "pipeline"), device="cpu")
    lines = "\n".join(re.findall(r"^    (.*)", str(info.value), re.MULTILINE))
    size = 8 if kind == "upscale" else 64
    picture = Image.fromarray(np.full((size, size, 3), 200, np.uint8))
    mask = Image.fromarray(np.full((64, 64), 255, np.uint8))
    names = dict(diffusers=diffusers, ux=ux, picture=picture, mask=mask, prompt=pipelines.RED)
    exec(re.sub(r"\)$", ", num_inference_steps=4)", lines), names)
    assert names["rec"].attention("circle").isfinite().all()


def test_what_has_no_such_unet_is_not_said_to_be_recorded(tmp_path):
    index = {"_class_name": "FluxPipeline", "transformer": ["diffusers", "FluxTransformer2DModel"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"FluxPipeline.*no UNet2DConditionModel") as info:
        ux.load(tmp_path, device="cpu")
    assert "ux.record" not in str(info.value)


def test_a_unet_alone_is_no_pipeline(tmp_path):
    pipelines.unet().save_pretrained(tmp_path / "unet")
    with pytest.raises(ValueError, match=r"no model_index\.json .*UNet2DConditionModel"):
        ux.load(tmp_path, device="cpu")


def test_a_part_that_is_missing_is_named(tmp_path):
    folder = saved("xl", tmp_path / "pipeline")
    shutil.rmtree(folder / "tokenizer_2")
    with pytest.raises(ValueError, match="StableDiffusionXLPipeline there is no tokenizer_2"):
        ux.load(folder, device="cpu")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"in_channels": 9}, "takes 9 channels, and latents have 4"),
        ({"num_class_embeds": 10}, "is told more than a prompt: {'num_class_embeds': 10}"),
        ({"addition_embed_type": "text_time"}, "'text_time', and there are 1 text encoders"),
    ],
)
def test_a_unet_that_is_told_more_is_refused_whatever_the_index_says(config, message, tmp_path):
    folder = saved("sd", tmp_path / "pipeline")
    changed(folder / "unet/config.json", **config)
    with pytest.raises(ValueError, match=re.escape(message)):
        ux.load(folder, device="cpu")


EULER = {"timestep_spacing": "trailing"}


@pytest.mark.parametrize(
    ("kind", "scheduler", "expected"),
    [
        ("sd", None, (7.5, 20)),
        ("xl", None, (5.0, 20)),
        ("lcm", None, (8.5, 4)),
        ("sd", ("EulerDiscreteScheduler", EULER), (1.0, 1)),  # SD-turbo's
        ("xl", ("EulerAncestralDiscreteScheduler", EULER), (1.0, 1)),  # SDXL-turbo's
        ("xl", ("EulerDiscreteScheduler", EULER | {"rescale_betas_zero_snr": True}), (5.0, 20)),
        ("sd", ("LCMScheduler", {}), (1.0, 4)),
    ],
)
def test_a_pipelines_own_guidance_and_steps(kind, scheduler, expected, tmp_path):
    made = scheduler and pipelines.scheduler(scheduler[0], **scheduler[1])
    pipe = ux.load(saved(kind, tmp_path / "pipeline", made), device="cpu")
    assert (pipe.guidance, pipe.steps) == expected
    run = pipe(pipelines.RED)
    assert (run.guidance, len(run.timesteps)) == expected
    rows = 2 if kind != "lcm" and expected[0] > 1 else 1
    assert run.recording.given(0)["sample"].shape == (rows, 4, 8, 8)  # by the UNet's sample_size


@pytest.mark.parametrize("said", [True, False])
def test_whether_no_negative_prompt_is_zeros_is_read_from_the_index(said, tmp_path):
    folder = saved("xl", tmp_path / "pipeline")
    changed(folder / "model_index.json", force_zeros_for_empty_prompt=said)
    run = ux.load(folder, device="cpu")(pipelines.RED, steps=1)
    without, prompted = run.recording.given(0)["encoder_hidden_states"]
    assert (not without.any()) is said
    assert not torch.equal(without, prompted)


def test_the_command_line_names_the_kind_and_ends_with_status_2(tmp_path, capsys):
    from unet_explained.__main__ import main

    folder = saved("inpaint", tmp_path / "pipeline")
    assert main(["heatmap", "a cat", "--model", str(folder), "--device", "cpu"]) == 2
    shown = capsys.readouterr().err
    assert "a StableDiffusionInpaintPipeline" in shown
    assert "\n    with ux.record(pipe) as rec:\n        out = pipe(" in shown
