"""How far a change travels, and the pictures of it: the numbers are those of the model."""

import numpy as np
import pytest
import torch

import unet_explained as ux
from unet_explained.lessons.reach import convolution_reach, ripple
from unet_explained.show import attention, features, heatmaps


def test_reach_counts_kernels_and_strides():
    unet = ux.UNet2DConditionModel.from_config("bundled", seed=0)
    sides = convolution_reach(unet)
    assert sides["conv_in"] == 3
    assert sides["down_blocks.0.resnets.1"] == 11
    assert sides["down_blocks.0.downsamplers.0"] == 13
    assert sides["down_blocks.3.resnets.1"] == 137
    assert list(sides.values()) == sorted(sides.values())


def test_the_counted_reach_of_a_resnet_is_where_gradients_are_not_zero():
    unet = ux.UNet2DConditionModel.from_config("bundled", seed=0)
    x = torch.randn(1, unet.config.in_channels, 32, 32, requires_grad=True)
    resnet = unet.down_blocks[0].resnets[0]
    hidden = resnet.conv2(resnet.conv1(unet.conv_in(x)))  # without the norms, which see everything
    hidden[0, :, 16, 16].square().sum().backward()
    seen = x.grad.abs().sum(dim=(0, 1)) > 0
    side = convolution_reach(unet)["down_blocks.0.resnets.0"]
    assert seen.sum() == side**2
    assert seen[16 - side // 2 : 17 + side // 2, 16 - side // 2 : 17 + side // 2].all()


def test_a_ripple_begins_where_the_pixel_is_and_leaves_the_run_alone():
    run = ux.load(device="cpu")("a red circle", steps=1, height=128, width=128)
    before = run.recording.given(0)["sample"].clone()
    maps = ripple(run, 0, (5, 9), "conv_in", "down_blocks.0.resnets.0")
    assert torch.equal(run.recording.given(0)["sample"], before)
    rows, columns = np.nonzero(maps["conv_in"])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (4, 6, 8, 10)
    row, column = divmod(int(maps["down_blocks.0.resnets.0"].argmax()), 16)
    assert abs(row - 5) <= 3
    assert abs(column - 9) <= 3  # convolutions reach so far; norms reach all, but faintly


IMAGE = np.full((64, 64, 3), 200, np.uint8)
MAP = np.random.default_rng(0).random((8, 8))


@pytest.mark.parametrize(
    ("figure", "count"),
    [
        (lambda: features.reach_grid({"a": MAP, "b": MAP}, {"a": 3}, (2, 2), (64, 64)), 2),
        (lambda: attention.looks_grid(np.ones((8, 8, 8, 8)), IMAGE), 2),
    ],
)
def test_there_is_a_panel_for_each(figure, count):
    figure = figure()
    assert len(figure.axes[0].images) == count
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_maps_lie_beside_the_picture_each_with_its_pixel_framed():
    axis = heatmaps.maps_over(IMAGE, [MAP, MAP], ["$a", "b"], pixel=(1, 2)).axes[0]
    places = [axis.images[index].get_extent() for index in (0, 2, 4)]
    assert [text.get_text() for text in axis.texts] == ["the picture", "$a", "b"]
    for (left, right, lower, upper), frame in zip(places, axis.patches, strict=True):
        eighth = (right - left) / 8
        assert frame.get_xy() == pytest.approx((left + 2 * eighth, upper + (lower - upper) / 8))
        assert frame.get_width() == pytest.approx(eighth)
    assert axis.figure._repr_png_().startswith(b"\x89PNG")


def test_channels_are_named_by_their_number():
    figure = features.channels(np.stack([MAP - 0.5] * 20), first=16)
    assert len(figure.axes[0].images) == 4  # 16 to 19: there are no more
    assert figure.axes[0].texts[0].get_text().startswith("channel 16, to ±0.")
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_like_features_have_like_colours():
    values = np.zeros((6, 4, 4))
    values[2, :, 2:] = 5
    picture = features.principal_colours(values + 1e-3 * MAP[:4, :4])
    assert picture.shape == (4, 4, 3)
    left, right = picture[:, :2, 0].astype(int), picture[:, 2:, 0].astype(int)
    assert abs(left.mean() - right.mean()) > 200
