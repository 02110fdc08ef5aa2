"""Encoded scenes: whole, in windows, and with their things elsewhere."""

import re
from dataclasses import replace
from random import Random

import pytest
import torch
from training_helpers import two_things

from training.album import Album, make_album
from training.autoencoder import to_tensor
from training.models import build_vae
from training.tokenizer import build_tokenizer
from unet_explained.bundled.draw import render
from unet_explained.bundled.world import GROUNDS, LOOSE, MARGIN, Scene, Thing, fits, relation


def test_an_album_knows_its_grounds():
    torch.manual_seed(0)
    vae = build_vae()
    grounds = make_album(vae, Random(0), 3, 64).grounds
    for latents, ground in zip(grounds, GROUNDS, strict=True):
        with torch.no_grad():
            mean = vae.encode(to_tensor([render(Scene(ground, ()), 64)])).latent_dist.mean
        assert torch.allclose(latents.float(), mean[0] * vae.config.scaling_factor, atol=1e-2)


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


def test_of_a_scenes_things_the_hard_one_is_twice_as_often_in_a_window():
    album, tokenizer, told = two_things(), build_tokenizer(), []
    for seed in range(20):
        batch = album.windows(Random(seed), 12, tokenizer, torch.device("cpu"))
        told += tokenizer.batch_decode(batch["ids"], skip_special_tokens=True)
    boats = sum("boat" in text and "star" not in text for text in told)
    stars = sum("star" in text and "boat" not in text for text in told)
    assert 1.5 < boats / stars < 2.7


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
    tokenizer, named = build_tokenizer(), set()
    for seed in range(12):
        batch = album.windows(Random(seed), 1, tokenizer, torch.device("cpu"))
        (text,) = tokenizer.batch_decode(batch["ids"], skip_special_tokens=True)
        assert batch["masks"][0].sum((1, 2)).tolist() == [64 if text else 0, 0, 0]
        assert not re.search(r"\b(left|right|top|bottom|middle|centre)\b", text)
        named.add(tuple(kind for kind in ("star", "boat") if kind in text))
    assert named - {()} == {("star",), ("boat",)}


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


def elsewhere(album: Album) -> tuple[torch.Tensor, torch.Tensor]:
    """(others, alike) of the one scene of an album."""
    batch = album.batch(Random(0), 1, build_tokenizer(), torch.device("cpu"))
    return batch["others"][0], batch["alike"][0]


def test_where_a_thing_was_is_ground():
    album = two_things(64)
    album.grounds += torch.arange(len(GROUNDS)).view(-1, 1, 1, 1)
    album.scenes[0] = replace(album.scenes[0], ground=GROUNDS[2])
    album.latents[:] = 2.0
    album.latents[0, :, 32, 19] = 7.0
    others, alike = elsewhere(album)
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
    others, alike = elsewhere(album)
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
    others, alike = elsewhere(album)
    places = (others[0][alike[0]][:, 0] == 1).nonzero()[:, 1:]
    x, y = 0.24 + (places[:, 1] - 15) / 64, 0.7699 + (places[:, 0] - 49) / 64
    assert x.min() >= 0.2 + MARGIN
    assert y.max() <= 1 - 0.2 - MARGIN
    assert x.max() > 0.28
    assert y.min() < 0.72
