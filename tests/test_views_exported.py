"""The views in a notebook that JupyterLab saved, exported by nbconvert, opened offline."""

import subprocess
import sys

import nbformat
import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

CELLS = [
    "import unet_explained as ux\npipe = ux.load({folder!r}, device='cpu')\n"
    "run = pipe('a red circle', steps=2)\nux.explore(run)",
    "ux.umap(run)",
    "ux.umap('sd15')",
    "view = ux.live(pipe, 'a red circle', steps=2)\nview.wait()\nNone",
    "view",
]
SAVE = """async () => {
  const panel = window.jupyterapp.shell.currentWidget;
  await panel.context.save();
}"""
SEEN = """() => [...document.querySelectorAll(".jp-OutputArea-output img")].map((image) => {
  const { width, height } = image.getBoundingClientRect();
  return [image.complete && image.naturalWidth > 0, Math.round(width), Math.round(height)];
})"""


def seen(chromium, page) -> list:
    """Whether each picture of a page is there, and how large, without a network."""
    context = chromium.new_context(offline=True)
    tab = context.new_page()
    tab.goto(page.as_uri())
    found = tab.evaluate(SEEN)
    context.close()
    return found


def exported(notebook, *options):
    command = [sys.executable, "-m", "nbconvert", "--to", "html", *options, str(notebook)]
    subprocess.run(command, check=True, capture_output=True)
    return notebook.with_suffix(".html")


@pytest.fixture(scope="module")
def notebook(lab, tiny_folder):
    """As JupyterLab saves it."""
    browser = lab.run(*(cell.format(folder=str(tiny_folder)) for cell in CELLS), name="views.ipynb")
    browser.page.evaluate(SAVE)
    return lab.folder / "views.ipynb"


def test_each_view_that_jupyterlab_saved_is_seen_in_an_exported_page(notebook, chromium):
    found = seen(chromium, exported(notebook))
    assert len(found) == 4
    assert all(there and width > 300 and height > 150 for there, width, height in found), found


def test_so_it_is_where_the_widgets_state_was_saved_too(notebook, chromium, tmp_path):
    """As nbconvert --execute and papermill save it: the page then waits for scripts of a network,
    unless it is told to leave them out (docs/limits.md)."""
    with_state = nbformat.read(notebook, as_version=4)
    views = [
        output["data"]["application/vnd.jupyter.widget-view+json"]["model_id"]
        for cell in with_state.cells
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    state = {"state": {view: {} for view in views}, "version_major": 2, "version_minor": 0}
    with_state.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": state}
    path = tmp_path / "views.ipynb"
    nbformat.write(with_state, path)
    found = seen(chromium, exported(path, "--ClearMetadataPreprocessor.enabled=True"))
    assert len(found) == 4
    assert all(there and width > 300 for there, width, _ in found)
