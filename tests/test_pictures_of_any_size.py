"""Maps over whatever picture a pipeline gave: tall, wide, larger than they are, in any form."""

import io

import numpy as np
import pipelines
import pytest
from PIL import Image

import unet_explained as ux
from unet_explained.show.export import export_heatmaps

SIZE = 57, 113  # a height and a width that are no round number of inches
FORMS = {
    "PIL": lambda pixels: Image.fromarray(pixels),
    "RGBA": lambda pixels: Image.fromarray(pixels).convert("RGBA"),
    "floats to 1": lambda pixels: pixels / 255,
    "half floats": lambda pixels: (pixels / 255).astype(np.float16),
    "four channels": lambda pixels: np.dstack([pixels, np.full(SIZE, 255, np.uint8)]),
    "grey": lambda pixels: pixels[..., 0],
    "alone in a list": lambda pixels: [Image.fromarray(pixels)],
    "grey PIL": lambda pixels: Image.fromarray(pixels[..., 0]),
}


@pytest.fixture(scope="module")
def rec():
    """Of latents that are not square."""
    pipe, _ = pipelines.build("sd")
    with ux.record(pipe) as rec:
        pipelines.run(pipe, "a fish", num_inference_steps=1, height=64, width=128)
    return rec


@pytest.fixture(scope="module")
def pixels():
    """All its channels are alike, so that grey is the same picture."""
    one = np.linspace(0, 255, SIZE[0] * SIZE[1]).reshape(SIZE).astype(np.uint8)
    return np.dstack([one] * 3)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_of_a_picture_is_drawn_alike(rec, pixels, form, tmp_path):
    seen = form(pixels)
    files = [export_heatmaps(image, rec, tmp_path / name) for image, name in
             ((pixels, "expected"), (seen, "found"))]  # fmt: skip
    expected, found = (np.asarray(Image.open(folder / "02-fish.png")) for folder in files)
    assert expected.shape == (*SIZE, 4)
    assert np.array_equal(found, expected)
    expected, found = (ux.explore(rec, image=image).picture for image in (pixels, seen))
    assert found == expected
    assert Image.open(io.BytesIO(found)).size == (113, 57)
    expected, found = (ux.plot_heatmaps(image, rec)._repr_png_() for image in (pixels, seen))
    assert found == expected


@pytest.mark.parametrize("size", [(8, 16), (20, 300), (300, 20), (1024, 2048)])
def test_maps_are_stretched_over_a_picture_of_any_size(rec, size, tmp_path):
    image = np.full((*size, 3), 0.5)
    folder = export_heatmaps(image, rec, tmp_path / "maps")
    heat = np.load(folder / "02-fish.npz")["heat"]
    assert heat.shape == (8, 16)
    drawn = np.asarray(Image.open(folder / "02-fish.png").convert("RGB")).sum(axis=2)
    assert drawn.shape == size
    shown = np.asarray(Image.fromarray(drawn.astype(np.float32)).resize((16, 8), Image.BOX))
    assert np.corrcoef(shown.ravel(), heat.ravel())[0, 1] > 0.8
    height, width = ux.plot_heatmaps(image, rec).axes[0].get_images()[0].get_array().shape[:2]
    assert (height, width) == size
    shorter, longer = sorted(Image.open(io.BytesIO(ux.explore(rec, image=image).picture)).size)
    assert longer == min(1024, max(size))
    assert shorter == longer * min(size) // max(size)


def test_what_is_no_picture_is_refused_before_anything_is_written(rec, tmp_path):
    with pytest.raises(ValueError, match=r"expected one picture, \(height, width, 3\)"):
        export_heatmaps(np.zeros((2, 64, 96, 3)), rec, tmp_path / "maps")
    assert not list(tmp_path.iterdir())
