"""What views can be turned to: pictures and runs of a record; and a step's own picture."""

from dataclasses import replace

import numpy as np
import pytest

import unet_explained as ux
from unet_explained.show.png import thumbnail
from unet_explained.widgets.explorer import explore
from unet_explained.widgets.explorer_page import choice
from unet_explained.widgets.subject import SIDE
from unet_explained.widgets.widget import Asked

PROMPTS = "a red frog", "a blue square"


@pytest.fixture(scope="module")
def pipe(tiny_folder):
    return ux.load(tiny_folder, device="cpu")


@pytest.fixture(scope="module")
def recorded(pipe):
    """Two runs of different lengths under one recorder."""
    with ux.record(pipe.unet) as rec:
        runs = [pipe(prompt, steps=2 + n) for n, prompt in enumerate(PROMPTS)]
    return rec, runs


def test_a_view_of_several_runs_is_turned_to_each_and_asked_as_one_of_it(recorded):
    rec, runs = recorded
    images = [run.image for run in runs]
    view = explore(rec, image=images)
    assert view.subjects == ["run 0: “a red frog”", "run 1: “a blue square”"]
    first = view.still()
    for n in (1, 0):
        view.answer({"subject": n})
        alone = explore(rec, image=images[n], run=n)
        assert view.subject == alone.subject == n
        assert (view.title, view.maps, view.about) == (alone.title, alone.maps, alone.about)
        asked = {"maps": choice(step=1)}
        assert view.answer(asked) == alone.answer(asked)
        assert view.picture == alone.picture != b""
        assert (view.still() == first) == (n == 0)
    with pytest.raises(Asked, match="subject 2 is not among the 2"):
        view.answer({"subject": 2})
    assert explore(rec, run=0).about["timesteps"] != explore(rec, run=1).about["timesteps"]


def test_a_view_of_several_pictures_is_turned_to_each(pipe):
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    rec = ux.maps_of(pipe, picture, PROMPTS[0], t=[900, 100])
    view = explore(rec)
    assert view.subjects == [f"picture {n}: “{PROMPTS[0]}”" for n in (0, 1)]
    assert view.about["timesteps"] == [900]
    view.answer({"subject": 1})
    assert view.about["timesteps"] == [100]
    assert explore(rec, picture=1).maps == view.maps


def test_the_map_of_the_u_is_turned_to_each_run(recorded):
    rec, runs = recorded
    view = ux.umap(rec)
    assert view.subjects == ["run 0: “a red frog”", "run 1: “a blue square”"]
    view.selected, view.colour = "mid_block", "activity"
    for n in (1, 0):
        view.answer({"subject": n})
        alone = ux.umap(rec, run=n)
        assert (view.title, view.timesteps) == (alone.title, list(runs[n].timesteps))
        asked = {"attention": "mid_block", "step": view.step}
        assert view.answer(asked) == alone.answer(asked)
        assert (view.selected, view.colour, view.subject) == ("mid_block", "activity", n)
    view.answer({"subject": 1})
    view.step = 2
    view.answer({"subject": 0})
    assert view.step == 1  # the last that this one has
    with pytest.raises(Asked, match="subject 2 is not among the 2"):
        view.answer({"subject": 2})


def test_of_one_there_is_no_choice(recorded, pipe):
    assert explore(recorded[1][0]).subjects == []


def test_whose_a_picture_is_must_be_said(recorded):
    rec, runs = recorded
    with pytest.raises(ValueError, match="image: one picture, and 2 were recorded: pass all in"):
        explore(rec, image=runs[0].image)
    with pytest.raises(ValueError, match="expected 2 pictures in a list, got a list of 3"):
        explore(rec, image=[runs[0].image] * 3)
    of_second = explore(rec, image=runs[1].image, run=1)
    of_second.answer({"subject": 0})
    assert of_second.picture == b""


def test_a_steps_map_lies_on_the_picture_as_it_was_foreseen_then(pipe):
    steps = list(pipe.denoise(PROMPTS[0], steps=3))
    run = pipe(PROMPTS[0], steps=3)
    assert [np.array_equal(a, b.denoised) for a, b in zip(run.denoised, steps)] == [True] * 3
    view = explore(run)
    for step in steps:
        content, (data,) = view.answer({"picture": step.index})
        seen = np.frombuffer(data, np.uint8).reshape(*content["size"], 3)
        assert np.array_equal(seen, step.glimpse())
    with pytest.raises(Asked, match="step 3 is not among the 3"):
        view.answer({"picture": 3})
    assert {"picture": 2} in view.baked()


def test_of_a_vae_of_unknown_colours_it_is_decoded_and_small(pipe):
    run = replace(pipe, latent_rgb=None)(PROMPTS[0], steps=1, height=512)
    content, (data,) = explore(run).answer({"picture": 0})
    expected = np.asarray(thumbnail(run.image, SIDE))  # the last step foresees the picture
    assert content["size"] == [SIDE, 32]
    assert np.array_equal(np.frombuffer(data, np.uint8).reshape(expected.shape), expected)


def test_a_record_alone_has_the_finished_picture_alone(recorded):
    view = explore(recorded[0], run=0)
    assert not view.about["foreseen"]
    with pytest.raises(Asked, match="as it was at this step is not known"):
        view.answer({"picture": 0})
