"""The small world: its pictures, its masks, its captions; and that the weights are whole."""

import re
from random import Random

import numpy as np
import pytest

from unet_explained.bundled.captions import (
    PLACE_WORDS,
    RELATION_WORDS,
    WORDS,
    describe,
    mentioned,
)
from unet_explained.bundled.draw import PALETTE, masks, render
from unet_explained.bundled.world import (
    COLOURS,
    GROUNDS,
    KINDS,
    Scene,
    Thing,
    held_out,
    held_out_pair,
    relation,
    sample_scene,
)
from unet_explained.run.hub import BUNDLED
from unet_explained.run.sums import SUMS, listed, verify

INVERSE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


def scenes(count=40, split="train"):
    return [sample_scene(Random(index), split) for index in range(count)]


def test_masks_cover_what_differs_from_the_ground():
    for scene in scenes(20):
        differs = (render(scene, 256) != PALETTE[scene.ground]).any(2)
        covered = masks(scene, 256)
        assert covered.sum(0).max() == 1, "things overlap"
        assert (covered.any(0) & ~differs).sum() == 0
        edges = differs & ~covered.any(0)  # pixels less than half covered
        assert edges.sum() < 0.1 * differs.sum() + 20


def test_a_scene_is_the_same_at_every_size():
    for scene in scenes(6):
        large = render(scene, 512).reshape(128, 4, 128, 4, 3).mean((1, 3))
        assert np.abs(large - render(scene, 128)).mean() < 1
        assert render(scene, 128).dtype == np.uint8


def test_every_colour_stands_out_from_every_ground():
    for colour in COLOURS:
        for ground in GROUNDS:
            assert np.linalg.norm(np.subtract(PALETTE[colour], PALETTE[ground])) > 45


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_stays_inside_its_circle(kind):
    thing = Thing(kind, "blue", "large", 0.5, 0.5, 0.2)
    mask = masks(Scene("pink", (thing,)), 256)[0]
    rows, columns = np.nonzero(mask)
    assert np.hypot(rows / 256 - 0.5, columns / 256 - 0.5).max() < 0.2 * 1.35


def test_captions_tell_the_truth():
    rng = Random(0)
    for scene in scenes(200):
        caption = describe(scene, rng)
        assert set(re.findall("[a-z]+", caption.text)) <= set(WORDS)
        assert caption.colours == tuple(thing.colour for thing in scene.things)
        assert sorted(mentioned(caption)) == list(range(len(scene.things)))
        for thing, place in zip(scene.things, caption.places, strict=True):
            assert place in (None, thing.place)
        if caption.relation:
            first, how, second = caption.relation
            one, other = scene.things[first], scene.things[second]
            distance = {"left of": other.x - one.x, "right of": one.x - other.x,
                        "above": other.y - one.y, "below": one.y - other.y}  # fmt: skip
            assert distance[how] > 0.1
            assert relation(other, one) == INVERSE[how]
        check_words(caption)


def check_words(caption):
    """What the text tells of places and of a relation is what the caption says that it tells."""
    named = [f"{colour} {noun}" for colour, noun in zip(caption.colours, caption.nouns)]
    order = [named[index] for index in mentioned(caption)]
    behind = dict(zip(order, re.split("|".join(map(re.escape, order)), caption.text)[1:]))
    for name, place in zip(named, caption.places):
        said = [key for key, words in PLACE_WORDS.items() for each in words
                if re.match(rf" {each}(?! (left|right|corner|side))\b", behind[name])]  # fmt: skip
        assert set(said) == ({place} if place else set()), caption.text
    said = [(name, how) for how, words in RELATION_WORDS.items() for each in words
            for name in order if behind[name].startswith(f" {each} ")]  # fmt: skip
    related = {(named[caption.relation[0]], caption.relation[1])} if caption.relation else set()
    assert set(said) == related, caption.text
    if caption.relation:
        first, _, second = caption.relation
        at = order.index(named[first])
        assert order[at + 1] == named[second], caption.text


def test_captions_vary():
    scene = scenes(1)[0]
    texts = {describe(scene, Random(index)).text for index in range(60)}
    assert len(texts) > 20
    assert any(scene.ground in text for text in texts)
    assert any(scene.ground not in text for text in texts)


def test_a_caption_without_places_still_tells_a_relation():
    things = tuple(
        Thing(kind, "red", "small", x, y, 0.1)
        for kind, x, y in (("star", 0.2, 0.5), ("boat", 0.8, 0.5), ("fish", 0.5, 0.9))
    )
    captions = [describe(Scene("pink", things), Random(seed), places=False) for seed in range(40)]
    assert all(caption.places == (None,) * 3 for caption in captions)
    assert any(caption.relation for caption in captions)
    assert all("corner" not in each.text and " at the " not in each.text for each in captions)


def test_held_out_looks_and_relations_never_occur_in_training():
    assert not any(held_out(scene) for scene in scenes(300))
    assert all(held_out(scene) for scene in scenes(50, "held_out"))
    assert 4 < sum(held_out_pair(c, k) for c in COLOURS for k in KINDS) < 12
    star = Thing("star", "red", "small", 0.25, 0.5, 0.12)
    for kind, kept in (("star", True), ("fish", False)):
        for x, y in ((0.75, 0.5), (0.25, 0.75)):
            other = Thing(kind, "blue", "small", x, y, 0.12)
            assert held_out(Scene("pink", (star, other))) == kept
    with pytest.raises(ValueError, match="held_out"):
        sample_scene(Random(0), "test")


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_scenes_of_three_things_are_not_rarer_than_said(split):
    numbers = [len(scene.things) for scene in scenes(300, split)]
    for number, share in ((1, 0.3), (2, 0.5), (3, 0.2)):
        assert abs(numbers.count(number) / 300 - share) < 0.09  # three standard errors


def test_scenes_are_deterministic():
    assert scenes(5) == scenes(5)


def test_the_weights_are_whole_and_small():
    verify(BUNDLED)
    files = [path for path in BUNDLED.rglob("*") if path.is_file()]
    names = {path.relative_to(BUNDLED).as_posix() for path in files}
    assert names - {SUMS, "README.md"} == set(listed(BUNDLED))
    assert sum(path.stat().st_size for path in files) <= 30e6
    for part in ("unet", "vae"):
        assert list((BUNDLED / part).glob("*.safetensors"))
