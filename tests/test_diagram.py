"""The U in one picture: drawn from the modules that there are, each once, with their shapes."""

import io
import re

import pytest
from PIL import Image

import unet_explained as ux
from unet_explained.show.diagram import draw_u
from unet_explained.show.plan import plan_of

NO_MID = {"mid_block_type": None, "cross_attention_dim": 768, "sample_size": 64}


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


@pytest.mark.parametrize("what", ["sd15", "sdxl", "x4", "refiner", "bundled", "ssd1b", NO_MID])
def test_every_resnet_attention_sampler_and_block_is_drawn_once(what):
    table = ux.shape_table(what)
    drawn = texts(draw_u(table))
    for kind, word in (
        ("ResnetBlock2D", "resnet"),
        ("Transformer2DModel", r"attention( ×\d+)?"),
        ("Downsample2D", "downsample"),
        ("Upsample2D", "upsample"),
    ):
        count = sum(row.kind == kind for row in table.rows)
        assert sum(bool(re.fullmatch(word, text)) for text in drawn) == count
    for name in (row.name for row in table.rows if re.fullmatch(r"\w+_blocks\.\d", row.name)):
        assert drawn.count(name) == 1
    assert ("mid_block" in drawn) == (what is not NO_MID)


def test_the_shapes_on_the_arrows_are_those_of_the_table():
    drawn = texts(draw_u("sd15", batch=3, height=32, width=48))
    assert drawn.count("3 × 320 × 32 × 48") == 3 + 1  # the first level's skips; up_blocks.3
    assert "1280 + 640 = 1920" in drawn
    assert not any(text.endswith("…") for text in drawn)  # the legend is there to its end
    assert drawn.count("3 × 1280 × 4 × 6") == 3 + 3  # skips; down_blocks.2 and 3, mid_block
    assert "3 × 1280, into 22 resnets" in drawn
    assert "attention ×10" in texts(draw_u("sdxl"))


def test_what_blocks_give_and_the_axes_of_both_ends_are_written_out():
    table = ux.shape_table("sd15")
    drawn = texts(draw_u(table))
    assert drawn.count("batch × channel × height × width") == 2
    for block, shape in (("mid_block", "2 × 1280 × 8 × 8"), ("up_blocks.0", "2 × 1280 × 16 × 16")):
        assert shape in drawn[drawn.index(block) : drawn.index(block) + 3]
    assert not [text for text in drawn if "…" in text], "nothing is cut off"


def test_a_line_joins_the_two_ends_of_a_skip():
    table = ux.shape_table("sd15")
    lines = plan_of(table).lines
    assert len(lines) == 12
    for line in lines:
        row = next(row for row in table.rows if row.name == line.left[-1])
        assert row.skip == f"to {line.right[0]}"


def test_it_takes_a_model_and_shows_itself_inside_its_frame():
    unet = ux.UNet2DConditionModel.from_config("bundled", seed=0)
    figure = draw_u(unet, height=32, width=32)
    assert 900 < Image.open(io.BytesIO(figure._repr_png_())).width < 1100
    renderer = figure.canvas.get_renderer() if hasattr(figure.canvas, "get_renderer") else None
    for text in figure.axes[0].texts:
        box = text.get_window_extent(renderer)
        assert box.x0 >= 0, text
        assert box.x1 <= figure.bbox.width, text
