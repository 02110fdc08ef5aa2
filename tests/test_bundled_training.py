"""Training of the bundled pipeline, on tiny stages, and the folder that it writes."""

import json
import shutil
from random import Random

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from unet_explained.bundled.autoencoder import calibrate, crops, guide, psnr
from unet_explained.bundled.averaging import start_as_averaging
from unet_explained.bundled.card import END, START, wilson, write_card
from unet_explained.bundled.diffusion import make_album
from unet_explained.bundled.export import export, verify
from unet_explained.bundled.inner import InnerUNet
from unet_explained.bundled.loop import Stage, run_stage
from unet_explained.bundled.models import (
    build_scheduler,
    build_text_encoder,
    build_unet,
    build_vae,
)
from unet_explained.bundled.reading import ReadingLoss, reading_batch
from unet_explained.bundled.tokenizer import build_tokenizer
from unet_explained.bundled.train import train


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An exported pipeline with random weights."""
    torch.manual_seed(0)
    vae = build_vae()
    start_as_averaging(vae)
    path = tmp_path_factory.mktemp("bundled") / "pipeline"
    export(path, build_text_encoder(build_tokenizer()), build_unet(0), vae, 5.0)
    return path


def test_an_untrained_autoencoder_averages():
    torch.manual_seed(0)
    vae = build_vae()
    start_as_averaging(vae)
    pictures = crops(Random(0), 4, 64)
    with torch.no_grad():
        latents = vae.encode(pictures).latent_dist.mean
    assert (latents[:, :3] - guide(pictures)[:, :3]).abs().mean() < 0.1
    before = psnr(vae, Random(0), count=2, size=256)
    assert before > 25
    calibrate(vae, Random(0), count=8, size=128)
    assert psnr(vae, Random(0), count=2, size=256) == pytest.approx(before, abs=1e-3)


def test_text_encoder_knows_where_a_prompt_ends():
    tokenizer = build_tokenizer()
    encoder = build_text_encoder(tokenizer)
    ids = tokenizer(["a red circle"], padding="max_length", return_tensors="pt").input_ids
    output = encoder(ids)
    end = ids[0].tolist().index(tokenizer.eos_token_id)
    assert torch.equal(output.pooler_output[0], output.last_hidden_state[0, end])


def test_smaller_latents_get_less_noise_and_the_last_step_is_noise_alone():
    kept = {side: build_scheduler(side).alphas_cumprod for side in (16, 64)}
    assert (kept[16] >= kept[64]).all()
    assert kept[64][-1] == 0
    ratio = {side: (1 - each[500]) / each[500] for side, each in kept.items()}
    assert ratio[64] / ratio[16] == pytest.approx(16, rel=1e-4)


@pytest.mark.parametrize("level", [1, 2])
def test_an_inner_unet_trains_the_levels_it_shares(level):
    unet = build_unet(0)
    part = InnerUNet(unet, level)
    nn.init.ones_(part.conv_out.weight)  # it starts at zero, which stops all other gradients
    sample, context, time = torch.randn(1, 4, 16, 16), torch.randn(1, 77, 96), torch.tensor([10])
    (output,) = part(sample, time, context)
    assert output.shape == sample.shape
    output.square().mean().backward()
    assert all(parameter.grad is not None for parameter in part.parameters())
    assert unet.mid_block.resnets[0].conv1.weight.grad is not None
    assert unet.conv_in.weight.grad is None


class Line(nn.Module):
    """The smallest thing that can be trained."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def forward(self, x):
        noise = 0.01 * torch.randn(len(x), 1)
        return (self.layer(x) - x.sum(1, keepdim=True) + noise).square().mean()


class Stop(Exception):
    """Raised to interrupt a stage."""


def fit(folder, **options) -> nn.Module:
    def inputs(rng):
        return {"x": torch.tensor([[rng.random() for _ in range(3)] for _ in range(8)])}

    torch.manual_seed(0)
    stage = Stage("line", 60, 8, 0, 0.1, decay=0.9)
    return run_stage(Accelerator(cpu=True), stage, Line(), inputs, folder, save_every=30, **options)


def test_a_stage_learns_and_resumes_exactly(tmp_path):
    def interrupt(model, step):
        raise Stop

    whole = fit(tmp_path / "whole")
    lines = (tmp_path / "whole" / "log.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines]
    assert losses[-1] < 0.8 * losses[0]
    with pytest.raises(Stop):
        fit(tmp_path / "cut", on_save=interrupt)
    resumed = fit(tmp_path / "cut")
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_reading_is_learnt_from_captions():
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    loss = ReadingLoss(build_text_encoder(tokenizer))
    batch = reading_batch(Random(0), 8, tokenizer)
    assert batch["said"].sum(1).max() > 0
    optimizer = torch.optim.AdamW(loss.parameters(), lr=3e-3)
    values = []
    for _ in range(12):
        values.append(loss(**batch))
        values[-1].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert values[-1] < 0.8 * values[0]


def test_stock_diffusers_and_this_package_run_the_folder(folder):
    from diffusers import StableDiffusionPipeline

    from unet_explained.run.checkpoints import load

    options = dict(num_inference_steps=2, guidance_scale=5.0, height=64, width=64,
                   generator=torch.Generator().manual_seed(0), output_type="np")  # fmt: skip
    stock = StableDiffusionPipeline.from_pretrained(folder)("a red circle", **options).images[0]
    ours = load(folder, device="cpu")("a red circle", steps=2, seed=0, height=64, width=64)
    assert np.allclose(stock * 255, np.asarray(ours.image), atol=1.01)


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


def test_the_card_gets_its_figures(tmp_path):
    heat = {"role": "noun", "points": True, "iou": 0.4, "area": 0.1, "chance_iou": 0.05}
    row = {"colour": [True], "kind": [False], "place": [True], "judge_render": [True],
           "judge_round_trip": [True], "rendered": {"500": [heat]}, "sampled": []}  # fmt: skip
    (tmp_path / "README.md").write_text(f"before\n{START}\nold\n{END}\nafter\n")
    write_card(tmp_path, [row] * 3, 33.0)
    card = (tmp_path / "README.md").read_text()
    assert card.startswith("before")
    assert card.endswith("after\n")
    assert "\nold\n" not in card
    assert "| every thing in its colour | 100 % | 44 to 100 % | 3 |" in card
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-3)


@pytest.mark.slow
def test_the_whole_command_runs_and_resumes(tmp_path, monkeypatch):
    monkeypatch.setattr("unet_explained.bundled.train.SCENES", {128: 4, 256: 2})
    monkeypatch.setattr("unet_explained.bundled.train.SHOWN", ("a red star", "a blue boat"))
    stages = dict(
        autoencoder=Stage("autoencoder", 1, 2, 64, 1e-3),
        reading=Stage("reading", 1, 2, 0, 1e-3),
        diffusion=(
            Stage("inner", 1, 2, 128, 1e-3, level=2),
            Stage("whole", 2, 2, 256, 1e-3),
        ),
        decoder=Stage("decoder", 1, 2, 64, 1e-3),
    )
    train(tmp_path, **stages)
    verify(tmp_path / "pipeline")
    first = (tmp_path / "pipeline" / "SHA256SUMS").read_text()
    train(tmp_path, **stages)
    assert (tmp_path / "pipeline" / "SHA256SUMS").read_text() == first
    assert list((tmp_path / "whole").glob("*.png"))


def test_an_album_gives_scenes_with_captions():
    torch.manual_seed(0)
    vae, tokenizer = build_vae(), build_tokenizer()
    album = make_album(vae, Random(0), 3, 64)
    batch = album.batch(Random(0), 5, tokenizer, torch.device("cpu"))
    assert batch["latents"].shape == (5, 4, 8, 8)
    assert batch["ids"].shape == (5, 77)
