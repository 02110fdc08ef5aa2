"""Controls over a picture: which control a choice becomes, and what moving one does."""

import base64
import gc
import io
import time
import weakref
from threading import Thread

import numpy as np
import pytest
import torch
from ipywidgets import Checkbox, Dropdown, SelectionSlider
from PIL import Image

import unet_explained as ux
from unet_explained.show.controls import controls
from unet_explained.show.heatmaps import maps_over
from unet_explained.show.picture import Picture

drawn = []


def draw(step: int, word: str, own_scale: bool) -> Picture:
    drawn.append((step, word, own_scale))
    if word == "<bad>":
        raise ValueError("no such <word>")
    figure = Picture(figsize=(1, 1))
    figure.subplots().imshow(np.full((2, 2), step), vmin=0, vmax=3)
    return figure


@pytest.fixture
def view():
    drawn.clear()
    choices = dict(step=range(3), word=("red", "circle", "<bad>"), own_scale=(False, True))
    return controls(draw, first={"step": 1}, **choices)


def test_each_choice_becomes_the_control_that_fits(view):
    kinds = [type(child) for child in view.children[:3]]
    assert kinds == [SelectionSlider, Dropdown, Checkbox]
    assert view.values == {"step": 1, "word": "red", "own_scale": False}


def test_moving_a_control_draws_once_and_keeps_the_picture(view):
    picture = view.children[-1]
    first = picture.value
    view.choose(step=2)
    second = picture.value
    assert second != first
    view.choose(step=1)
    assert picture.value == first
    assert drawn == [(1, "red", False), (2, "red", False)]


def test_a_slider_over_what_was_recorded_is_quick(tiny_pipe, capsys):
    with ux.record(tiny_pipe.unet) as rec:
        run = tiny_pipe("a red circle on a blue square", steps=3)

    def maps(word, step):
        shown = rec.attention(word, step=step).numpy(), rec.attention(word).numpy()
        return maps_over(run.image, shown, ["now", "the mean"])

    words, spent = run.prompt.words[1:4], []
    view = controls(maps, word=words, step=range(3))
    for word in words:
        view.choose(word=word)
        for step in (1, 2, 0):
            start = time.process_time()  # of this process alone, however busy the machine
            view.choose(step=step)
            spent.append(time.process_time() - start)
    with capsys.disabled():
        print(f"\na slider's move: {1000 * max(spent):.0f} ms at most")
    assert view.children[-2].value == "", "no error"
    assert max(spent) < 0.15


@pytest.mark.parametrize("collecting", [True, False])
def test_a_picture_leaves_no_figure_for_a_collection_of_everything(collecting):
    figures = []

    def draw(step):
        figure = Picture(figsize=(1, 1))
        figure.subplots()
        figures.append(weakref.ref(figure))
        return figure

    (gc.enable if collecting else gc.disable)()
    try:
        view = controls(draw, step=range(3))
        view.choose(step=1)
        left = [figure() for figure in figures if figure() is not None]
        assert gc.isenabled() == collecting, "as it was"
    finally:
        gc.enable()
    assert len(figures) == 2
    assert not left


def test_an_error_while_drawing_is_shown_and_does_not_stay(view):
    status = view.children[-2]
    view.choose(word="<bad>")
    assert "no such &lt;word&gt;" in status.value
    view.choose(word="circle")
    assert status.value == ""


def test_a_page_without_a_kernel_gets_the_picture_and_what_was_chosen(view):
    still = Image.open(io.BytesIO(base64.b64decode(view._repr_mimebundle_()["image/png"])))
    live = Image.open(io.BytesIO(view.children[-1].value)).convert("RGB")
    assert still.crop((0, 0, *live.size)).tobytes() == live.tobytes()
    below = np.asarray(still)[live.height :]
    assert below.min() < 128 < below.max() == 255, "a line of text"


def test_weights_can_be_drawn_from_any_thread():
    weight = torch.nn.Parameter(torch.ones(1))

    def draw(step):
        return Picture(figsize=(1, float((step * weight).numpy()[0])))

    view = controls(draw, step=(1, 2))
    mover = Thread(target=view.choose, kwargs={"step": 2})  # as JupyterLab does
    mover.start()
    mover.join()
    assert view.children[-2].value == ""
    assert Image.open(io.BytesIO(view.children[-1].value)).height == 192


def test_bad_choices_are_refused():
    with pytest.raises(ValueError, match="step: expected at least one value"):
        controls(draw, step=())
    with pytest.raises(ValueError, match="step: 7 is not one of"):
        controls(draw, first={"step": 7}, step=range(3))
    with pytest.raises(ValueError, match="no control is named stp"):
        controls(draw, first={"stp": 1}, step=range(3))
    with pytest.raises(TypeError, match="no control can be named first"):
        controls(draw, first=(1, 2), step=range(3))
