"""The notebooks run from top to bottom, and what is committed is what they give."""

from pathlib import Path

import nbformat
import pytest

from notebooks.__main__ import HERE, execute

NOTEBOOKS = sorted(HERE.glob("*.ipynb"))


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
