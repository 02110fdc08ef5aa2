"""The notebooks run from top to bottom, are committed executed, and lead from one to the next."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
import torch

from notebooks.__main__ import FOLD, HERE, answers, execute

NOTEBOOKS = sorted(HERE.glob("*.ipynb"))
PACKAGE = [file.read_text() for file in HERE.parent.glob("unet_explained/**/*.py")]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_without_error_or_noise_and_its_solution_is_right(path: Path):
    notebook = nbformat.read(path, as_version=4)
    for index, text in list(solutions(notebook)):
        graded = notebook.cells[index].source.splitlines()[-1]
        assert graded.startswith("ux.check("), path
        notebook.cells.append(nbformat.v4.new_code_cell(f"{text}\nassert {graded}"))
    for cell in execute(notebook).cells:
        for output in cell.get("outputs", []):
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output.text


@pytest.mark.slow
def test_any_jupyter_of_this_environment_runs_it_from_any_folder(tmp_path):
    """As VS Code, a remote kernel or a JupyterLab that is not ours would."""
    shutil.copy(HERE / "00_start_here.ipynb", tmp_path)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-m", "jupyter", "execute", "00_start_here.ipynb"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_committed_executed_and_small(path: Path):
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert "widgets" not in notebook.metadata
    assert path.stat().st_size < 1_500_000
    assert all(len(cell.source.splitlines()) <= 12 for cell in code)


def solutions(notebook) -> Iterator[tuple[int, str]]:
    """The number of each cell that grades an answer, and the code of the solution folded below."""
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "code" and "ux.check(" in cell.source:
            folded = notebook.cells[index + 1].source
            assert folded.startswith("<details><summary>A solution</summary>")
            yield index, re.search(r"```python\n(.*?)```", folded, re.DOTALL)[1]


def cells(path: Path, kind: str) -> list[str]:
    notebook = nbformat.read(path, as_version=4)
    return [cell.source for cell in notebook.cells if cell.cell_type == kind]


@pytest.mark.parametrize("number", range(len(NOTEBOOKS)), ids=lambda number: f"{number:02}")
def test_it_leads_to_its_neighbours_and_asks_before_it_shows(number):
    prose = cells(NOTEBOOKS[number], "markdown")
    for neighbour in NOTEBOOKS[max(0, number - 1) : number] + NOTEBOOKS[number + 1 : number + 2]:
        assert f"({neighbour.name})" in prose[0]
        assert f"({neighbour.name})" in prose[-1]
    assert "(glossary.md)" in prose[0]
    for part in ("# ", "**What you will see:**", "**How long it takes:**"):
        assert part in prose[0]
    assert sum(text.count("**Predict") for text in prose) >= 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_answers_a_question_is_saved_folded_and_nothing_else(path):
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    start = f"<details><summary>{FOLD}</summary>"
    shown = {
        cell.id: [o.get("data", {}).get("text/html", "") for o in cell.outputs] for cell in code
    }
    folded = [name for name, each in shown.items() if any(html.startswith(start) for html in each)]
    assert all(len(shown[name]) == 1 for name in folded)
    assert folded == [cell.id for cell in answers(notebook)]


@pytest.mark.parametrize("number", range(1, len(NOTEBOOKS)))
def test_it_has_an_exercise_with_a_folded_solution(number):
    assert list(solutions(nbformat.read(NOTEBOOKS[number], as_version=4)))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_shows_the_package_and_defines_no_class(path):
    assert not any(
        line.startswith("class ") for code in cells(path, "code") for line in code.splitlines()
    )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_source_that_it_shows_is_the_source_as_it_is(path):
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type != "code" or "source(" not in cell.source:
            continue
        for output in cell.outputs:
            shown = output.data["text/plain"]
            assert any(shown in text for text in PACKAGE), cell.source


def test_the_figures_of_a_graphics_card_are_those_that_were_measured():
    measured = (HERE.parent / "benchmarks/RESULTS-CUDA.md").read_text()
    said = "\n".join(cells(HERE / "09_full_size.ipynb", "markdown"))
    table = re.findall(r"^\| .+ \|$", measured, re.MULTILINE)
    assert len(table) >= 4
    assert [line for line in table if line not in said] == []
    date, commit = re.search(r"(\d{4}-\d\d-\d\d)", measured), re.search(r"commit (\w{7})", measured)
    assert date[1] in said
    assert commit[1] in said


@pytest.mark.slow
def test_the_network_that_notebook_12_has_built_makes_the_same_picture(capsys):
    notebook = nbformat.read(HERE / "12_build_it_yourself.ipynb", as_version=4)
    solved, names = dict(solutions(notebook)), {}
    with torch.no_grad():  # the notebook leaves gradients off, and this process has other tests
        for index, cell in enumerate(notebook.cells):
            if cell.cell_type == "code":
                exec(cell.source, names)
                exec(solved.get(index, ""), names)
    assert len(solved) == capsys.readouterr().out.count("yours") == 3
    assert names["off"] <= 1
