"""The pictures of the first lessons show the numbers that they were given."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from unet_explained.lessons.told_time import guess_clean_latents
from unet_explained.show import attention, bars, features, timesteps
from unet_explained.show.colours import STAGE_COLOURS

RNG = np.random.default_rng(0)
TIMES = list(range(0, 100, 10))
HOSTILE = r"$\frac{hostile}$"


def drawn(figure) -> tuple[int, int]:
    """The size of the picture: it can be drawn at all, whatever the texts in it."""
    return Image.open(io.BytesIO(figure._repr_png_())).size


def test_waves_at_marks_the_chosen_time():
    waves = RNG.standard_normal((100, 32))
    figure = timesteps.waves_at(waves, 40, (0, 5, 9))
    upper = figure.axes[0]
    (dots,) = [line.get_xydata() for line in upper.lines if line.get_marker() == "o"]
    assert np.array_equal(dots[:, 0], [40, 40, 40])
    assert np.allclose(dots[:, 1] - upper.get_yticks(), waves[40, [0, 5, 9]])
    for line, channel, height in zip(upper.lines, (0, 5, 9), upper.get_yticks()):
        assert np.allclose(line.get_ydata() - height, waves[:, channel])
    assert np.array_equal(figure.axes[-1].lines[0].get_ydata(), waves[40])


def test_alike_at_shows_the_row_of_the_chosen_time():
    matrices = {HOSTILE: np.eye(10), "after": np.ones((10, 10))}
    figure = timesteps.alike_at(matrices, TIMES, 30)
    curves = [line.get_ydata() for line in figure.axes[0].lines[:2]]
    assert np.array_equal(curves, [np.eye(10)[3], np.ones(10)])
    assert drawn(figure)[0] > 300


def test_a_shift_moves_the_colours_and_not_the_scale():
    shifts, feature = np.linspace(-2, 3, 10), RNG.standard_normal((6, 4))
    scales = set()
    for index, t in ((1, 10), (7, 70)):
        maps = {"shifted": feature + shifts[index], HOSTILE: np.abs(feature)}
        figure = timesteps.shift_view(shifts, TIMES, t, maps)
        images = figure.axes[0].images
        assert np.array_equal(images[0].get_array(), feature + shifts[index])
        scales |= {tuple(np.round(image.get_clim(), 9)) for image in images[:2]}
    assert len(scales) == 1


def test_the_walk_shows_every_station_in_order():
    stations = {str(i): np.full((16, 16), float(i + 1)) for i in range(6)} | {HOSTILE: -np.eye(16)}
    figure = features.walk_view(stations)
    axis = figure.axes[0]
    for image, (name, values) in zip(axis.images, stations.items(), strict=True):
        assert np.array_equal(image.get_array(), values)
        assert image.get_clim()[1] == np.abs(values).max(), name
    words = [text.get_text() for text in axis.texts]
    assert words == [*stations, *"›" * 6]
    assert drawn(figure)[0] > 300


def test_channel_spread_shows_each_channels_mean():
    values = RNG.standard_normal((8, 5, 5)) + np.arange(8)[:, None, None]
    (axis,) = features.channel_spread({"before": values}, groups=4).axes
    assert np.allclose(axis.lines[0].get_ydata(), values.mean(axis=(1, 2)))


def test_a_column_of_the_matrix_is_a_map_in_reading_order():
    weights = RNG.random((24, 77))
    figure = attention.weight_matrix(weights, ["start", "red", HOSTILE], 1, (6, 4))
    shown = figure.axes[1].images[0].get_array()
    assert np.array_equal(shown, weights[:, 1].reshape(6, 4))
    assert drawn(figure)[0] > 300


def test_pixel_view_shows_the_map_and_a_bar_for_every_word():
    image, looks = np.full((64, 96, 3), 200, np.uint8), RNG.random((4, 6))
    figure = attention.pixel_view(image, (2, 5), looks, ["a", HOSTILE], [0.2, 0.7])
    panels, bars = figure.axes
    assert np.array_equal(panels.images[-1].get_array(), looks)
    assert [bar.get_width() for bar in bars.patches] == [0.2, 0.7]
    assert drawn(figure)[0] > 300


def test_halves_apart_has_the_stages_colours():
    names = ["conv_in", "down_blocks.0.attentions.1", "mid_block.resnets.0"]
    axis = bars.halves_apart(names, [0, 0.5, 1]).axes[0]
    from matplotlib.colors import to_hex

    colours = [to_hex(bar.get_facecolor()) for bar in axis.patches[:3]]
    assert colours == [STAGE_COLOURS[stage] for stage in ("pre-process", "down", "mid")]
    labels = [label.get_text() for label in axis.get_xticklabels()]
    assert labels == ["conv_in", "down 0 attention 1", "mid resnet 0"]


@pytest.mark.parametrize("figure", [
    timesteps.over_time(RNG.standard_normal((10, 8)), TIMES, title=HOSTILE),
    timesteps.told_and_true({20: [1, 2], 80: [2, 1]}, [20, 80]),
    features.activation_curve(RNG.standard_normal(100), np.tanh, "tanh"),
], ids=["over_time", "told_and_true", "activation_curve"])  # fmt: skip
def test_it_can_be_drawn(figure):
    assert drawn(figure)[0] > 300


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_a_perfect_network_told_the_true_time_guesses_the_clean_latents(kind):
    kept = torch.linspace(0.99, 0.01, 1000)
    clean, noise = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    root, rest = kept[300].sqrt(), (1 - kept[300]).sqrt()
    right = noise if kind == "epsilon" else root * noise - rest * clean

    class Perfect:
        device, dtype = torch.device("cpu"), torch.float32

        def __call__(self, x, times, context):
            return SimpleNamespace(sample=right.expand(len(x), -1, -1, -1))

    config = SimpleNamespace(prediction_type=kind)
    scheduler = SimpleNamespace(alphas_cumprod=kept, config=config)
    pipe = SimpleNamespace(unet=Perfect(), scheduler=scheduler)
    told = guess_clean_latents(pipe, root * clean + rest * noise, torch.zeros(1, 77, 6), [300, 800])
    assert torch.allclose(told[0], clean[0], atol=1e-5)
    assert not torch.allclose(told[1], clean[0], atol=1e-1)
