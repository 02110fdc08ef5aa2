"""The glossary names every class and stage of the network, and its links lead somewhere."""

import inspect
import re
from importlib import import_module
from pathlib import Path

import nbformat
import pytest

from unet_explained.recording.rows import STAGES

CHINESE = r"[^:·]*[\u4e00-\u9fff][^:·]*"
FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = (
    "00_start_here", "00b_why_it_predicts", "01_time", "02_conv_in_and_resnet", "03_attention",
    "04_down", "05_mid", "06_up", "07_post_process_and_the_loop", "08_words_to_pixels",
    "09_full_size", "10_what_if", "11_traps", "12_build_it_yourself",
)  # fmt: skip


@pytest.fixture(scope="module")
def text() -> str:
    return (FOLDER / "glossary.md").read_text()


def classes() -> set[str]:
    """The modules of the network, but for the two names that only bundle arguments or results."""
    names = set()
    for room in ("embeddings", "resnet", "attention", "blocks", "unet"):
        module = import_module(f"unet_explained.model.{room}")
        found = inspect.getmembers(module, inspect.isclass)
        names |= {name for name, each in found if each.__module__ == module.__name__}
    return names - {"Context", "UNet2DConditionOutput"}


@pytest.mark.parametrize("name", sorted(classes()))
def test_every_class_of_the_network_is_a_term(text, name):
    assert re.search(rf"^- <a id=.*\*\*{name}\*\*", text, re.MULTILINE)


@pytest.mark.parametrize(("number", "stage"), list(enumerate(STAGES))[1:])
def test_every_stage_is_a_heading(text, number, stage):
    assert f"\n## Stage {number}: {stage}\n" in text


def test_every_term_is_a_line_with_its_own_anchor_its_chinese_name_and_a_notebook(text):
    lines = [line for line in text.splitlines() if line.startswith("- ")]
    parts = [
        re.match(rf'- <a id="([a-z0-9-]+)"></a>\*\*[^:]+ · {CHINESE}: .+\]\(\w+\.ipynb\)$', line)
        for line in lines
    ]
    assert [line for line, part in zip(lines, parts) if not part] == []
    anchors = [part.group(1) for part in parts]
    assert len(set(anchors)) == len(anchors)


def test_every_term_stands_in_the_notebook_that_its_line_names(text):
    terms = re.findall(r'^- <a id="[^"]+"></a>(.+?): .*\]\((\w+\.ipynb)\)$', text, re.MULTILINE)
    assert len(terms) > 60
    for names, notebook in terms:
        said = "\n".join(
            str(cell) for cell in nbformat.read(FOLDER / notebook, as_version=4).cells
        ).lower()
        assert any(
            (bold or code).lower() in said
            for bold, code in re.findall(r"\*\*(.+?)\*\*|`(.+?)`", names)
        ), (names, notebook)


def test_links_lead_to_notebooks_and_headings_that_exist(text):
    files = set(re.findall(r"\]\((\w+)\.ipynb\)", text))
    assert files == set(NOTEBOOKS)
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    slugs = {re.sub(r"[^a-z0-9 -]", "", each.lower()).replace(" ", "-") for each in headings}
    assert set(re.findall(r"\]\(#([a-z0-9-]+)\)", text)) == slugs


def test_notebooks_link_to_anchors_that_exist(text):
    anchors = set(re.findall(r'<a id="([^"]+)"', text))
    for path in FOLDER.glob("*.ipynb"):
        wanted = set(re.findall(r"glossary\.md#([\w-]+)", path.read_text(encoding="utf-8")))
        assert wanted, path.name
        assert wanted <= anchors, path.name
