"""What the notebooks need beyond the package: looking at a known picture, timing."""

from random import Random

import torch

from unet_explained.bundled.captions import describe
from unet_explained.bundled.draw import render
from unet_explained.bundled.world import sample_scene
from unet_explained.lessons.grading import grade_maps
from unet_explained.lessons.measure import measure
from unet_explained.run.look import maps_of


def test_a_known_picture_is_looked_at_once_for_each_timestep(tiny_pipe):
    picture = render(sample_scene(Random(0)), 64)
    recording = maps_of(tiny_pipe, picture, "a red circle", t=(900, 100))
    assert recording.timesteps == [[900, 100]]
    late, early = (recording.attention("circle", picture=index) for index in (0, 1))
    assert late.shape == (8, 8)
    assert not torch.equal(late, early)


def test_every_thing_is_graded_in_every_layer_and_in_their_mean(tiny_pipe):
    scene = sample_scene(Random(1), count=2)
    rows = list(grade_maps(tiny_pipe, scene, describe(scene, Random(1)), timestep=300))
    layers = {row["layer"] for row in rows}
    assert "mean of all layers" in layers
    assert len(rows) == 2 * len(layers)
    assert all(0 <= row["iou"] <= 1 and 0 < row["chance"] < 1 for row in rows)


def test_a_call_is_measured_after_one_to_warm_up():
    calls = []
    measured = measure(lambda: calls.append(1) or len(calls), repeats=3)
    assert len(calls) == 4
    assert measured.result == 4
    assert measured.seconds < 1
    assert "ms" in repr(measured)
