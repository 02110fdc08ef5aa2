"""Hostile text

in prompts, words, names of modules, files and classes, configs and records: it stays text.
"""

import json
import re
import shutil
import warnings
from contextlib import suppress
from html import escape

import hostile
import hostile_pages as pages
import numpy as np
import pytest
from hostile import CONTROLS, SCRIPTS, STEERING, WRITTEN, Elements
from matplotlib.text import Text
from torch import nn

import unet_explained as ux
from unet_explained.__main__ import main
from unet_explained.show.export import export_heatmaps

pytestmark = pytest.mark.slow

ELEMENTS = {
    "style", "b", "br", "div", "details", "summary", "span", "table", "thead", "tbody", "tr", "th",
    "td", "small", "p",
}  # fmt: skip


@pytest.fixture(scope="module")
def pipe(tiny_folder):
    return ux.load(tiny_folder, device="cpu")


@pytest.fixture(scope="module")
def record_folder(pipe, tmp_path_factory):
    return hostile.plain_record(pipe, tmp_path_factory.mktemp("record"))


@pytest.fixture
def named(record_folder, tmp_path):
    """named(text): a record with that text for its first word, loaded again."""

    def load(text: str):
        folder = hostile.named_record(record_folder, tmp_path / "hostile", text)
        return ux.Recording.load(folder)

    return load


def expect_text(text: str, html: str) -> None:
    """A piece of HTML that shows the text and holds no script."""
    found = Elements(html)
    assert found.tags <= ELEMENTS
    assert not found.handlers
    assert text in found.text


@pytest.mark.parametrize("text", SCRIPTS.values(), ids=SCRIPTS)
@pytest.mark.parametrize("view", ["explorer", "umap", "live"])
def test_a_page_holds_words_as_text(view, text, pipe, named, tmp_path):
    made = hostile.view_of(view, pipe, named, text)
    found = Elements(made.to_html(tmp_path / "page.html").read_text(encoding="utf-8"))
    assert found.tags == {"html", "meta", "title", "style", "body", "main", "script"}
    assert not found.handlers
    saved, program = found.content  # two scripts, both its own, and the first is no program
    assert found.scripts[0]["type"] == "application/json"
    assert any(text in value for value in hostile.strings(json.loads(saved)))
    assert hostile.RUN not in program


@pytest.mark.parametrize("text", SCRIPTS.values(), ids=SCRIPTS)
def test_a_table_holds_the_name_of_its_folder_as_text(text, tiny_config, tmp_path):
    folder = f"{tmp_path}/{text}"
    hostile.config_in(folder, tiny_config)
    expect_text(text, ux.shape_table(folder, depth=1)._repr_html_())


@pytest.mark.parametrize("kind", ["script", "image", "double quote", "comment"])
def test_a_table_holds_names_of_modules_and_classes_as_text(kind, unet, inputs):
    text = SCRIPTS[kind].replace(".", "")
    unet.conv_act = nn.Sequential()
    unet.conv_act.add_module(text, type(text, (nn.SiLU,), {})())
    with ux.record(unet) as recording:
        unet(*inputs)
    html = recording.shapes._repr_html_()
    expect_text(text, html)
    assert Elements(html).text.count(text) == 1
    assert f'title="{escape(f"conv_act.{text}: {text}")}"' in html


@pytest.mark.parametrize("kind", ["script", "image", "single quote"])
def test_what_an_error_says_is_text(kind):
    text = SCRIPTS[kind]
    expect_text(text, pages.told(text)._repr_html_())
    parts = pages.moved(text).children
    (status,) = [part.value for part in parts if type(part).__name__ == "HTML"]
    expect_text(text, status)


def test_a_notebook_exported_by_nbconvert_holds_it_as_text(pipe, named, tiny_config, tmp_path):
    """With every text at once, as without them: the same elements, and no script more."""
    plain, attacked = (
        Elements(pages.nbconverted(pipe, texts, tiny_config, tmp_path / name))
        for name, texts in {"plain": ["nothing"], "attacked": [*SCRIPTS.values()]}.items()
    )
    assert attacked.tags == plain.tags
    assert attacked.handlers == plain.handlers
    assert len(attacked.scripts) - len(plain.scripts) == 0
    for script, content in zip(attacked.scripts, attacked.content):
        assert hostile.RUN not in content or "json" in (script.get("type") or "")


@pytest.mark.browser
@pytest.mark.parametrize("name", pages.PAGES)
def test_in_a_browser_nothing_of_it_runs(name, opened):
    ran, shown = opened
    assert "the canary" in ran  # what is not escaped would be noticed
    assert name not in ran
    assert re.sub(r"\s", "", pages.PAGES[name][1]) in shown[name]


@pytest.fixture(scope="module")
def opened(chromium, pipe, record_folder, tiny_folder, tmp_path_factory):
    """One page with a frame for each: which of them ran a script, and the text each shows."""
    folder = tmp_path_factory.mktemp("pages")
    config = json.loads((tiny_folder / "unet" / "config.json").read_text())
    return pages.opened(chromium, pipe, record_folder, config, folder)


@pytest.mark.browser
def test_in_jupyterlab_nothing_of_it_runs(lab, tiny_folder):
    text = "".join(SCRIPTS.values()).replace(hostile.RUN, "window.hacked=1")
    browser = lab.run(*pages.cells(tiny_folder, text), name="hostile.ipynb", fails=1)
    browser.page.locator(".ux-umap-map").wait_for()
    browser.page.locator(".ux-word").first.wait_for()
    browser.page.locator(".unet-shapes").first.wait_for()
    browser.page.wait_for_timeout(500)
    assert browser.page.evaluate("window.hacked") is None


# ---- pictures


@pytest.mark.parametrize("kind", ["maths", "broken maths"])
@pytest.mark.parametrize("name", pages.FIGURES)
def test_a_picture_shows_it_as_it_is_written(name, kind):
    drawn(pages.FIGURES[name], WRITTEN[kind])


@pytest.mark.parametrize("kind", ["dollar", "backslash", "braces"])
def test_a_picture_of_a_run_shows_its_prompt_as_it_is_written(kind, named):
    recording = named(WRITTEN[kind])
    drawn(lambda text: ux.plot_heatmaps(np.zeros((64, 64, 3), np.uint8), recording), WRITTEN[kind])


def drawn(make, text: str) -> None:
    figure = make(text)
    figure._repr_png_()
    shown = [one for one in figure.findobj(Text) if text in one.get_text()]
    assert shown
    assert not any(one.get_parse_math() for one in shown)


@pytest.mark.parametrize("text", ["a\ud800b", "a\x00b", CONTROLS, "a\nb\n" * 300, "x" * 5000])
def test_a_picture_of_what_no_font_has_or_no_page_holds_is_drawn(text, named):
    figure = pages.FIGURES["heatmap_grid"](text)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        png = figure._repr_png_()
    height, width = int.from_bytes(png[20:24]), int.from_bytes(png[16:20])
    assert max(height, width) < 2000


# ---- files


@pytest.mark.parametrize(
    "word",
    ["../../x", "a/b", "/dev/null", "..", "..\\x", "CON", "x" * 300, "日" * 100, "\0", "a\nb"],
)
def test_maps_are_written_into_their_folder_whatever_the_words(word, named, tmp_path):
    recording, before = named(word), {*tmp_path.rglob("*")}
    folder = export_heatmaps(
        np.zeros((64, 64, 3), np.uint8), recording, tmp_path / "deep" / "maps", layer="mid_block*"
    )
    new = {*tmp_path.rglob("*")} - before - {folder, folder.parent}
    assert {file.parent for file in new} == {folder}
    assert len(new) == 2 * 3 + 1
    about = json.loads((folder / "metadata.json").read_text())
    assert about["words"][0]["word"] == word


def test_the_tour_writes_into_its_folder_whatever_the_prompt(tiny_folder, tmp_path, capsys):
    out = tmp_path / "deep" / "tour"
    options = ["--model", str(tiny_folder), "--steps", "1", "--out", str(out)]
    assert main(["tour", "--prompt", "../../x /etc/y", *options]) == 0
    assert {path.parent for path in tmp_path.rglob("*.*")} == {out}


EDITS = {
    "no object": lambda s: [1],
    "a function for a dtype": lambda s: s.update(dtype="load"),
    "a function for a tensor's dtype": lambda s: s["calls"][0][3][0].__setitem__(3, "save"),
    "a tensor elsewhere": lambda s: s["runs"][0]["steps"][0].update(timestep={"tensor": "../../x"}),
    "an unknown option": lambda s: s["options"].update(run="rm"),
    "no texts": lambda s: s.pop("texts") and None,
    "a text that is none": lambda s: s["texts"][0].update(text=7),
    "a row of no text": lambda s: s["runs"][0]["steps"][0]["batch"][0].__setitem__(0, 99),
    "another version": lambda s: s.update(version={"a": 1}),
}


@pytest.mark.parametrize("kind", EDITS)
def test_a_record_that_this_package_did_not_write_is_refused(kind, record_folder, tmp_path):
    folder = hostile.edited_record(record_folder, tmp_path / "record", EDITS[kind])
    with pytest.raises(ValueError, match=re.escape(f"{folder}")):
        ux.Recording.load(folder)


@pytest.mark.parametrize("content", [b"[" * 10**6, b"\xff\x00", b"", b"version https://git-lfs"])
@pytest.mark.parametrize("name", ["recording.json", "tensors.safetensors"])
def test_a_damaged_file_of_a_record_is_named(name, content, record_folder, tmp_path):
    folder = shutil.copytree(record_folder, tmp_path / "record")
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(str(folder / name))):
        ux.Recording.load(folder)


def test_code_beside_a_tokenizer_never_runs(tiny_folder, tmp_path, monkeypatch):
    folder = shutil.copytree(tiny_folder, tmp_path / "pipeline")
    hostile.add_code(folder / "tokenizer")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("builtins.input", lambda *words: pytest.fail("a person was asked"))
    with pytest.raises(ValueError, match="code of its own") as refusal:
        ux.load(folder, device="cpu")
    assert "trust_remote_code" not in str(refusal.value)
    assert not (tmp_path / "executed").exists()


# ---- terminals

TERMINAL = {
    "prompt": [
        "heatmap",
        f"a {CONTROLS} circle",
        "--model",
        "TINY",
        "--steps",
        "1",
        "--out",
        "OUT",
    ],
    "file": ["shapes", "bundled", "--depth", "1", "--csv", f"OUT{CONTROLS}"],
    "folder": ["shapes", f"TMP/{CONTROLS}", "--depth", "1"],
    "missing model": ["heatmap", "a", "--model", f"TMP/no/{CONTROLS}"],
    "class": ["heatmap", "a", "--model", "TMP/class"],
    "module": ["heatmap", "a", "--model", "TMP/weights"],
    "preset": ["shapes", CONTROLS],
    "stage": ["shapes", "bundled", "--stage", CONTROLS],
    "device": ["heatmap", "a", "--model", "TINY", "--device", CONTROLS],
    "option": ["shapes", "bundled", f"--{CONTROLS}"],
    "number": ["heatmap", "a", "--steps", CONTROLS],
}


@pytest.mark.parametrize("case", TERMINAL)
def test_a_terminal_is_not_steered(case, tiny_folder, tiny_config, tmp_path, capsys):
    hostile.config_in(tmp_path / CONTROLS, tiny_config)
    hostile.named_in_files(tiny_folder, tmp_path)
    places = {"TINY": str(tiny_folder), "TMP": str(tmp_path), "OUT": str(tmp_path / "out.png")}
    arguments = TERMINAL[case]
    for place, path in places.items():
        arguments = [argument.replace(place, path) for argument in arguments]
    with suppress(SystemExit):  # of argparse
        main(arguments)
    shown = "".join(capsys.readouterr())
    assert not STEERING & set(shown)
    assert "taken" in shown  # it was said


def test_a_table_in_a_terminal_is_plain(unet, inputs):
    text = "\x1b[31mtaken\x9b"  # in a narrow terminal the middle of a longer name is left out
    unet.conv_act = nn.Sequential()
    unet.conv_act.add_module(text, type(text, (nn.SiLU,), {})())
    with ux.record(unet) as recording:
        unet(*inputs)
    assert "taken" in str(recording.shapes)
    assert not STEERING & set(str(recording.shapes))
