"""Training the bundled pipeline on, with scenes that are always new."""

from dataclasses import replace
from random import Random

import pytest
import torch
from safetensors.torch import load_file

from unet_explained.bundled.autoencoder import to_tensor
from unet_explained.bundled.diffusion import DiffusionLoss
from unet_explained.bundled.export import WEIGHTS, verify
from unet_explained.bundled.finetune import FRESH, HEADS, finetune
from unet_explained.bundled.fresh import CAPTIONS, Drawn, Fresh
from unet_explained.bundled.models import build_text_encoder, build_unet, build_vae
from unet_explained.bundled.reading import ReadingLoss
from unet_explained.bundled.tokenizer import build_tokenizer, token_ids

SIDE = 64  # of the pictures
UNET, TEXT = "unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"


def fresh(room: int, new: int, workers: int = 0) -> Fresh:
    torch.manual_seed(0)
    return Fresh(build_vae(), Drawn(build_tokenizer(), 0, new, SIDE), room, workers)


def test_what_is_drawn_belongs_together():
    scenes, captions = next(iter(Drawn(build_tokenizer(), 0, 6, SIDE)))
    things = Random("0/drawn/0").choices((1, 2, 3), (1, 2, 3), k=6)  # the first numbers drawn
    assert scenes["pictures"].shape == (6, SIDE, SIDE, 3)
    assert scenes["masks"].any((2, 3)).sum(1).tolist() == things
    assert scenes["ids"].shape == (6, CAPTIONS, 77)
    nouns = scenes["words"][:, :, 1].any(3)  # (scene, caption, thing)
    assert (nouns.sum(2) == torch.tensor(things)[:, None]).all()
    assert (scenes["ids"][:, :1] != scenes["ids"]).any()  # captioned in many ways
    assert captions["ids"].shape == (6, 77)


def test_latents_are_those_of_the_pictures():
    kept = fresh(room=4, new=2)
    scenes, _ = next(iter(Drawn(build_tokenizer(), 0, 2, SIDE)))
    with torch.no_grad():
        pictures = to_tensor(list(scenes["pictures"].numpy()))
        mean = kept.vae.encode(pictures).latent_dist.mean * kept.vae.config.scaling_factor
    assert torch.allclose(kept._kept["latents"][:2].float(), mean, atol=2e-3)
    assert (kept._kept["masks"][:2] == scenes["masks"]).all()


def test_each_batch_replaces_the_oldest_scenes():
    kept = fresh(room=4, new=2)
    before = kept._kept["ids"].clone()
    kept.batch(1)
    assert (kept._kept["ids"][:2] != before[:2]).flatten(1).any(1).all()
    assert (kept._kept["ids"][2:] == before[2:]).all()


def test_other_processes_draw_the_same():
    here, there = fresh(room=2, new=2), fresh(room=2, new=2, workers=1)
    for name, each in here._kept.items():
        assert torch.equal(each, there._kept[name])


def test_some_samples_are_told_nothing():
    kept = fresh(room=4, new=2)
    batch = kept.batch(200)["fresh"]
    silent = (batch["ids"] == token_ids([""], build_tokenizer())).all(1)
    assert 5 <= silent.sum() <= 40  # a tenth of 200
    assert not batch["words"][silent].any()
    assert not batch["masks"][silent].any()
    assert batch["words"][~silent].flatten(1).any(1).all()
    assert batch["masks"][~silent].flatten(1).any(1).all()


def test_the_loss_sees_them_at_all_timesteps_some_more_often():
    kept = fresh(room=4, new=2)
    loss = DiffusionLoss(build_unet(0), ReadingLoss(build_text_encoder(build_tokenizer())))
    seen = []
    loss.unet.register_forward_pre_hook(lambda unet, inputs: seen.append(inputs[1]))
    total = loss(**kept.batch(400))
    total.backward()
    assert total.isfinite()
    assert loss.text_encoder.get_input_embeddings().weight.grad.any()

    def share(first: int, last: int) -> float:
        return ((first <= seen[0]) & (seen[0] < last)).float().mean().item()

    # of three eighths alike, of three eighths in proportion to t, and of a quarter from 550 to 850
    assert share(0, 300) == pytest.approx(3 / 8 * (0.3 + 0.3**2), abs=0.06)
    assert share(550, 850) == pytest.approx(3 / 8 * (0.3 + 0.85**2 - 0.55**2) + 1 / 4, abs=0.08)
    assert share(850, 1000) == pytest.approx(3 / 8 * (0.15 + 1 - 0.85**2), abs=0.06)


@pytest.mark.slow
def test_the_pipeline_is_trained_on_from_where_it_is(tmp_path):
    heads = replace(HEADS, steps=1, batch=2, side=SIDE)
    finetune(WEIGHTS, tmp_path, 0, heads, replace(FRESH, steps=2, batch=2, side=SIDE, rate=1e-4))
    verify(tmp_path / "pipeline")
    headed = load_file(tmp_path / "heads" / "state" / "model.safetensors")
    for part, file in (("unet", UNET), ("reading.text_encoder", TEXT)):
        before, after = load_file(WEIGHTS / file), load_file(tmp_path / "pipeline" / file)
        assert all(
            torch.equal(weight, headed[f"{part}.{name}"].to(weight.dtype))
            for name, weight in before.items()
        )
        moved = [(before[name] - after[name]).abs().max().item() for name in before]
        assert 0 < max(moved) < 1e-2
