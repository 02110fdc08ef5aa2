"""python -m notebooks [FILE ...]: execute notebooks, all unless named, as they are committed.

What comes out after a **Predict** is committed folded: a page is read before it is run.
"""

import base64
import io
import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

HERE = Path(__file__).parent
HEAVY = 200_000  # characters
WIDGET = "application/vnd.jupyter.widget-view+json"
FOLD = "What comes out: predict, then run the cell, or open it here"


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


def fold_answers(notebook: nbformat.NotebookNode) -> None:
    """What answers a question is saved under a line to open, until its cell is run."""
    for cell in answers(notebook):
        shown = "".join(map(as_html, cell.outputs))
        data = {
            "text/html": f"<details><summary>{FOLD}</summary>{shown}</details>",
            "text/plain": "".join(map(as_text, cell.outputs)),
        }
        cell.outputs = [nbformat.v4.new_output("display_data", data)]


def as_html(output: dict) -> str:
    data, text = output.get("data", {}), escape(as_text(output))
    if "text/html" in data:
        return data["text/html"]
    if "image/png" in data:
        png = "".join(data["image/png"].split())
        return f'<img src="data:image/png;base64,{png}" alt="{text}">'
    return f'<pre style="margin:0;font-family:monospace">{text}</pre>'


def as_text(output: dict) -> str:
    return output["text"] if "text" in output else output["data"]["text/plain"]


def answers(notebook: nbformat.NotebookNode) -> Iterator[nbformat.NotebookNode]:
    """The code between a **Predict**, unless its answer is folded in the text, and the next text.

    A cell that grades the reader's own answer gives none away.
    """
    asked = False
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            asked = "**Predict" in cell.source.rpartition("</details>")[2]
        elif asked and cell.outputs and "ux.check(" not in cell.source:
            yield cell


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
    """A picture in base64 with 256 colours that cover all of its own: a colour bar keeps them."""
    image, small = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB"), io.BytesIO()
    few = image.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE)
    few.save(small, "png", optimize=True)
    return base64.b64encode(small.getvalue()).decode()


if __name__ == "__main__":
    paths = list(map(Path, sys.argv[1:])) or sorted(HERE.glob("*.ipynb"))
    if missing := [str(path) for path in paths if not path.is_file()]:
        raise SystemExit(
            f"no such file: {', '.join(missing)}; give paths, as notebooks/01_time.ipynb"
        )
    for path in paths:
        notebook = execute(nbformat.read(path, as_version=4))
        fold_answers(notebook)
        nbformat.write(notebook, path)
        print(f"executed {path.name}")
