"""The small world: its pictures, its masks, its captions, its words."""

import re
from dataclasses import replace
from random import Random

import numpy as np
import pytest
import torch
from transformers import CLIPTokenizer

from training.export import WEIGHTS, verify
from training.judge import look, match
from training.reading import reading_batch
from training.tokenizer import TWO_TOKENS, build_tokenizer
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
    SIZES,
    Scene,
    Thing,
    held_out,
    held_out_pair,
    relation,
    sample_scene,
)
from unet_explained.run.checkpoints import load

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
def test_a_kind_stays_inside_its_circle_and_is_recognised(kind):
    thing = Thing(kind, "blue", "large", 0.5, 0.5, 0.2)
    mask = masks(Scene("pink", (thing,)), 256)[0]
    rows, columns = np.nonzero(mask)
    assert np.hypot(rows / 256 - 0.5, columns / 256 - 0.5).max() < 0.2 * 1.35
    (found,) = match(look(render(Scene("pink", (thing,)), 512))[1], (thing,))
    assert (found.thing.kind, found.thing.colour) == (kind, "blue")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_judge_knows_every_colour_of_every_kind(kind, size):
    for colour in COLOURS:
        thing = Thing(kind, colour, size, 0.4, 0.6, max(SIZES[size]))
        for ground in GROUNDS:
            name, found = look(render(Scene(ground, (thing,)), 256))
            assert name == ground
            assert [(each.thing.kind, each.thing.colour) for each in found] == [(kind, colour)]


def test_the_judge_tells_things_apart_that_nearly_touch():
    for scene in scenes(40, "held_out"):
        found = look(render(scene, 256))[1]
        assert len(found) == len(scene.things)
        for blob, thing in zip(match(found, scene.things), scene.things, strict=True):
            assert (blob.thing.kind, blob.thing.colour) == (thing.kind, thing.colour)


def test_the_judge_sees_one_boat_where_hull_and_sails_do_not_touch():
    picture = render(Scene("pink", (Thing("boat", "blue", "large", 0.5, 0.5, 0.2),)), 512).copy()
    gap = slice(round(512 * (0.5 + 0.2 * 0.18)), round(512 * (0.5 + 0.2 * 0.32)))
    picture[gap] = PALETTE["pink"]
    (found,) = look(picture)[1]
    assert (found.thing.kind, found.thing.colour) == ("boat", "blue")


def painted(*things, ground="pink"):
    return render(Scene(ground, things), 256)


def test_the_judge_names_no_kind_and_no_colour_where_none_is():
    star, square = (Thing(kind, "red", "large", 0.5, 0.5, 0.2) for kind in ("star", "square"))
    corner = painted(square).copy()
    corner[:150, 110:] = PALETTE["pink"]  # what is left has the shape of an L
    (found,) = look(corner)[1]
    assert (found.thing.kind, found.thing.colour) == ("", "red")
    mixed, mask = painted(star).copy(), masks(Scene("pink", (star,)), 256)[0]
    turn = np.add.outer(range(256), range(256)) // 8 % 3
    for number, colour in enumerate(("red", "green", "blue")):
        mixed[mask & (turn == number)] = PALETTE[colour]
    (found,) = look(mixed)[1]
    assert (found.thing.kind, found.thing.colour) == ("star", "")


def test_the_judge_gives_a_thing_no_blob_that_is_neither():
    asked = Thing("star", "red", "large", 0.5, 0.5, 0.2)
    found = look(painted(Thing("square", "blue", "large", 0.5, 0.5, 0.2)))[1]
    assert len(found) == 1
    assert match(found, (asked,)) == [None]


def test_swapped_colours_are_wrong_colours_whichever_thing_is_larger():
    for sizes in ((0.2, 0.12), (0.12, 0.2)):
        one, other = (
            Thing(kind, colour, "", x, 0.5, size)
            for kind, colour, x, size in zip(("star", "heart"), ("red", "blue"), (0.3, 0.7), sizes)
        )
        swapped = painted(replace(one, colour="blue"), replace(other, colour="red"))
        found = match(look(swapped)[1], (one, other))
        assert [each.thing.kind for each in found] == ["star", "heart"]


def test_two_colours_are_two_things_even_where_one_outline_would_fit_both():
    picture = painted(Thing("square", "green", "large", 0.5, 0.5, 0.2)).copy()
    picture[:140, 112:] = PALETTE["pink"]  # an L is left, and a red square is put into it
    picture[86:136, 118:170] = PALETTE["red"]
    found = look(picture)[1]
    assert {(each.thing.kind, each.thing.colour) for each in found} == {
        ("", "green"),
        ("square", "red"),
    }


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


def test_each_word_is_one_token_and_a_few_are_two(tmp_path):
    build_tokenizer().save_pretrained(tmp_path)
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path)
    for word in WORDS:
        expected = 2 if word in TWO_TOKENS else 1
        assert len(tokenizer.tokenize(word)) == expected, word
        assert tokenizer.decode(tokenizer(word).input_ids[1:-1]).strip() == word
    assert tokenizer.tokenize("triangle") == ["tri", "angle</w>"]


def test_any_text_can_be_tokenized():
    tokenizer = build_tokenizer()
    ids = tokenizer("a dinosaur, très chic 日本 7!", padding="max_length").input_ids
    assert len(ids) == tokenizer.model_max_length == 77
    assert ids.count(tokenizer.bos_token_id) == 1
    first_end = ids.index(tokenizer.eos_token_id)
    assert set(ids[first_end:]) == {tokenizer.pad_token_id}


def test_the_weights_are_whole_and_small():
    verify(WEIGHTS)
    files = [path for path in WEIGHTS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 30e6
    for part in ("unet", "vae"):
        assert list((WEIGHTS / part).glob("*.safetensors"))


@torch.no_grad()
def test_the_padding_retells_each_of_three_things():
    """A linear layer, fitted to a part of the captions, reads each thing's looks off the others."""
    encoder, tokenizer = load(device="cpu").text_encoder, build_tokenizer()
    batch = reading_batch(Random(0), 720, tokenizer)
    three = (batch["retold"].sum(1) > 0).all(1)
    embeddings = encoder(batch["ids"][three]).last_hidden_state
    retold, looks = batch["retold"][three], batch["looks"][three]
    told = torch.einsum("btc,bts->bsc", embeddings, retold) / retold.sum(1)[..., None]
    told = torch.cat([told, torch.ones_like(told[..., :1])], 2)  # for the layer's bias
    fitted, asked = slice(0, 160), slice(160, None)
    for number, count in enumerate((len(KINDS), len(COLOURS))):
        answers = torch.nn.functional.one_hot(looks[..., number], count).float()
        layer = torch.linalg.lstsq(told[fitted].flatten(0, 1), answers[fitted].flatten(0, 1))
        right = (told[asked] @ layer.solution).argmax(2) == looks[asked, :, number]
        assert right.float().mean(0).min() > 0.9, "of the first, the second and the third thing"
