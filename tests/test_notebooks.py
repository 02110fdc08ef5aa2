"""The notebooks run from top to bottom, are committed executed, and lead from one to the next."""

from pathlib import Path

import nbformat
import pytest

from notebooks.__main__ import HERE, execute

NOTEBOOKS = sorted(HERE.glob("*.ipynb"))
PACKAGE = [file.read_text() for file in HERE.parent.glob("unet_explained/**/*.py")]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_without_error_or_noise(path: Path):
    for cell in execute(path).cells:
        for output in cell.get("outputs", []):
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output.text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_committed_executed_and_small(path: Path):
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert "widgets" not in notebook.metadata
    assert path.stat().st_size < 1_500_000
    assert all(len(cell.source.splitlines()) <= 12 for cell in code)


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


@pytest.mark.parametrize("number", range(1, 9))
def test_it_has_an_exercise_with_a_folded_solution(number):
    path = NOTEBOOKS[number]
    assert any("ux.check(" in code for code in cells(path, "code"))
    assert any("<summary>A solution</summary>" in text for text in cells(path, "markdown"))


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
