"""The judge that says what a picture shows, on drawings whose content is known."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest

from training.judge import judge_picture, match
from unet_explained.bundled.draw import PALETTE, masks, render
from unet_explained.bundled.world import COLOURS, GROUNDS, KINDS, SIZES, Scene, Thing, sample_scene

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_judge_knows_every_colour_of_every_kind(kind, size):
    for colour in COLOURS:
        thing = Thing(kind, colour, size, 0.4, 0.6, max(SIZES[size]))
        for ground in GROUNDS:
            name, found = judge_picture(render(Scene(ground, (thing,)), 256))
            assert name == ground
            assert [(each.thing.kind, each.thing.colour) for each in found] == [(kind, colour)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_judge_knows_a_kind_at_the_size_of_pictures(kind):
    thing = Thing(kind, "blue", "large", 0.5, 0.5, 0.2)
    (found,) = match(judge_picture(render(Scene("pink", (thing,)), 512))[1], (thing,))
    assert (found.thing.kind, found.thing.colour) == (kind, "blue")


def test_the_judge_tells_things_apart_that_nearly_touch():
    for scene in (sample_scene(Random(index), "held_out") for index in range(40)):
        found = judge_picture(render(scene, 256))[1]
        assert len(found) == len(scene.things)
        for blob, thing in zip(match(found, scene.things), scene.things, strict=True):
            assert (blob.thing.kind, blob.thing.colour) == (thing.kind, thing.colour)


def test_the_judge_sees_one_boat_where_hull_and_sails_do_not_touch():
    picture = render(Scene("pink", (Thing("boat", "blue", "large", 0.5, 0.5, 0.2),)), 512).copy()
    gap = slice(round(512 * (0.5 + 0.2 * 0.18)), round(512 * (0.5 + 0.2 * 0.32)))
    picture[gap] = PALETTE["pink"]
    (found,) = judge_picture(picture)[1]
    assert (found.thing.kind, found.thing.colour) == ("boat", "blue")


def painted(*things, ground="pink"):
    return render(Scene(ground, things), 256)


def test_the_judge_names_no_kind_and_no_colour_where_none_is():
    star, square = (Thing(kind, "red", "large", 0.5, 0.5, 0.2) for kind in ("star", "square"))
    corner = painted(square).copy()
    corner[:150, 110:] = PALETTE["pink"]  # what is left has the shape of an L
    (found,) = judge_picture(corner)[1]
    assert (found.thing.kind, found.thing.colour) == ("", "red")
    mixed, mask = painted(star).copy(), masks(Scene("pink", (star,)), 256)[0]
    turn = np.add.outer(range(256), range(256)) // 8 % 3
    for number, colour in enumerate(("red", "green", "blue")):
        mixed[mask & (turn == number)] = PALETTE[colour]
    (found,) = judge_picture(mixed)[1]
    assert (found.thing.kind, found.thing.colour) == ("star", "")


def test_the_judge_gives_a_thing_no_blob_that_is_neither():
    asked = Thing("star", "red", "large", 0.5, 0.5, 0.2)
    found = judge_picture(painted(Thing("square", "blue", "large", 0.5, 0.5, 0.2)))[1]
    assert len(found) == 1
    assert match(found, (asked,)) == [None]


def test_swapped_colours_are_wrong_colours_whichever_thing_is_larger():
    for sizes in ((0.2, 0.12), (0.12, 0.2)):
        one, other = (
            Thing(kind, colour, "", x, 0.5, size)
            for kind, colour, x, size in zip(("star", "heart"), ("red", "blue"), (0.3, 0.7), sizes)
        )
        swapped = painted(replace(one, colour="blue"), replace(other, colour="red"))
        found = match(judge_picture(swapped)[1], (one, other))
        assert [each.thing.kind for each in found] == ["star", "heart"]


def test_two_colours_are_two_things_even_where_one_outline_would_fit_both():
    picture = painted(Thing("square", "green", "large", 0.5, 0.5, 0.2)).copy()
    picture[:140, 112:] = PALETTE["pink"]  # an L is left, and a red square is put into it
    picture[86:136, 118:170] = PALETTE["red"]
    found = judge_picture(picture)[1]
    assert {(each.thing.kind, each.thing.colour) for each in found} == {
        ("", "green"),
        ("square", "red"),
    }
