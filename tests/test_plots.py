"""Pictures of arrays: a panel for each map, the numbers on it those of the array."""

import io

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image
from pipelines import build, run

import unet_explained as ux
from unet_explained.recording import record
from unet_explained.show.heatmaps import heatmap_grid, word_maps

IMAGE = np.full((64, 96, 3), 200, np.uint8)


def maps_in(figure):
    """What is drawn of each map: the picture is first, and in grey again beneath every one."""
    return figure.axes[0].images[2::2]


def titles(figure) -> list[str]:
    bold = [text for text in figure.axes[0].texts if text.get_fontweight() == "bold"]
    return [text.get_text() for text in bold]


@pytest.mark.parametrize("count", [1, 4, 9])
def test_a_panel_for_every_word_with_its_own_map(count):
    maps = [np.full((8, 12), 0.1 * (i + 1)) for i in range(count)]
    figure = heatmap_grid(IMAGE, [f"word{i}" for i in range(count)], maps)
    assert titles(figure) == [f"word{i}" for i in range(count)]
    for drawn, text, values in zip(maps_in(figure), figure.axes[0].texts, maps, strict=False):
        left, right, _, upper = drawn.get_extent()
        assert text.get_position()[0] == pytest.approx((left + right) / 2)
        assert text.get_position()[1] < upper
        assert np.array_equal(drawn.get_array(), values)


def test_one_scale_for_all_or_each_its_own():
    maps = [np.full((8, 12), 0.1), np.full((8, 12), 0.4)]
    same = [drawn.get_clim() for drawn in maps_in(heatmap_grid(IMAGE, "ab", maps))]
    own = [drawn.get_clim() for drawn in maps_in(heatmap_grid(IMAGE, "ab", maps, same_scale=False))]
    assert same == [(0, 0.4)] * 2
    assert own == [(0, 0.1), (0, 0.4)]


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

    assert titles(ux.plot_heatmaps(runs[1], rec)) == ["a", "blue", "house", "a", "house"]
    assert titles(ux.plot_heatmaps(runs[0], rec)) == ["a", "red", "frog"]
    alone = ux.plot_heatmaps(runs[1].image, rec, run=1, picture=0)
    assert titles(alone)[1:3] == ["blue", "house"]
    with pytest.raises(ValueError, match="2 runs were recorded"):
        ux.plot_heatmaps(runs[1].image, rec)
    with pytest.raises(ValueError, match="the prompt '' has no words"):
        ux.plot_heatmaps(runs[1], rec, half="unconditional")


def test_heatmaps_of_some_words_alone(tiny_pipe):
    with ux.record(tiny_pipe.unet) as rec:
        made = tiny_pipe("a red frog left of a blue house", steps=1)
    figure = ux.plot_heatmaps(made, rec, words=["blue house", "frog"])
    assert titles(figure) == ["blue house", "frog"]
    for drawn, word in zip(maps_in(figure), ["blue house", "frog"], strict=True):
        assert np.array_equal(drawn.get_array(), rec.attention(word))
    assert titles(ux.plot_heatmaps(made, rec, words="frog")) == ["frog"]


def test_heatmaps_of_what_a_pipeline_gave():
    pipe, options = build("sd")
    with ux.record(pipe) as rec:
        out = pipe(["a red frog", "a blue house"], **options | {"output_type": "pil"})
    expected = ux.plot_heatmaps(out.images[1], rec, picture=1)
    for made in (out, out.images, np.stack(out.images)):
        found = ux.plot_heatmaps(made, rec, picture=1)
        assert titles(found) == ["a", "blue", "house"]
        assert np.array_equal(found.axes[0].images[0].get_array(), out.images[1])
        assert found._repr_png_() == expected._repr_png_()
    with ux.record(pipe) as one:
        run(pipe, "a red frog", **options)
    assert ux.plot_heatmaps(out.images[:1], one).axes
    with pytest.raises(ValueError, match="2 pictures, and one is drawn"):
        ux.plot_heatmaps(out, one)


PROMPT = "a beautiful and detailed painting of a red frog left of a blue house " * 3


def test_a_title_of_several_lines_keeps_them():
    figure = heatmap_grid(IMAGE, ["word"], [np.ones((8, 12))], title=f"first\n{PROMPT}")
    first, *others = figure.get_suptitle().split("\n")
    assert first == "“first"
    assert len(others) > 2


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("top", [1.0, 0.137, 0.0412])
def test_all_that_is_written_stands_within_the_figure(count, top):
    maps = [np.full((8, 12), top)] * count
    figure = heatmap_grid(IMAGE, ["word"] * count, maps, title=PROMPT)
    figure.canvas.draw()
    width, height = figure.bbox.size
    for text in figure.findobj(Text):
        if text.get_text():
            box = text.get_window_extent()
            assert -1 < box.x0 < box.x1 < width + 1, text
            assert -1 < box.y0 < box.y1 < height + 1, text
