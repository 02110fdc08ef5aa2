"""The house rules that a machine can check."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=lambda c: c[0])
def test_ruff_has_nothing_to_say(command):
    ruff = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "."], cwd=ROOT, capture_output=True, text=True
    )
    assert ruff.returncode == 0, ruff.stdout + ruff.stderr


@pytest.mark.slow
def test_every_type_of_the_package_holds():
    mypy = subprocess.run([sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True)
    assert mypy.returncode == 0, mypy.stdout + mypy.stderr


def test_the_package_neither_imports_nor_installs_what_stands_beside_it():
    beside = re.compile(r"^\s*(from|import) (training|figures|benchmarks|tests)\b", re.MULTILINE)
    for path in (ROOT / "unet_explained").rglob("*.py"):
        assert not beside.search(path.read_text()), path
    installed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert all(name.split(".")[0] == "unet_explained" for name in installed["packages"])


def test_importing_the_package_loads_nothing_heavy():
    code = (
        "import sys, unet_explained\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'matplotlib'} & set(sys.modules)\n"
        "unet_explained.record, unet_explained.UNet2DConditionModel\n"
        "heavy |= {'diffusers', 'transformers', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_lowest_versions_that_are_allowed_are_those_that_were_tried():
    """.ci/lowest.txt, with which the fast tests were run (see CONTRIBUTING), has the bounds."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = project["dependencies"], *project["optional-dependencies"].values()
    bounds = dict(bound.split(">=") for group in groups for bound in group)
    lowest = dict(line.split("==") for line in (ROOT / ".ci/lowest.txt").read_text().split())

    def numbers(version):  # 2.9 is 2.9.0
        return [*map(int, version.split(".")), 0, 0][:3]

    for name, bound in bounds.items():
        assert numbers(lowest[name]) == numbers(bound), name
