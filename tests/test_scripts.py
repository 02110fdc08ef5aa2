"""The views' scripts: real modules that find each other, and their pure parts, in node."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from matplotlib import colormaps

from unet_explained.show.colours import look
from unet_explained.widgets.modules import EXPORT, FOLDER, IMPORT, joined

PAGE = FOLDER.parent / "page"
SCRIPTS = sorted([*FOLDER.glob("*.js"), *PAGE.glob("*.js")])
needs_node = pytest.mark.skipif(
    shutil.which("node") is None, reason="needs node (apt-get install nodejs)"
)


@pytest.fixture
def ask(tmp_path):
    """What an expression over a script's exports is, as node computes it."""

    def evaluate(script: str, expression: str):
        module = tmp_path / f"{script}.mjs"
        module.write_text(joined(script))
        code = f"import * as it from {module.as_uri()!r}; console.log(JSON.stringify({expression}))"
        command = ["node", "--input-type=module", "-e", code]
        done = subprocess.run(command, capture_output=True, text=True)
        assert not done.returncode, done.stderr
        return json.loads(done.stdout)

    return evaluate


def test_each_script_has_a_name_of_its_own():
    assert len({script.stem for script in SCRIPTS}) == len(SCRIPTS)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_what_a_script_imports_is_there_and_is_used(script):
    source = script.read_text()
    assert len(source.splitlines()) <= 250
    for names, other in IMPORT.findall(source):
        given = EXPORT.findall((script.parent / f"{other}.js").read_text())
        for name in map(str.strip, names.split(",")):
            assert name in given, f"{other}.js does not export {name}"
            assert len(re.findall(rf"\b{name}\b", source)) > 1, f"{name} is not used"


@pytest.mark.parametrize("script", ["umap", "explorer", "live"])
def test_a_view_is_one_script_with_each_module_once(script):
    whole = joined(script)
    assert not IMPORT.search(whole)
    scopes = re.findall(r"^const (\w+)_js = ", whole, re.MULTILINE)
    assert len(scopes) == len(set(scopes)) > 2
    assert whole.rstrip().endswith("export default { render };")


@needs_node
@pytest.mark.parametrize("script", ["umap", "explorer", "live"])
def test_a_view_is_a_script_that_loads(ask, script):
    assert ask(script, "typeof it.default.render") == "function"


@needs_node
def test_pages_have_the_colours_of_the_pictures(ask):
    shares = np.linspace(0, 1, 256)
    found = ask("over", f"{shares.tolist()}.map((x) => it.heat({json.dumps(look())}, x))")
    assert found == colormaps["inferno"](np.arange(256), bytes=True)[:, :3].tolist()


@needs_node
def test_a_map_is_interpolated_as_bilinear_resizing_does(ask):
    values = np.array([3.0, 7.0, 1.0])
    pairs = ask("over", "it.between(3, 4)")
    found = [values[a] * (1 - share) + values[b] * share for a, b, share in pairs]
    places = (np.arange(12) + 0.5) / 4 - 0.5
    np.testing.assert_allclose(found, np.interp(places, [0, 1, 2], values))


@needs_node
@pytest.mark.parametrize(
    ("script", "expression", "text"),
    [
        ("umap_info", "it.count(803.3e9)", "803 G"),
        ("umap_info", "it.count(999)", "999"),
        ("umap_info", "it.percent(0.0000004)", "< 0.01 %"),
        ("umap_info", "it.percent(0.333)", "33 %"),
        ("umap_info", "it.shape([['batch', 2], ['channel', 320]])", "2 × 320"),
        ("explorer_words", "it.number(0.0001)", "<.001"),
        ("explorer_words", "it.number(0)", "0.000"),
        ("explorer_words", "it.number(null)", "not finite"),
        ("explorer_words", "it.nth({ number: 2 })", ", the second"),
        ("explorer_words", "it.nth({ number: 0 })", ""),
    ],
)  # fmt: skip
def test_numbers_are_written_for_people(ask, script, expression, text):
    assert ask(script, expression) == text


@needs_node
def test_source_is_read_as_python_reads_it(ask):
    code = 'def f(x):  # "no text"\n    """Two\n    lines."""\n    return x + 1.5 if x else "#"\n'
    lines = ask("umap_listing", f"it.coloursOf({json.dumps(code)})")
    assert "\n".join("".join(text for text, _ in line) for line in lines) == code
    kinds = [[text, kind] for line in lines for text, kind in line if kind]
    assert kinds == [
        ["def", "word"], ["# \"no text\"", "remark"], ['"""Two', "text"], ['    lines."""', "text"],
        ["return", "word"], ["1.5", "number"], ["if", "word"], ["else", "word"], ['"#"', "text"],
    ]  # fmt: skip


@needs_node
def test_a_prompt_is_clicked_together_in_english(ask):
    groups = {"colours": ["red", "orange"], "sizes": ["small"], "relations": ["left of"]}
    clicks = [
        ("sizes", "small"), ("colours", "red"), ("things", "house"), ("relations", "left of"),
        ("colours", "orange"), ("things", "fish"), ("things", "tree"), ("places", "on the left"),
        ("grounds", "aqua"),
    ]  # fmt: skip
    chain = '""'
    for group, word in clicks:
        chain = f"it.added({chain}, {group!r}, {word!r}, {json.dumps(groups)})"
    expected = "a small red house left of an orange fish and a tree on the left on an aqua ground"
    assert ask("live_palette", chain) == expected
