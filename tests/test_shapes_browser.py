"""The shape table in a page as JupyterLab lays it out: nothing is written over anything."""

import pytest

from unet_explained.recording.shapes import shape_table

pytestmark = [pytest.mark.browser, pytest.mark.slow]

# What JupyterLab says of all tables, as strongly as it says it.
LAB = "<style>.lab { font: 14px sans-serif } :not(.a).lab :is(th, td) { text-align: right }</style>"
WIDER = """() => [...document.querySelectorAll(".unet-shapes td")]
  .filter((cell) => cell.scrollWidth > cell.clientWidth + 1 && cell.cellIndex > 0)
  .map((cell) => cell.textContent)"""


@pytest.mark.parametrize("width", [700, 1000])
def test_no_cell_is_wider_than_its_column(chromium, width):
    page = chromium.new_page(viewport={"width": width, "height": 600})
    table = shape_table("sd15")._repr_html_()
    page.set_content(f"<body class=lab>{LAB}{table}")
    page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
    assert page.locator(".unet-shapes td").count() > 1000
    assert page.evaluate(WIDER) == []
    aligned = "(cells) => cells.map((cell) => getComputedStyle(cell).textAlign)"
    columns = page.locator(".unet-shapes tbody tr").first.locator("td").evaluate_all(aligned)
    assert columns == ["left"] * 2 + ["right"] * 3
    page.close()
