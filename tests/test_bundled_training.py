"""Training of the bundled pipeline, on tiny stages, and the folder that it writes."""

import json
import math
import re
import shutil
from dataclasses import replace
from random import Random

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from training.album import Album, make_album
from training.autoencoder import calibrate, crops, guide, psnr, to_tensor
from training.averaging import start_as_averaging
from training.card import END, START, by_layer, wilson, write_card
from training.diffusion import DiffusionLoss, expected, fewer_keys, noise_scale
from training.evaluate import _told, evaluate
from training.export import export, verify
from training.inner import InnerUNet, hand_over
from training.loop import Stage, run_stage
from training.models import (
    build_scheduler,
    build_text_encoder,
    build_unet,
    build_vae,
)
from training.muon import Muon, optimizers, orthogonal
from training.pointing import Pointing, lost, misplaced, word_tokens
from training.reading import ReadingLoss, reading_batch
from training.tokenizer import build_tokenizer
from training.train import Training, train
from unet_explained.bundled.captions import describe, mentioned
from unet_explained.bundled.draw import render
from unet_explained.bundled.world import GROUNDS, LOOSE, MARGIN, Scene, Thing, fits, relation
from unet_explained.run.checkpoints import load


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


def test_text_encoder_knows_where_a_prompt_ends():
    tokenizer = build_tokenizer()
    encoder = build_text_encoder(tokenizer)
    ids = tokenizer(["a red circle"], padding="max_length", return_tensors="pt").input_ids
    output = encoder(ids)
    end = ids[0].tolist().index(tokenizer.eos_token_id)
    assert torch.equal(output.pooler_output[0], output.last_hidden_state[0, end])


def test_the_last_step_is_noise_alone():
    assert build_scheduler().alphas_cumprod[-1] == 0


def test_noise_of_small_latents_is_what_averaging_leaves():
    torch.manual_seed(0)
    whole = torch.randn(8, 4, 64, 64)
    averaged = nn.functional.avg_pool2d(whole, 4)
    assert noise_scale(whole) == 1
    assert noise_scale(averaged) == pytest.approx(averaged.std().item(), rel=0.05)


@pytest.mark.parametrize("level", [1, 2])
def test_the_next_level_first_gives_the_trained_ones_what_they_know(level):
    unet = build_unet(0)
    part = InnerUNet(unet, level)
    nn.init.normal_(part.conv_in.weight)
    nn.init.normal_(part.conv_in.bias)
    hand_over(unet, part, level)
    around = InnerUNet(unet, level - 1) if level > 1 else unet
    given = []
    unet.down_blocks[level].register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    sample = torch.randn(2, 4, 16, 16)
    with torch.no_grad():
        around(sample, torch.tensor(5), torch.randn(2, 77, 96), return_dict=False)
        known = part.conv_in(nn.functional.avg_pool2d(sample, 2))
    assert torch.allclose(given[0], known, atol=1e-5)


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


def fit(folder, muon=False, **options) -> nn.Module:
    def inputs(rng):
        return {"x": torch.tensor([[rng.random() for _ in range(3)] for _ in range(8)])}

    torch.manual_seed(0)
    stage = Stage("line", 60, 8, 0, 0.1, decay=0.9, muon=muon)
    return run_stage(Accelerator(cpu=True), stage, Line(), inputs, folder, save_every=30, **options)


@pytest.mark.parametrize("muon", [False, True])
def test_a_stage_learns_and_resumes_exactly(tmp_path, muon):
    def interrupt(model, step):
        raise Stop

    whole = fit(tmp_path / "whole", muon)
    lines = (tmp_path / "whole" / "log.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines]
    assert losses[-1] < 0.8 * losses[0]
    with pytest.raises(Stop):
        fit(tmp_path / "cut", muon, on_save=interrupt)
    resumed = fit(tmp_path / "cut", muon)
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_muon_is_torch_s_for_a_matrix_and_takes_a_kernel_as_one():
    torch.manual_seed(0)
    kernel, matrix = nn.Conv2d(6, 10, 3, bias=False), nn.Linear(54, 10, bias=False)
    matrix.weight.data = kernel.weight.detach().flatten(1).clone()
    before = matrix.weight.detach().clone()
    ours = Muon(kernel.parameters(), 0.01)
    theirs = torch.optim.Muon(
        matrix.parameters(), lr=0.01, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"
    )
    for _ in range(3):
        gradient = torch.randn(10, 54)
        kernel.weight.grad, matrix.weight.grad = gradient.view(10, 6, 3, 3), gradient
        ours.step()
        theirs.step()
    difference = (kernel.weight.flatten(1) - matrix.weight).norm()
    assert difference < 0.03 * (matrix.weight - before).norm(), "torch's own works in bfloat16"


@pytest.mark.parametrize("shape", [(24, 216), (128, 32)])
def test_a_step_of_muon_goes_equally_far_in_all_directions(shape):
    torch.manual_seed(0)
    stretched = torch.randn(1, *shape) * torch.linspace(0.1, 1, shape[1])
    values = torch.linalg.svdvals(orthogonal(stretched))
    assert 0.6 < values.min() < values.max() < 1.3


def test_muon_takes_the_inner_matrices_and_adamw_the_rest():
    unet = build_unet(0)
    muon, adamw = optimizers(unet, 0.1, True)
    matrices = {id(each) for each in muon.param_groups[0]["params"]}
    rest = {id(each) for each in adamw.param_groups[0]["params"]}
    assert id(unet.mid_block.resnets[0].conv1.weight) in matrices
    assert {id(unet.conv_in.weight), id(unet.mid_block.resnets[0].conv1.bias)} <= rest
    assert not matrices & rest
    assert matrices | rest == {id(each) for each in unet.parameters()}


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


def test_a_third_of_what_is_read_has_three_things():
    batch = reading_batch(Random(0), 9, build_tokenizer())
    told = (batch["retold"].sum(1) > 0).sum(1)
    assert sorted(told.tolist()) == [1] * 3 + [2] * 3 + [3] * 3


def test_the_text_encoder_reads_on_while_the_unet_learns():
    torch.manual_seed(0)
    loss = diffusion_loss()
    batch = reading_batch(Random(0), 3, build_tokenizer())
    windows = two_things().windows(Random(0), 2, build_tokenizer(), torch.device("cpu"))

    def total(**inputs) -> float:
        torch.manual_seed(0)  # the noise
        with torch.no_grad():
            return loss(**inputs).item()

    alone, both = total(windows=windows), total(windows=windows, captions=batch)
    assert both - alone == pytest.approx(0.02 * loss.reading(**batch).item(), rel=1e-3)


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


def test_stock_diffusers_and_this_package_run_the_folder(folder):
    from diffusers import StableDiffusionPipeline

    from unet_explained.run.checkpoints import load

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


def test_an_album_knows_its_grounds():
    torch.manual_seed(0)
    vae = build_vae()
    grounds = make_album(vae, Random(0), 3, 64, batch=2).grounds
    for latents, ground in zip(grounds, GROUNDS, strict=True):
        with torch.no_grad():
            mean = vae.encode(to_tensor([render(Scene(ground, ()), 64)])).latent_dist.mean
        assert torch.allclose(latents.float(), mean[0] * vae.config.scaling_factor, atol=1e-2)


def test_an_evaluation_does_not_mix_rows(folder, tmp_path):
    (tmp_path / "of.txt").write_text("rows of something else")
    with pytest.raises(ValueError, match="choose another folder"):
        evaluate(folder, 1, 1, tmp_path)


def test_the_card_gets_its_figures(tmp_path):
    heat = {"role": "noun", "points": True, "layers": [True, False],
            "iou": 0.4, "area": 0.1, "chance_iou": 0.05}  # fmt: skip
    heats = [heat, heat | {"role": "colour", "points": False}]
    row = {"things": ["star"], "shown": 2, "colour": [True], "kind": [False], "place": [True],
           "judge_render": [True], "judge_round_trip": [True], "layers": ["down", "up"],
           "rendered": {"500": heats, "100": heats}, "sampled": [],
           "told": {"700": [0.5, 0.6]}}  # fmt: skip
    (tmp_path / "README.md").write_text(f"before\n{START}\nold\n{END}\nafter\n")
    deaf = row | {"told": {"700": [0.5, 0.5]}}
    write_card(tmp_path, [row, row, deaf], 10, 33.0)
    card = (tmp_path / "README.md").read_text()
    assert card.startswith("before")
    assert card.endswith("after\n")
    assert "\nold\n" not in card
    assert "| every thing in its colour | 100 % | 44 to 100 % | 3 |" in card
    assert "| a star is in its kind | 0 % | 0 to 56 % | 3 |" in card
    assert "| as many things as were asked for | 0 % | 0 to 56 % | 3 |" in card
    assert "| two things asked for: all in their colours | none |  | 0 |" in card
    assert "| 13.3 % | 6.7 % | 700 | 3 |" in card
    assert [line.split() for line in by_layer([row] * 3).splitlines()] == [
        ["noun,", "by", "layer", "and", "timestep", "500", "100"],
        ["down", "100", "100"],
        ["up", "0", "0"],
        ["all,", "averaged", "100", "100"],
        ["colour,", "by", "layer", "and", "timestep", "500", "100"],
        ["down", "100", "100"],
        ["up", "0", "0"],
        ["all,", "averaged", "0", "0"],
    ]
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-3)


@pytest.mark.slow
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


def test_an_album_gives_scenes_with_captions():
    torch.manual_seed(0)
    vae, tokenizer = build_vae(), build_tokenizer()
    album = make_album(vae, Random(0), 3, 64)
    assert [len(scene.things) for scene in album.scenes] == [1, 2, 3]
    batch = album.batch(Random(0), 5, tokenizer, torch.device("cpu"))
    assert batch["latents"].shape == (5, 4, 8, 8)
    assert batch["ids"].shape == (5, 77)
    assert batch["words"].shape == (5, 3, 3, 77)
    assert batch["masks"].shape == (5, 3, 8, 8)
    told = batch["words"].sum((1, 3)) > 0
    assert torch.equal(told, batch["masks"].sum((2, 3)) > 0), "words and masks belong together"


@pytest.mark.parametrize(("seed", "side", "count"), [(0, 24, 6), (5, 32, 3)])
def test_windows_are_cut_from_the_album_around_a_thing(seed, side, count):
    scene = Scene("pink", (Thing("star", "red", "large", 0.9, 0.8, 0.2),))
    latents = torch.randn(1, 4, 40, 40)
    masks = torch.zeros(1, 3, 40, 40, dtype=torch.bool)
    album = Album([scene], latents, masks, torch.zeros(len(GROUNDS), 4, 40, 40))
    album.masks[0, 0, 32, 36] = True  # its centre
    batch = album.windows(Random(seed), 6, build_tokenizer(), torch.device("cpu"))
    assert batch["latents"].shape == (count, 4, side, side)
    span = 41 - side
    for piece, masks in zip(batch["latents"], batch["masks"]):
        fits = [
            (y, x)
            for y in range(span)
            for x in range(span)
            if torch.equal(piece, latents[0, :, y : y + side, x : x + side])
        ]
        assert len(fits) == 1
        (y, x), told = fits[0], masks.any()
        assert 0 <= 32 - y < side
        assert 0 <= 36 - x < side
        assert not told or masks[0, 32 - y, 36 - x] == 1


def two_things(side: int = 40) -> Album:
    """A star left of a boat, too far from each other for all windows to hold both."""
    scene = Scene(
        "pink",
        (
            Thing("star", "red", "small", 0.3, 0.5, 0.12),
            Thing("boat", "blue", "small", 0.7, 0.5, 0.12),
        ),
    )
    masks = torch.zeros(1, 3, side, side, dtype=torch.bool)
    latents = torch.randn(1, 4, side, side)
    album = Album([scene], latents, masks, torch.zeros(len(GROUNDS), 4, side, side))
    album.masks[0, 0, 20, 12] = album.masks[0, 1, 20, 28] = True
    return album


def test_of_a_scenes_things_the_hard_one_is_twice_as_often_in_a_window():
    album, tokenizer, told = two_things(), build_tokenizer(), []
    for seed in range(20):
        batch = album.windows(Random(seed), 12, tokenizer, torch.device("cpu"))
        told += tokenizer.batch_decode(batch["ids"], skip_special_tokens=True)
    boats = sum("boat" in text and "star" not in text for text in told)
    stars = sum("star" in text and "boat" not in text for text in told)
    assert 1.5 < boats / stars < 2.7


def test_a_window_may_lie_wherever_its_caption_would_be_true():
    torch.manual_seed(0)
    album, tokenizer, some = two_things(), build_tokenizer(), 0
    for seed in range(8):
        batch = album.windows(Random(seed), 1, tokenizer, torch.device("cpu"))
        latents = batch["latents"][0]
        ((others, alike),) = zip(batch["others"][0], batch["alike"][0])
        assert len(others) == len(alike) == 121
        assert any(torch.equal(latents, each) for each in others[alike])
        holds = [  # the places of the things are the marks of the windows that hold them
            tuple((each == album.latents[0, :, 20, x, None, None]).all(0).any() for x in (12, 28))
            for each in others
        ]
        own = holds[[torch.equal(latents, each) for each in others].index(True)]
        assert alike.tolist() == [each == own for each in holds]
        some += 0 < alike.sum() < 121
    assert some, "a caption of one thing is not true of a window with two"


def test_a_thing_may_lie_wherever_the_world_might_put_it():
    side, marks = 64, ((32, 19), (32, 45))
    album = two_things(side)
    album.grounds += torch.arange(len(GROUNDS)).view(-1, 1, 1, 1)  # pink is 0
    album.latents.zero_()
    for number, (row, column) in enumerate(marks, 1):
        album.latents[0, :, row, column] = number
    batch = album.batch(Random(0), 1, build_tokenizer(), torch.device("cpu"))
    latents, others, alike = (batch[name][0] for name in ("latents", "others", "alike"))
    assert torch.equal(others[:, 0], latents.expand(3, -1, -1, -1))
    assert alike[2].tolist() == [True] + [False] * 48, "there is no third thing"
    for number, ((row, column), centre) in enumerate(zip(marks, (0.25, 0.75))):
        places = set()
        for each in others[number][alike[number]]:
            (place,) = (each[0] == number + 1).nonzero().tolist()
            still = marks[1 - number]
            assert each[0, *still] == 2 - number, "the other thing stays"
            assert (each != 0).sum() == 8
            places.add(tuple(place))
        at = album.scenes[0].things[number]
        assert len(places) == alike[number].sum() > 30
        for y, x in places:
            assert abs(at.x + (x - column) / side - centre) <= LOOSE + 1e-6
            assert abs(at.y + (y - row) / side - 0.5) <= LOOSE + 1e-6


def test_where_a_thing_was_is_ground():
    album = two_things(64)
    album.grounds += torch.arange(len(GROUNDS)).view(-1, 1, 1, 1)
    album.scenes[0] = replace(album.scenes[0], ground=GROUNDS[2])
    album.latents[:] = 2.0
    album.latents[0, :, 32, 19] = 7.0
    others, alike = album._elsewhere(0)
    for each in others[0][alike[0]]:
        assert (each == 7.0).sum() == 4
        assert (each == 2.0).sum() == 4 * 64 * 64 - 4


def test_a_thing_is_moved_onto_no_other_and_keeps_its_relations():
    one, other = (Thing("star", "red", "small", 0.29, 0.51, 0.12),
                  Thing("boat", "blue", "small", 0.5, 0.3, 0.12))  # fmt: skip
    assert relation(one, other) is None
    album = Album([Scene("pink", (one, other))], torch.zeros(1, 4, 64, 64),
                  torch.zeros(1, 3, 64, 64) > 0, torch.zeros(len(GROUNDS), 4, 64, 64))  # fmt: skip
    album.latents[0, :, 32, 18] = 1
    others, alike = album._elsewhere(0)
    assert 1 < alike[0].sum() < 36, "some of its places are too near to the boat"
    for each in others[0][alike[0]]:
        ((y, x),) = (each[0] == 1).nonzero().tolist()
        there = replace(one, x=one.x + (x - 18) / 64, y=one.y + (y - 32) / 64)
        assert fits((there, other))
        assert relation(there, other) is None


def test_a_thing_at_the_edge_is_not_moved_out_of_the_picture():
    thing = Thing("star", "red", "large", 0.24, 0.7699, 0.2)
    grounds = torch.zeros(len(GROUNDS), 4, 64, 64)
    masks = torch.zeros(1, 3, 64, 64, dtype=torch.bool)
    album = Album([Scene("pink", (thing,))], grounds[:1].clone(), masks, grounds)
    album.latents[0, :, 49, 15] = 1
    others, alike = album._elsewhere(0)
    places = (others[0][alike[0]][:, 0] == 1).nonzero()[:, 1:]
    x, y = 0.24 + (places[:, 1] - 15) / 64, 0.7699 + (places[:, 0] - 49) / 64
    assert x.min() >= 0.2 + MARGIN
    assert y.max() <= 1 - 0.2 - MARGIN
    assert x.max() > 0.28
    assert y.min() < 0.72


def test_the_target_is_what_can_be_known():
    torch.manual_seed(0)
    others, noisy = torch.randn(2, 1, 3, 4, 2, 2), torch.randn(2, 4, 2, 2)
    alike, kept = torch.tensor([[[True, True, False]]] * 2), torch.tensor([0.3, 0.05])
    for scale in (1.0, 0.5):
        latents, noise = expected(others[:, 0, 0], others, alike, noisy, kept, scale)
        for row, share in enumerate(kept.tolist()):
            odds = []  # Bayes' rule, one number at a time
            for other in others[row, 0, :2]:
                pairs = zip(noisy[row].flatten().tolist(), other.flatten().tolist())
                variance = (1 - share) * scale**2
                missed = [(n - share**0.5 * x) ** 2 / (2 * variance) for n, x in pairs]
                odds.append(math.prod(math.exp(-each) for each in missed))
            mean = sum(odd * other for odd, other in zip(odds, others[row, 0])) / sum(odds)
            assert torch.allclose(latents[row], mean, atol=1e-5)
            mixed = share**0.5 * latents[row] + (1 - share) ** 0.5 * noise[row]
            assert torch.allclose(mixed, noisy[row], atol=1e-6)

    one = others[:, 0, 0]
    lost, _ = expected(one, others, alike, noisy, torch.zeros(2))
    assert torch.allclose(lost, others[:, 0, :2].mean(1), atol=1e-6), "in pure noise all alike"
    clear = 0.99**0.5 * others[:, 0, 1] + 0.1 * noisy
    found, _ = expected(one, others, alike, clear, torch.tensor([0.99, 0.99]))
    assert torch.allclose(found, others[:, 0, 1], atol=1e-3)


def test_of_each_part_is_told_what_can_be_known_of_it():
    latents = torch.zeros(1, 4, 2, 4)
    others = latents[:, None, None].repeat(1, 2, 2, 1, 1, 1)
    others[:, 0, 1, :, :, 0], others[:, 1, 1, :, :, 3] = 2.0, 4.0
    alike = torch.ones(1, 2, 2, dtype=torch.bool)
    lost, _ = expected(latents, others, alike, latents, torch.zeros(1))
    assert torch.equal(lost[0, 0, 0], torch.tensor([1.0, 0, 0, 2.0]))


def diffusion_loss() -> DiffusionLoss:
    return DiffusionLoss(build_unet(0), ReadingLoss(build_text_encoder(build_tokenizer())))


@pytest.mark.parametrize("name", ["windows", "whole"])
def test_training_is_on_that_target(name):
    torch.manual_seed(0)
    loss = diffusion_loss()
    album = two_things()
    give = album.windows if name == "windows" else album.batch
    batch = give(Random(1), 16, build_tokenizer(), torch.device("cpu"))
    own = (batch["others"] == batch["latents"][:, None, None]).all((3, 4, 5))
    totals = []
    for inputs in (batch, batch | {"alike": own}):
        torch.manual_seed(0)
        with torch.no_grad():
            totals.append(loss(**{name: inputs}).item())
    assert totals[0] < totals[1] - 0.1, "less variance: the untrained network answers 0"


def test_most_timesteps_of_windows_are_where_kinds_are_decided(monkeypatch):
    loss = diffusion_loss()
    asked = {}
    monkeypatch.setattr(loss, "_loss", lambda latents, times, where: asked.update({where: times}))
    monkeypatch.setattr("training.diffusion.sum", len, raising=False)
    torch.manual_seed(0)
    loss({"latents": torch.empty(2000, 4, 64, 64)}, {"latents": torch.empty(2000, 4, 24, 24)})
    whole, windows = asked[True], asked[False]
    assert 0 <= windows.min() < 20 < 880 < windows.max() < 900
    assert whole.max() > 980, "the last ones lay things out"
    deciding = [((times >= 550) & (times < 850)).float().mean() for times in (whole, windows)]
    assert 0.49 < deciding[0] < 0.58, "a fifth, and two in five of the others by chance"
    assert 0.62 < deciding[1] < 0.71, "half, and a third of the others by chance"


def test_the_evaluation_tells_what_the_word_for_a_kind_is_worth():
    thing = Thing("butterfly", "orange", "large", 0.5, 0.5, 0.2)
    scene = Scene("sand", (thing,))
    errors = _told(load(device="cpu"), scene, describe(scene, Random(0)), Random(0))
    assert list(errors) == ["800", "700", "600"]
    for right, wrong in errors.values():
        assert 0 < right < wrong, "a well learnt kind"


def test_a_window_is_told_what_is_in_it_and_no_place():
    near, far = (
        Thing("star", "red", "small", 0.2, 0.5, 0.1),
        Thing("boat", "blue", "small", 0.8, 0.5, 0.1),
    )
    album = Album(
        [Scene("pink", (near, far))],
        torch.randn(1, 4, 64, 64),
        torch.zeros(1, 3, 64, 64, dtype=torch.bool),
        torch.zeros(len(GROUNDS), 4, 64, 64),
    )
    album.masks[0, 0, 28:36, 9:17] = album.masks[0, 1, 28:36, 47:55] = True
    seen = set()
    for seed in range(8):
        _, masks, _, _, scene = album._window(Random(seed), 0, 24)
        assert len(scene.things) == 1
        assert masks.sum((1, 2)).tolist() == [64, 0, 0]
        caption = describe(scene, Random(seed), places=False)
        assert caption.places == (None,)
        assert not re.search(r"\b(left|right|top|bottom|middle|centre)\b", caption.text)
        seen.add(scene.things[0].kind)
    assert seen == {"star", "boat"}


def test_a_caption_without_places_still_tells_a_relation():
    things = tuple(
        Thing(kind, "red", "small", x, y, 0.1)
        for kind, x, y in (("star", 0.2, 0.5), ("boat", 0.8, 0.5), ("fish", 0.5, 0.9))
    )
    captions = [describe(Scene("pink", things), Random(seed), places=False) for seed in range(40)]
    assert all(caption.places == (None,) * 3 for caption in captions)
    assert any(caption.relation for caption in captions)
    assert all("corner" not in each.text and " at the " not in each.text for each in captions)


def test_words_are_found_among_the_tokens():
    things = (Thing("triangle", "red", "large", 0.25, 0.5, 0.2),
              Thing("circle", "red", "large", 0.75, 0.5, 0.2))  # fmt: skip
    caption = describe(Scene("pink", things), Random(3))
    tokenizer = build_tokenizer()
    (told,) = word_tokens([caption], tokenizer)
    tokens = tokenizer.convert_ids_to_tokens(tokenizer(caption.text).input_ids)
    read = [
        ["".join(tokens[i] for i in told[role, thing].nonzero().flatten()) for role in range(2)]
        for thing in range(3)
    ]
    assert [[word.replace("</w>", "") for word in pair] for pair in read] == [
        ["red", "triangle"],
        ["red", caption.nouns[1]],
        ["", ""],
    ]
    assert not (told[:, 0] * told[:, 1]).any(), "the two reds are different tokens"
    padding = told[2, :, len(tokens) :]
    assert padding[:2].sum() == pytest.approx(padding.shape[1] * 2 / 3, abs=1)
    assert not told[2, :, : len(tokens)].any()


def test_attention_on_the_right_words_costs_less():
    """Queries and keys made by hand: pixels of the thing look at its words, or at others."""
    words = torch.zeros(1, 3, 3, 77)
    words[0, 0, 0, 4] = words[0, 1, 0, 5] = words[0, 2, 0, 20] = 1
    masks = torch.zeros(1, 3, 4, 4)
    masks[0, 0, :2] = 1

    def cost(pixels: torch.Tensor, tokens: list[int], shown: float = 1.0) -> float:
        q = torch.zeros(1, 2, 16, 8)
        q[:, :, pixels.flatten().bool(), 0] = 8.0
        q[:, :, ~pixels.flatten().bool(), 1] = 8.0
        k = torch.zeros(1, 2, 77, 8)
        k[:, :, tokens, 0] = 8.0
        k[:, :, 0, 1] = 8.0  # everything else looks at the start token
        return misplaced(q, k, words, masks, torch.tensor([shown])).item()

    right = cost(masks[0, 0], [4, 5])
    assert right == pytest.approx(0.69, abs=0.01)  # log 2: half of each word is all there is
    assert cost(1 - masks[0, 0], [4, 5]) > right + 3
    assert cost(masks[0, 0], [7, 8]) > right + 3
    assert cost(masks[0, 0], [20], shown=0) < 0.1, "lost in noise: the padding tells of it"
    assert cost(masks[0, 0], [4, 5], shown=0) > 3


def test_training_watches_the_taught_layers_and_thins_the_keys_of_large_pictures():
    unet = build_unet(0)
    keys = []
    attend = unet.down_blocks[0].attentions[0].transformer_blocks[0].attn1.attend
    attend.register_forward_hook(lambda _, inputs, output: keys.append(inputs[1].shape[2]))
    inputs = torch.randn(1, 4, 32, 32), torch.tensor(5), torch.randn(1, 77, 96)
    pointing = Pointing(unet)
    with torch.no_grad(), pointing.watching() as seen, fewer_keys(unet):
        unet(*inputs)
    with torch.no_grad():
        unet(*inputs)
        with fewer_keys(unet):
            for side in (8, 64):
                unet(torch.randn(1, 4, side, side), *inputs[1:])
    assert [(h.shape[1], q.shape[2], k.shape[2]) for h, q, k in seen] == [
        *[(64, 64, 77)] * 3,
        *[(256, 256, 77)] * 3,
    ]
    assert keys[:2] == [128, 1024], "and every key is back afterwards"
    assert keys[2:] == [64, 512], "all of few, an eighth of many"
    loss = pointing(seen, torch.zeros(1, 3, 3, 77), torch.zeros(1, 3, 32, 32), torch.ones(1))
    assert loss.isfinite()


def test_a_place_is_the_middle_of_its_pixel():
    right = torch.tensor([[[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5], [0.5, 0.5]]])
    assert lost(right) == 0
    assert lost(right.flip(2)) == pytest.approx(0.5)


def test_the_padding_tells_of_the_things_in_the_order_of_the_caption():
    tokenizer, orders = build_tokenizer(), set()
    things = (Thing("star", "red", "large", 0.25, 0.5, 0.2),
              Thing("circle", "blue", "large", 0.75, 0.5, 0.2))  # fmt: skip
    for seed in range(6):
        caption = describe(Scene("pink", things), Random(seed))
        order = mentioned(caption)
        orders.add(tuple(order))
        (told,) = word_tokens([caption], tokenizer)
        for slot, thing in enumerate(order):
            assert set((told[2, thing].nonzero() % 3).flatten().tolist()) == {slot}
    assert orders == {(0, 1), (1, 0)}
