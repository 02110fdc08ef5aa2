"""python -m notebooks: execute every notebook again, in place, as it is committed."""

from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent


def execute(path: Path) -> nbformat.NotebookNode:
    """The notebook at path, run from top to bottom in its own folder, without widget state."""
    notebook = nbformat.read(path, as_version=4)
    options = {"timeout": 600, "kernel_name": "python3", "store_widget_state": False}
    NotebookClient(notebook, resources={"metadata": {"path": HERE}}, **options).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times of day: noise in every comparison
    return notebook


if __name__ == "__main__":
    for path in sorted(HERE.glob("*.ipynb")):
        nbformat.write(execute(path), path)
        print(f"executed {path.name}")
