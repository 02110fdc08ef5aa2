"""What a change does to one forward, in numbers and in pictures."""

import numpy as np
import pytest
import torch

from unet_explained.lessons.outcome import Outcome, compare, forward_again, share
from unet_explained.recording.intervene import intervene
from unet_explained.show.bars import change_bars, percent
from unet_explained.show.runs import change_row


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_a_forward_again_sees_what_the_step_saw(tiny_pipe, kind):
    tiny_pipe.scheduler.register_to_config(prediction_type=kind)
    steps, loop = [], tiny_pipe.denoise("a red circle", steps=2, guidance=3.0)
    while True:
        try:
            steps.append(next(loop))
        except StopIteration as end:
            run = end.value
            break
    for step in steps:
        seen = forward_again(run, step.index)
        torch.testing.assert_close(seen.latents, step.denoised, rtol=1e-4, atol=1e-4)
        assert seen.image.size == run.image.size
    with pytest.raises(IndexError, match="step 2 is not among the 2"):
        forward_again(run, 2)


def test_a_forward_again_is_under_the_interventions_of_its_moment(tiny_pipe):
    run = tiny_pipe("a red circle", steps=1)
    before = forward_again(run, 0)
    with intervene(tiny_pipe.unet, "mid_block", lambda x: 0 * x):
        assert share(forward_again(run, 0), before) > 0
    after = forward_again(run, 0)
    assert torch.equal(after.prediction, before.prediction)
    assert share(after, before) == 0
    figure = compare(before, after, title="a title")
    assert "difference: 0 %" in [text.get_text() for text in figure.axes[0].texts]


def test_share_and_percent():
    outcomes = [Outcome(torch.tensor(x), torch.zeros(1), None) for x in ([3.0, 4.0], [0.0, 0.0])]
    assert share(outcomes[0], outcomes[0]) == 0
    assert share(outcomes[1], outcomes[0]) == 1
    assert [percent(s) for s in (0.123, 0.999, 0.0123, 0.00012, 0.0)] == [
        "12 %", "100 %", "1.2 %", "0.012 %", "0 %",
    ]  # fmt: skip


def test_a_row_shows_prediction_difference_and_pictures():
    maps = np.zeros((4, 6)), np.ones((4, 6))
    images = np.zeros((8, 12, 3), np.uint8), np.full((8, 12, 3), 9, np.uint8)
    figure = change_row(maps, images, title="$no maths", share=0.5)
    shown = [image.get_array() for image in figure.axes[0].images]
    for found, expected in zip(shown, (*maps, maps[1], *images), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert "difference: 50 %" in [text.get_text() for text in figure.axes[0].texts]
    assert figure._repr_png_()[:4] == b"\x89PNG"


@pytest.mark.parametrize("log", [False, True])
def test_bars_stand_in_the_order_given(log):
    figure = change_bars({"a $": 0.5, "b": 0.0, "c": 0.001}, "C0", log=log)
    axis = figure.axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a $", "b", "c"]
    assert [bar.get_width() for bar in axis.patches] == [0.5, 0.0, 0.001]
    assert figure._repr_png_()[:4] == b"\x89PNG"
