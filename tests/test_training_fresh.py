"""Training the bundled pipeline on, with scenes that are always new."""

from dataclasses import replace
from itertools import product
from random import Random

import pytest
import torch
from safetensors.torch import load_file

from training.autoencoder import to_tensor
from training.diffusion import DiffusionLoss
from training.finetune import FRESH, HEADS, finetune
from training.fresh import CAPTIONS, READ, SceneStore, SceneStream
from training.models import build_text_encoder, build_unet, build_vae
from training.reading import ReadingLoss
from training.tokenizer import build_tokenizer, token_ids
from unet_explained.bundled.draw import PALETTE
from unet_explained.bundled.world import COLOURS
from unet_explained.run.hub import BUNDLED
from unet_explained.run.sums import verify

SIDE = 64  # of the pictures
UNET, TEXT = "unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"


def store_of(capacity: int, new: int, workers: int = 0) -> SceneStore:
    torch.manual_seed(0)
    stream = SceneStream(build_tokenizer(), 0, new, SIDE)
    return SceneStore(build_vae(), stream, capacity, workers)


def test_what_is_drawn_belongs_together():
    tokenizer = build_tokenizer()
    scenes, captions = next(iter(SceneStream(tokenizer, 0, 6, 256)))
    things = Random("0/drawn/0").choices((1, 2, 3), (1, 2, 3), k=6)  # the first numbers drawn
    assert scenes["pictures"].shape == (6, 256, 256, 3)
    assert scenes["masks"].any((2, 3)).sum(1).tolist() == things
    assert scenes["ids"].shape == (6, CAPTIONS, 77)
    nouns = scenes["words"][:, :, 1].any(3)  # (scene, caption, thing)
    assert (nouns.sum(2) == torch.tensor(things)[:, None]).all()
    assert (scenes["ids"][:, :1] != scenes["ids"]).any()  # captioned in many ways
    for scene, count in enumerate(things):
        for caption, thing in product(range(CAPTIONS), range(count)):
            told = scenes["ids"][scene, caption][scenes["words"][scene, caption, 0, thing]]
            inside = scenes["masks"][scene, thing].repeat_interleave(8, 0).repeat_interleave(8, 1)
            shown = scenes["pictures"][scene][inside].float().median(0).values
            distances = {name: (shown - torch.tensor(PALETTE[name])).norm() for name in COLOURS}
            assert tokenizer.decode(told).strip() == min(distances, key=distances.get)
    assert captions["ids"].shape == (READ, 77)


def test_latents_are_those_of_the_pictures():
    with torch.autocast("cpu", torch.bfloat16):  # as while the UNet learns
        store = store_of(capacity=4, new=2)
    scenes, _ = next(iter(SceneStream(build_tokenizer(), 0, 2, SIDE)))
    with torch.no_grad():
        pictures = to_tensor(list(scenes["pictures"].numpy()))
        mean = store.vae.encode(pictures).latent_dist.mean * store.vae.config.scaling_factor
    assert torch.allclose(store.scenes["latents"][:2].float(), mean, atol=1e-4)
    assert (store.scenes["masks"][:2] == scenes["masks"]).all()


def test_each_batch_replaces_the_oldest_scenes():
    store = store_of(capacity=4, new=2)

    def renewed() -> list[bool]:
        before = store.scenes["ids"].clone()
        store.batch(1)
        return (store.scenes["ids"] != before).flatten(1).any(1).tolist()

    assert renewed() == [True, True, False, False]
    assert renewed() == [False, False, True, True]
    assert renewed() == [True, True, False, False]


@pytest.mark.parametrize("workers", [1, 2])
def test_other_processes_draw_the_same(workers):
    here, there = store_of(capacity=4, new=1), store_of(capacity=4, new=1, workers=workers)
    for name, each in here.scenes.items():
        assert torch.equal(each, there.scenes[name])
    assert len(here.scenes["ids"].flatten(1).unique(dim=0)) == 4


def test_some_samples_are_told_nothing():
    store = store_of(capacity=4, new=2)
    batch = store.batch(200)["fresh"]
    empty = (batch["ids"] == token_ids([""], build_tokenizer())).all(1)
    assert 5 <= empty.sum() <= 40  # a tenth of 200
    assert not batch["words"][empty].any()
    assert not batch["masks"][empty].any()
    assert batch["words"][~empty].flatten(1).any(1).all()
    assert batch["masks"][~empty].flatten(1).any(1).all()


def test_the_loss_sees_them_at_all_timesteps_some_more_often():
    store = store_of(capacity=4, new=2)
    loss = DiffusionLoss(build_unet(0), ReadingLoss(build_text_encoder(build_tokenizer())))
    seen = []
    loss.unet.register_forward_pre_hook(lambda unet, inputs: seen.append(inputs[1]))
    total = loss(fresh=store.batch(400)["fresh"])
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
    finetune(tmp_path, 0, heads, replace(FRESH, steps=2, batch=2, side=SIDE, rate=1e-4))
    verify(tmp_path / "pipeline")
    headed = load_file(tmp_path / "heads" / "checkpoint" / "state" / "model.safetensors")
    for part, file in (("unet", UNET), ("reading.text_encoder", TEXT)):
        before, after = load_file(BUNDLED / file), load_file(tmp_path / "pipeline" / file)
        assert all(
            torch.equal(weight, headed[f"{part}.{name}"].to(weight.dtype))
            for name, weight in before.items()
        )
        moved = [(before[name] - after[name]).abs().max().item() for name in before]
        assert 0 < max(moved) < 1e-2
