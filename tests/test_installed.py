"""The wheel in an environment of its own: what it says it needs is all that it needs."""

import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
BUILT_FROM = ("unet_explained", "notebooks", "pyproject.toml", "README.md", "LICENSE")
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy: a build leaves folders behind, and takes in what an older one left."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in BUILT_FROM:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    command = [*PIP, "wheel", "--no-deps", "--no-build-isolation", "-w", out, source]
    subprocess.run(command, check=True)
    return next(out.glob("*.whl"))


def installed(wheel: Path, folder: Path, extras: set[str]) -> Path:
    """The Python of a new environment: the wheel, and of this one's packages those it asks for."""
    venv.create(folder, symlinks=True)
    site = next(folder.glob("lib/python*/site-packages"))
    subprocess.run([*PIP, "install", "--no-deps", "--target", site, wheel], check=True)
    metadata = next(site.glob("unet_explained-*.dist-info/METADATA")).read_text().splitlines()
    asked = [line.removeprefix("Requires-Dist: ") for line in metadata if "Requires-Dist: " in line]
    for name in needed(asked, extras, set()):
        package = distribution(name)
        for part in {file.parts[0] for file in package.files} - {"..", "__pycache__"}:
            if not (site / part).exists():
                (site / part).symlink_to(package.locate_file(part))
    return folder / "bin" / "python"


def needed(requirements: list[str], extras: set[str], seen: set) -> Iterator[str]:
    """Names of the packages that these requirements name, and of those that they require."""
    for each in map(Requirement, requirements):
        wanted = each.marker is None or any(
            each.marker.evaluate({"extra": extra}) for extra in (extras or {""})
        )
        key = each.name.lower(), frozenset(each.extras)
        if wanted and key not in seen:
            seen.add(key)
            yield each.name
            yield from needed(distribution(each.name).requires or [], each.extras, seen)


@pytest.fixture(scope="module")
def core(wheel, tmp_path_factory) -> Path:
    return installed(wheel, tmp_path_factory.mktemp("core"), set())


def run(python: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    """In an empty folder, with nothing of this process's environment that could help."""
    environment = {"PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [python, "-I", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


USE = """
import importlib.util, sys
for name in ("jupyterlab", "ipywidgets", "anywidget", "matplotlib", "pandas", "torchinfo",
             "playwright", "accelerate", "pytest"):
    assert importlib.util.find_spec(name) is None, name
sys.modules["rich"] = None  # transformers brings it: to import it now fails as if it were not there

import unet_explained as ux

print(ux.shape_table("sd15").total_params)
pipe = ux.load()
with ux.record(pipe.unet, "mid_block") as rec:
    run = pipe("a blue fish", steps=2)
assert run.image.size == (512, 512)
assert rec.attention("fish").shape == (64, 64)
assert len(rec.shapes.to_csv().splitlines()) == len(rec.shapes.rows) + 1
assert str(rec.shapes) and rec.shapes._repr_html_()
assert run.replay(1, "conv_out")["conv_out"][0].shape == (2, 4, 64, 64)
with ux.intervene(pipe.unet, "mid_block", lambda x: 0 * x):
    pipe("a blue fish", steps=1)
assert ux.check(lambda x: x, lambda x: x, 1)

from transformers import CLIPTokenizer
from unet_explained.run.single import CLIP
from unet_explained.run.family import TABLES

assert CLIPTokenizer.from_pretrained(CLIP)("a cat").input_ids == [49406, 320, 2368, 49407]
assert "OpenAI" in (CLIP / "LICENSE").read_text()
assert set(TABLES["pipelines"]) == {"sd1", "sd2", "sdxl"}
"""


def test_the_core_works_without_what_draws_and_teaches(core, tmp_path):
    done = run(core, "-c", USE, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "859520964\n"
    bar = re.compile(r"\s*(denoising: .*)?")  # of a run that takes over a second
    said = [line for line in re.split(r"[\r\n]", done.stderr) if not bar.fullmatch(line)]
    assert said == [], "something complains of what is not installed"


@pytest.mark.parametrize(
    ("code", "package"),
    [
        ("ux.plot_heatmaps", "matplotlib"),
        ("ux.controls", "matplotlib, ipywidgets"),
        ("ux.umap", "anywidget"),
        ("ux.explore", "anywidget"),
        ("ux.live", "anywidget"),
        ("ux.source(ux.record)", "IPython"),
        ("ux.summary('sd15')", "torchinfo"),
        ("ux.shape_table('sd15').to_pandas()", "pandas"),
    ],
)
def test_what_the_core_lacks_is_named_where_it_is_needed(core, tmp_path, code, package):
    done = run(core, "-c", f"import unet_explained as ux; {code}", cwd=tmp_path)
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: this needs {package}, ")
    assert "pip install 'unet-explained[lab]'" in last


@pytest.mark.parametrize("command", [[], ["heatmap", "a fish"], ["lab"]], ids=str)
def test_a_command_says_so_before_any_work(core, tmp_path, command):
    done = run(core, "-m", "unet_explained", *command, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("unet_explained: this needs ")
    assert not done.stdout
    assert not list(tmp_path.iterdir())


def test_the_tour_runs_from_a_wheel(wheel, tmp_path_factory, tmp_path):
    python = installed(wheel, tmp_path_factory.mktemp("lab"), {"lab"})
    done = run(python, "-m", "unet_explained", "--steps", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {file.name for file in (tmp_path / "unet-tour").iterdir()} == {
        "picture.png", "heatmaps.png", "shapes-of-this-run.txt", "shapes-sd15.txt",
    }  # fmt: skip
