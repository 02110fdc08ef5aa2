"""The command line, as a person types it."""

import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
from PIL import Image

from unet_explained.__main__ import main

ROOT = Path(__file__).parents[1]


def test_help_teaches_and_is_quick():
    start = time.perf_counter()
    shown = subprocess.run(
        [sys.executable, "-m", "unet_explained", "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert time.perf_counter() - start < 2
    for word in ("tour", "shapes", "heatmap", "lab", "examples"):
        assert word in shown.stdout


def test_shapes_prints_the_table(capsys):
    assert main(["shapes", "sd15", "--depth", "1"]) == 0
    shown = capsys.readouterr().out
    assert "859,520,964 parameters, 1,606.5 GFLOP" in shown
    assert "up_blocks.3" in shown


def test_shapes_of_one_stage_as_csv(tmp_path, capsys):
    assert main(["shapes", "sdxl", "--stage", "mid", "--csv", str(tmp_path / "mid.csv")]) == 0
    lines = (tmp_path / "mid.csv").read_text().splitlines()
    assert lines[0].startswith("stage,name,class,axes")
    assert all(line.startswith("mid,") for line in lines[1:])


def test_heatmap_writes_one_picture(tiny_folder, tmp_path, capsys):
    out = tmp_path / "maps" / "heat.png"
    arguments = ["heatmap", "a red circle", "--model", str(tiny_folder), "--device", "cpu"]
    assert main([*arguments, "--steps", "2", "--negative", "blue", "--out", str(out)]) == 0
    assert Image.open(out).width > 500


def test_heatmap_is_a_file(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["heatmap", "a red circle", "--out", f"{tmp_path / 'maps'}/"])
    assert "expected the name of a picture" in capsys.readouterr().err
    assert not (tmp_path / "maps").exists()


def test_heatmap_of_nothing_that_is_painted_is_answered_and_run_anyway(tmp_path, capsys):
    out = tmp_path / "heat.png"
    arguments = ["heatmap", "asdf qwer", "--steps", "1", "--device", "cpu", "--out", str(out)]
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert "prompt: no thing that this model paints is in the prompt: circle, " in said
    assert said.endswith("; name one, or add --anyway\n")
    assert not out.exists()
    assert main([*arguments, "--anyway"]) == 0
    assert out.exists()


def test_the_tour_writes_what_it_says(tiny_folder, tmp_path, capsys):
    out = tmp_path / "tour"
    arguments = ["--model", str(tiny_folder), "--device", "cpu", "--steps", "2", "--out", str(out)]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    names = sorted(file.name for file in out.iterdir())
    assert names == ["heatmaps.png", "picture.png", "shapes-of-this-run.txt", "shapes-sd15.txt"]
    assert all(name in shown for name in names)
    assert "Next:" in shown
    assert "attn2" in (out / "shapes-of-this-run.txt").read_text()
    assert "query=4096 key=77" in (out / "shapes-sd15.txt").read_text()


def test_options_before_and_after_a_command_are_not_lost(tiny_folder, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--steps", "2", "heatmap", "a red circle", "--model", str(tiny_folder)])
    assert "heatmap" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["heatmap", "a", "--model", "sd15"], "names an architecture"),
        (["heatmap", "a", "--model", "./nowhere"], "no such folder or file"),
        (["heatmap", "a", "--device", "cpu", "--dtype", "float16"], "bfloat16"),
        (["shapes", "sd99"], "sd15"),
        (["shapes", "SDXL"], "(sdxl"),
        (["shapes", "sd15", "--stage", "9"], "pre-process"),
    ],
)
def test_what_does_not_fit_is_said_in_a_line(arguments, message, capsys):
    assert main(arguments) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown


@pytest.fixture
def opened(monkeypatch, tmp_path) -> list[list[str]]:
    """The commands that would start JupyterLab."""
    commands = []
    serve = "unet_explained.commands.lab._serve"
    monkeypatch.setattr(serve, lambda command: commands.append(command) or 0)
    monkeypatch.chdir(tmp_path)
    return commands


@pytest.mark.parametrize("installed", [False, True])
def test_lab_opens_the_notebooks_of_a_clone_or_a_copy(installed, opened, tmp_path, monkeypatch):
    if installed:
        (tmp_path / "site" / "notebooks").mkdir(parents=True)
        (tmp_path / "site" / "notebooks" / "00_start_here.ipynb").write_text("{}")
        monkeypatch.setattr("unet_explained.commands.lab.PACKAGE", tmp_path / "site")
    assert main(["lab"]) == 0
    (command,) = opened
    assert command[1:3] == ["-m", "jupyterlab"]
    first = command[4].partition("/lab/tree/")[2]
    assert (Path(command[3]) / first).is_file()
    assert (Path(command[3]).parent == Path()) == installed


def test_lab_passes_on_what_is_jupyterlabs(opened):
    options = ["--no-browser", "--port", "8890", "--ip=127.0.0.1", "--allow-root"]
    assert main(["lab", *options]) == 0
    assert opened[0][5:] == options


def test_only_lab_passes_options_on(opened, capsys):
    with pytest.raises(SystemExit):
        main(["shapes", "sd15", "--no-browser"])
    assert "unrecognized arguments: --no-browser" in capsys.readouterr().err
    assert not opened


@pytest.mark.parametrize(("user", "status"), [(0, 1), (0, 0), (1000, 1)])
def test_lab_as_root_is_told_what_to_pass(opened, user, status, monkeypatch, capsys):
    monkeypatch.setattr("unet_explained.commands.lab._serve", lambda command: status)
    monkeypatch.setattr("os.geteuid", lambda: user, raising=False)
    assert main(["lab", "--port", "8890"]) == status
    told = "python -m unet_explained lab --port 8890 --allow-root" in capsys.readouterr().err
    assert told == (user == 0 and status != 0)


def test_warnings_are_the_callers_again_afterwards(capsys):
    before = warnings.showwarning
    assert main(["shapes", "sd15", "--depth", "1"]) == 0
    assert warnings.showwarning is before
