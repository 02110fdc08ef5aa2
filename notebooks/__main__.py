"""python -m notebooks: execute every notebook again, in place, as it is committed."""

from pathlib import Path

import nbformat
from nbclient import NotebookClient

from unet_explained.__main__ import kernel_environment

HERE = Path(__file__).parent
WIDGET = "application/vnd.jupyter.widget-view+json"


def execute(path: Path) -> nbformat.NotebookNode:
    """The notebook at path, run from top to bottom in its own folder, without widget state."""
    notebook = nbformat.read(path, as_version=4)
    options = {"timeout": 600, "kernel_name": "python3", "store_widget_state": False}
    client = NotebookClient(notebook, resources={"metadata": {"path": HERE}}, **options)
    client.execute(env=kernel_environment())
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times of day: noise in every comparison
        if cell.cell_type == "code":
            cell.outputs = [output for output in map(as_committed, cell.outputs) if output]
    return notebook


def as_committed(output: dict) -> dict | None:
    """An output as a page without a kernel can show it: no widgets, each picture once."""
    data = output.get("data", {})
    data.pop("image/jpeg", None)
    return None if WIDGET in data else output


if __name__ == "__main__":
    for path in sorted(HERE.glob("*.ipynb")):
        nbformat.write(execute(path), path)
        print(f"executed {path.name}")
