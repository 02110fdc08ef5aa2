"""Pictures of a run, of word maps beside the truth, and of what a model costs."""

import numpy as np
import pytest

from unet_explained.show.bars import layer_bars, stage_bars, token_bars
from unet_explained.show.colours import STAGE_COLOURS
from unet_explained.show.features import spreads
from unet_explained.show.heatmaps import HIT, MISS, map_grid
from unet_explained.show.runs import pictures_row, step_view

IMAGE = np.full((64, 96, 3), 200, np.uint8)
LAYER = "{}.attentions.0.transformer_blocks.0.attn2"


def a_map(row: int, column: int) -> np.ndarray:
    """8 x 12, largest at one place."""
    values = np.zeros((8, 12), np.float32)
    values[row, column] = 0.5
    return values


@pytest.mark.parametrize("fine", [1, 8])
@pytest.mark.parametrize(("column", "sign"), [(2, HIT), (9, MISS)])
def test_a_sign_says_whether_a_map_points_into_the_true_mask(column, sign, fine):
    mask = np.zeros((64 * fine, 96 * fine), bool)
    mask[:, : 48 * fine] = True
    axis = map_grid(IMAGE, [a_map(3, column)], ["word"], truths=[mask]).axes[0]
    assert (axis.lines[-1].get_marker(), axis.lines[-1].get_color()) == sign
    left, right, lower, upper = axis.images[-1].get_extent()
    (across, down) = axis.lines[-1].get_xydata()[0]
    assert (across - left) / (right - left) == pytest.approx((column + 0.5) / 12, abs=0.05)
    assert (down - upper) / (lower - upper) == pytest.approx(3.5 / 8, abs=0.07)
    outline = axis.collections[0].get_paths()[0].vertices[:, 0]
    assert (outline - left) / (right - left) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("columns", [2, 5])
def test_panels_stand_in_reading_order_and_none_on_another(columns):
    axis = map_grid(IMAGE, [a_map(0, 0)] * 5, "abcde", title="all", columns=columns).axes[0]
    wide, high = axis.get_xlim()[1], axis.get_ylim()[0]
    places = [image.get_extent() for image in axis.images[::2]]
    for index, (left, right, lower, upper) in enumerate(places):
        row = index // columns
        assert 0 < left < right < wide
        assert all(right < other[0] for other in places[index + 1 : (row + 1) * columns])
        assert 0 < upper < lower < high
        assert all(lower < other[3] for other in places[(row + 1) * columns :])
        assert (lower - upper) / (right - left) == pytest.approx(64 / 96), "as the picture is"
        text = axis.texts[index]
        assert text.get_position()[0] == pytest.approx((left + right) / 2)
        assert text.get_position()[1] < upper


def test_maps_keep_their_numbers_and_their_own_scale_or_share_one():
    maps = [a_map(1, 1), 2 * a_map(2, 2)]
    figures = (map_grid(IMAGE, maps, "ab", same_scale=each) for each in (False, True))
    own, same = (figure.axes[0] for figure in figures)
    assert [image.get_clim()[1] for image in own.images[1::2]] == [0.5, 1.0]
    assert [image.get_clim()[1] for image in same.images[1::2]] == [1.0, 1.0]
    assert [text.get_text() for text in own.texts] == ["a\nmax 0.500", "b\nmax 1.000"]
    assert np.array_equal(own.images[3].get_array(), maps[1])


def test_padding_is_one_bar_and_nothing_is_lost():
    axis = token_bars(["<start>", "$a_1</w>", "<end>"], [0.5, *[0.1] * 5]).axes[0]
    heights = [bar.get_height() for bar in axis.patches]
    assert heights == pytest.approx([0.5, 0.1, 0.1, 0.3])
    assert axis.get_xticklabels()[1].get_text() == "$a_1"


def test_bars_of_layers_have_the_colours_of_their_stages():
    names = [LAYER.format("down_blocks.0"), LAYER.format("mid_block"), "mean of all layers"]
    axis = layer_bars(names, [0.1, 0.2, 0.3], "title", "share", chance=0.06).axes[0]
    colours = [bar.get_facecolor() for bar in axis.patches]
    expected = layer_bars(names, [1, 1, 1], "", "").axes[0].patches
    assert colours == [bar.get_facecolor() for bar in expected]
    assert len(set(colours)) == 3
    assert axis.get_yticklabels()[1].get_text() == "mid_block.attentions.0"


def test_stages_stand_behind_each_other_and_empty_ones_are_left_out():
    axis = stage_bars({"a": {"input": 0, "down": 2.0, "up": 3.0}}, "title", "unit").axes[0]
    assert [(bar.get_x(), bar.get_width()) for bar in axis.patches] == [(0, 2), (2, 3)]


def test_a_step_shows_all_four_channels_and_its_levels():
    latents = np.stack([np.full((4, 6), i, np.float32) for i in range(4)])
    panels, right = step_view(latents, IMAGE, [0.0, 0.36, 1.0], 1).axes
    four, preview = (np.asarray(image.get_array()) for image in panels.images)
    assert four.shape == (8, 12)
    assert [four[0, 0], four[0, 11], four[7, 0], four[7, 11]] == [0, 1, 2, 3]
    assert np.array_equal(preview, IMAGE)
    dots = [line.get_ydata()[0] for line in right.lines if line.get_marker() == "o"]
    assert dots == pytest.approx([0.6, 0.8])


def test_rows_and_spreads_have_a_panel_for_each():
    axis = pictures_row([IMAGE] * 3, "abc", title="all").axes[0]
    assert len(axis.images) == 3
    assert [text.get_text() for text in axis.texts] == ["a", "b", "c"]
    rows = spreads({"a": np.arange(9.0), "b": -np.arange(9.0)}, STAGE_COLOURS["up"]).axes
    assert [axis.texts[0].get_text().split("\n")[0] for axis in rows] == ["a", "b"]
