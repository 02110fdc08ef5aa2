"""Pictures of arrays: a panel for each map, the numbers on it those of the array."""

import io

import numpy as np
import pytest
from PIL import Image

import unet_explained as ux
from unet_explained.recording import record
from unet_explained.show.plots import heatmap_grid, word_maps

IMAGE = np.full((64, 96, 3), 200, np.uint8)


def panels(figure):
    """The axes that show a map: all but the picture, the empty ones and the colour bar."""
    return [axis for axis in figure.axes if len(axis.images) == 2]


@pytest.mark.parametrize("count", [1, 4, 9])
def test_a_panel_for_every_word_with_its_own_map(count):
    maps = [np.full((8, 12), 0.1 * (i + 1)) for i in range(count)]
    figure = heatmap_grid(IMAGE, [f"word{i}" for i in range(count)], maps)
    shown = panels(figure)
    assert [axis.get_title() for axis in shown] == [f"word{i}" for i in range(count)]
    for axis, values in zip(shown, maps):
        assert np.array_equal(axis.images[1].get_array(), values)


def test_one_scale_for_all_or_each_its_own():
    maps = [np.full((8, 12), 0.1), np.full((8, 12), 0.4)]
    same = [axis.images[1].get_clim() for axis in panels(heatmap_grid(IMAGE, "ab", maps))]
    own = panels(heatmap_grid(IMAGE, "ab", maps, same_scale=False))
    assert same[0] == same[1]
    assert own[0].images[1].get_clim() != own[1].images[1].get_clim()


def test_a_repeated_word_has_a_map_for_each_time_it_is_said(tiny_pipe):
    with record(tiny_pipe.unet) as recording:
        tiny_pipe("a red circle left of a red square", steps=1)
    maps = word_maps(recording, layer="mid_block*")
    assert len(maps) == 8
    for index, occurrence in ((1, 0), (6, 1)):
        expected = recording.attention("red", occurrence=occurrence, layer="mid_block*")
        assert np.array_equal(maps[index], expected)
    assert not np.array_equal(maps[1], maps[6])


def test_it_shows_itself_in_a_notebook_and_takes_any_text():
    title = r"$\frac{hostile}$ <script>"
    png = heatmap_grid(IMAGE, [title], [np.ones((8, 12))], title=title)._repr_png_()
    assert Image.open(io.BytesIO(png)).size[0] > 300


def test_heatmaps_of_a_run_among_others_and_of_a_picture_alone(tiny_pipe):
    with ux.record(tiny_pipe.unet, halves="both") as rec:
        runs = [tiny_pipe(prompt, steps=1) for prompt in ("a red frog", "a blue house, a house")]

    def titles(figure):
        return [axis.get_title() for axis in figure.axes if axis.get_title()][1:]

    assert titles(ux.plot_heatmaps(runs[1], rec)) == ["a", "blue", "house", "a", "house"]
    assert titles(ux.plot_heatmaps(runs[0], rec)) == ["a", "red", "frog"]
    assert titles(ux.plot_heatmaps(runs[1].image, rec, run=1, picture=0))[1:3] == ["blue", "house"]
    with pytest.raises(ValueError, match="2 runs were recorded"):
        ux.plot_heatmaps(runs[1].image, rec)
    with pytest.raises(ValueError, match="the prompt '' has no words"):
        ux.plot_heatmaps(runs[1], rec, half="unconditional")
