"""The pictures of figures/ can be made again, and those that need no training are as they are."""

import shutil

import numpy as np
import pytest
from PIL import Image

from figures import __main__ as figures
from figures import bundled
from training.evaluate import evaluate
from unet_explained.run.hub import BUNDLED

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory):
    """A small one: two pictures of two steps, graded, on a copy of the weights."""
    folder = tmp_path_factory.mktemp("evaluation")
    shutil.copytree(BUNDLED, folder / "weights")
    documents = folder / "weights", folder / "HISTORY.md"
    table = evaluate(*documents, count=2, steps=2, out=folder / "rows", processes=2)
    assert table.startswith("noun, by layer and timestep")
    for document in (folder / "weights" / "README.md", folder / "HISTORY.md"):
        assert "2 captions of held-out scenes, a picture each; 2 steps" in document.read_text()
    with pytest.raises(ValueError, match="other weights or steps"):
        evaluate(*documents, count=2, steps=3, out=folder / "rows")
    return folder / "rows"


def pixels(figure, path) -> np.ndarray:
    figure.savefig(path, dpi=100, bbox_inches="tight")
    return np.asarray(Image.open(path).convert("RGB")).astype(float)


@pytest.mark.long
def test_those_of_an_evaluation(evaluation, tmp_path):
    pictures = [
        bundled.samples(evaluation, count=2, columns=2),
        bundled.failures(evaluation),
        bundled.pointing(evaluation),
    ]
    for picture in pictures:
        assert pixels(picture, tmp_path / "picture.png").std() > 5


@pytest.mark.parametrize("name", ["u", "training"])
def test_those_that_need_nothing_are_as_they_are_kept(name, tmp_path):
    made = pixels(figures.PICTURES[name](), tmp_path / "picture.png")
    kept = np.asarray(Image.open(figures.HERE / f"{name}.png").convert("RGB"))
    assert made.shape == kept.shape
    assert np.abs(made - kept).mean() < 1


def test_views_in_jupyterlab_are_shown_light_and_dark_and_are_small():
    text = (figures.HERE.parent / "docs" / "views.md").read_text(encoding="utf-8")
    pictures = sorted((figures.HERE / "lab").iterdir())
    assert len(pictures) == 3 * 2 * 2
    for picture in pictures:
        assert f"../figures/lab/{picture.name}" in text
        assert picture.stat().st_size < 250_000
        assert Image.open(picture).size == (
            int(picture.name.split("-")[1].removesuffix(".png")),
            900,
        )


@pytest.mark.long
def test_the_first_picture_of_the_readme(tmp_path):
    assert pixels(figures.PICTURES["heatmaps"](), tmp_path / "picture.png").std() > 5
