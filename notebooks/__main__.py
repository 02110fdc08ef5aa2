"""python -m notebooks [FILE ...]: execute notebooks, all unless named, as they are committed."""

import base64
import io
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

HERE = Path(__file__).parent
HEAVY = 100_000  # characters
WIDGET = "application/vnd.jupyter.widget-view+json"


def execute(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook, run from top to bottom in this folder, without widget state."""
    options = {"timeout": 600, "kernel_name": "python3", "store_widget_state": False}
    client = NotebookClient(notebook, resources={"metadata": {"path": HERE}}, **options)
    client.execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times of day: noise in every comparison
        if cell.cell_type == "code":
            cell.outputs = [output for output in map(as_committed, cell.outputs) if output]
    return notebook


def as_committed(output: dict) -> dict | None:
    """An output as a page without a kernel can show it: of widgets their still picture."""
    data = output.get("data", {})
    data.pop("image/jpeg", None)
    if data.pop(WIDGET, None) and "image/png" not in data:
        return None
    if len(data.get("image/png", "")) > HEAVY:
        data["image/png"] = lighter(data["image/png"])
    return output


def lighter(png: str) -> str:
    """A picture in base64 with 256 colours: about half the bytes, and no difference to the eye."""
    image, small = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB"), io.BytesIO()
    image.quantize(256, dither=Image.Dither.NONE).save(small, "png", optimize=True)
    return base64.b64encode(small.getvalue()).decode()


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]) if sys.argv[1:] else sorted(HERE.glob("*.ipynb")):
        nbformat.write(execute(nbformat.read(path, as_version=4)), path)
        print(f"executed {path.name}")
