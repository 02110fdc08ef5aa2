"""The commands of training on tiny stages, and the folder that they write."""

import json
import shutil
from random import Random

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from training.autoencoder import calibrate, crops, guide, psnr
from training.averaging import start_as_averaging
from training.export import export
from training.loop import Stage
from training.models import build_text_encoder, build_unet, build_vae
from training.reading import ReadingLoss
from training.tokenizer import build_tokenizer
from training.train import Training, train
from unet_explained.run.checkpoints import load
from unet_explained.run.sums import verify


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An exported pipeline with random weights."""
    torch.manual_seed(0)
    vae = build_vae()
    start_as_averaging(vae)
    vae.register_to_config(scaling_factor=2.5)
    path = tmp_path_factory.mktemp("bundled") / "pipeline"
    export(path, build_text_encoder(build_tokenizer()), build_unet(0), vae, 5.0)
    return path


def test_an_untrained_autoencoder_averages():
    torch.manual_seed(0)
    vae = build_vae()
    random = psnr(vae, Random(0), count=2, size=256)
    start_as_averaging(vae)
    pictures = crops(Random(0), 4, 64)
    with torch.no_grad():
        latents = vae.encode(pictures).latent_dist.mean
    assert (latents[:, :3] - guide(pictures)[:, :3]).abs().mean() < 0.1
    before = psnr(vae, Random(0), count=2, size=256)
    assert before > random + 15
    calibrate(vae, Random(0), count=8, size=128)
    assert psnr(vae, Random(0), count=2, size=256) == pytest.approx(before, abs=1e-3)


def test_stock_diffusers_and_this_package_run_the_folder(folder):
    from diffusers import StableDiffusionPipeline

    options = dict(num_inference_steps=2, guidance_scale=5.0, height=64, width=64,
                   generator=torch.Generator().manual_seed(0), output_type="np")  # fmt: skip
    stock = StableDiffusionPipeline.from_pretrained(folder)("a red circle", **options).images[0]
    ours = load(folder, device="cpu")("a red circle", steps=2, seed=0, height=64, width=64)
    assert np.allclose(stock * 255, np.asarray(ours.image), atol=1.01)


def test_the_scale_of_the_latents_is_kept(folder):
    assert json.loads((folder / "vae" / "config.json").read_text())["scaling_factor"] == 2.5


def test_a_changed_byte_is_noticed(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    verify(copy)
    (copy / "README.md").write_text("a card may be edited")
    verify(copy)
    weights = copy / "vae" / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ValueError, match="damaged"):
        verify(copy)
    weights.unlink()
    with pytest.raises(ValueError, match="missing"):
        verify(copy)


def test_every_step_of_the_unets_stages_has_captions_to_read(tmp_path, monkeypatch):
    asked = {}
    monkeypatch.setattr("training.train.SCENES", {64: 3})
    monkeypatch.setattr(
        Training, "run", lambda self, stage, loss, inputs, **_: asked.update(inputs(Random(0)))
    )
    tokenizer = build_tokenizer()
    training = Training(Accelerator(cpu=True), tmp_path, 0, tokenizer)
    reading = ReadingLoss(build_text_encoder(tokenizer))
    training.train_unet(build_unet(0), reading, build_vae(), Stage("some", 1, 2, 64, 1e-3))
    assert set(asked) == {"captions", "whole"}
    assert asked["captions"]["ids"].shape == (12, 77)


@pytest.mark.long
def test_the_whole_command_runs_and_resumes(tmp_path, monkeypatch):
    monkeypatch.setattr("training.train.SCENES", {128: 4, 256: 2})
    monkeypatch.setattr("training.train.SHOWN", ("a red star", "a blue boat"))
    stages = dict(
        autoencoder=Stage("autoencoder", 1, 2, 64, 1e-3),
        reading=Stage("reading", 1, 2, 0, 1e-3),
        diffusion=(
            Stage("inner", 1, 2, 128, 1e-3, level=2),
            Stage("things", 1, 0, 256, 1e-3, windows=2),
            Stage("whole", 2, 2, 256, 1e-3, windows=1),
        ),
        decoder=Stage("decoder", 1, 2, 64, 1e-3),
    )
    train(tmp_path, **stages)
    verify(tmp_path / "pipeline")
    first = (tmp_path / "pipeline" / "SHA256SUMS").read_text()
    train(tmp_path, **stages)
    assert (tmp_path / "pipeline" / "SHA256SUMS").read_text() == first
    assert list((tmp_path / "whole").glob("*.png"))
