"""What an evaluation measures, and the tables that it writes."""

from random import Random

import pytest

from training.card import END, START, by_layer, in_full, in_short, put, wilson
from training.evaluate import evaluate
from training.score import held_out_scene, worth_of_kind
from unet_explained.bundled.captions import describe
from unet_explained.bundled.world import Scene, Thing, held_out_pair
from unet_explained.run.checkpoints import load
from unet_explained.run.sums import SUMS


def test_an_evaluation_does_not_mix_rows(tmp_path):
    (tmp_path / SUMS).write_text("")
    (tmp_path / "of.txt").write_text("rows of something else")
    with pytest.raises(ValueError, match="choose another folder"):
        evaluate(tmp_path, tmp_path / "HISTORY.md", count=1, steps=1, out=tmp_path)


def test_of_500_held_out_scenes_424_things_are_of_an_unseen_pair():
    things = [thing for index in range(500) for thing in held_out_scene(index)[0].things]
    assert len(things) == 966
    assert sum(held_out_pair(thing.colour, thing.kind) for thing in things) == 424


def test_the_evaluation_tells_what_the_word_for_a_kind_is_worth():
    thing = Thing("butterfly", "orange", "large", 0.5, 0.5, 0.2)
    scene = Scene("sand", (thing,))
    errors = worth_of_kind(load(device="cpu"), scene, describe(scene, Random(0)), Random(0))
    assert list(errors) == ["800", "700", "600"]
    for right, wrong in errors.values():
        assert 0 < right < wrong, "a well learnt kind"


HEAT = {"role": "noun", "points": True, "layers": [True, False],
        "iou": 0.4, "area": 0.1, "chance_iou": 0.05}  # fmt: skip
HEATS = [HEAT, HEAT | {"role": "colour", "points": False}]
ROW = {"things": ["star", "fish"], "unseen": [True, False], "shown": 1,
       "colour": [True, True], "kind": [False, True], "place": [True],
       "judge_render": [True], "judge_round_trip": [True], "layers": ["down", "up"],
       "rendered": {"500": HEATS, "100": HEATS}, "sampled": [],
       "kind_word": {"700": [0.5, 0.6]}}  # fmt: skip
DEAF = ROW | {"kind_word": {"700": [0.5, 0.5]}}


def test_a_document_gets_what_was_measured_between_its_marks(tmp_path):
    (tmp_path / "README.md").write_text(f"before\n{START}\nold\n{END}\nafter\n")
    put(tmp_path / "README.md", "new")
    assert (tmp_path / "README.md").read_text() == f"before\n{START}\nnew\n{END}\nafter\n"


@pytest.mark.parametrize("full", [False, True], ids=["card", "history"])
def test_the_tables_say_how_often_it_came_out_right(full):
    rows = [ROW, ROW, DEAF]
    text = in_full(rows, 10, 33.0) if full else in_short(rows, 10)
    for line in (
        "3 captions of held-out scenes, a picture each; 10 steps; 95 % intervals,",
        "| every thing in its colour and kind | 0 % | 0 to 56 % | 3 |",
        "| a thing is in its kind | 50 % | 19 to 81 % | 6 |",
        "| a thing of an unseen pair is in its colour | 100 % | 44 to 100 % | 3 |",
        "| a thing of an unseen pair is in its kind | 0 % | 0 to 56 % | 3 |",
        "| a thing of an unseen pair is in both | 0 % | 0 to 56 % | 3 |",
        "| three things asked for: all in their colours | none |  | 0 |",
        "| as many things as were asked for | 0 % | 0 to 56 % | 3 |",
        "| noun | sampled pictures, things that came out as asked for | none |  | | | | 0 |",
    ):
        assert line in text.splitlines()
    for line in (
        "| every thing in its colour | 100 % | 44 to 100 % | 3 |",
        "| a thing of a seen pair is in both | 100 % | 44 to 100 % | 3 |",
        "| a star is in its kind | 0 % | 0 to 56 % | 3 |",
        "| two things asked for: all in their kinds | 0 % | 0 to 56 % | 3 |",
        "VAE round trip at 512 x 512: 33.0 dB PSNR.",
        "| 13.3 % | 6.7 % | 700 | 3 |",
        "| colour | renders noised to t = 100 | 0 % | 0 to 56 % | 10 % | 0.40 | 0.05 | 3 |",
    ):
        assert (line in text.splitlines()) == full


def test_maps_that_point_right_are_counted_by_layer_and_timestep():
    assert [line.split() for line in by_layer([ROW] * 3).splitlines()] == [
        ["noun,", "by", "layer", "and", "timestep", "500", "100"],
        ["down", "100", "100"],
        ["up", "0", "0"],
        ["all,", "averaged", "100", "100"],
        ["colour,", "by", "layer", "and", "timestep", "500", "100"],
        ["down", "100", "100"],
        ["up", "0", "0"],
        ["all,", "averaged", "0", "0"],
    ]


def test_an_interval_is_wilsons():
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-3)
