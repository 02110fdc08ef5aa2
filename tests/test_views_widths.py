"""All three views as a person has them: narrow or wide, light or dark, by eye, ear or keys."""

import re

import pytest
from lab import Browser

import unet_explained as ux

pytestmark = [pytest.mark.browser, pytest.mark.slow]

WIDTHS = (360, 590, 768, 1000, 1400)  # JupyterLab leaves 590 of 1000, with the list of files open
LONG = "a red extraordinarilyandunreasonablylongnamedcircle left of a blue square"
# What reaches out of a view, or out of what opens in it, and is not scrolled or cut on purpose.
WIDER = """() => [...document.querySelectorAll(".ux")].flatMap((root) => {
  const { left, right } = root.getBoundingClientRect();
  const hides = (each) => !each.matches("svg") && getComputedStyle(each).overflowX !== "visible";
  const cut = (each) => each !== root && (hides(each) || cut(each.parentElement));
  return [...root.querySelectorAll("*")].filter((each) => {
    const box = each.getBoundingClientRect();
    const over = box.width && (box.left < left - 1 || box.right > right + 1);
    return over && !cut(each.parentElement) && each.closest("dialog") === root.closest("dialog");
  }).map((each) => `${each.localName}.${each.className.baseVal ?? each.className}`);
})"""
SIDEWAYS = "document.documentElement.scrollWidth - innerWidth"
# How far what was drawn first moved afterwards, as browsers measure it.
JUMPS = """() => new Promise((done) => {
  let sum = 0;
  const hear = (list) => list.getEntries().forEach(({ value }) => (sum += value));
  new PerformanceObserver(hear).observe({ type: "layout-shift", buffered: true });
  setTimeout(() => done(sum), 300);
})"""
NAMED = "button|textbox|slider|combobox|checkbox|spinbutton|img|progressbar|application|tab|dialog"


@pytest.fixture(scope="module")
def files(tiny_folder, tmp_path_factory):
    """A page of each view."""
    pipe, folder = ux.load(tiny_folder, device="cpu"), tmp_path_factory.mktemp("views")
    with ux.record(pipe.unet) as rec:
        runs = [pipe(LONG, steps=2), pipe("a blue square", steps=2)]
    of_u = ux.umap(runs[0])
    of_u.selected = "up_blocks.2.attentions.1"
    live = ux.live(pipe, LONG, steps=2)
    live.wait()
    explorer = ux.explore(rec, image=[run.image for run in runs])
    views = {"umap": of_u, "explorer": explorer, "live": live}
    return {name: view.to_html(folder / f"{name}.html") for name, view in views.items()}


@pytest.fixture(params=["umap", "explorer", "live"])
def opened(request, files, chromium):
    def open_(scheme: str, width: int):
        browser = Browser(chromium, color_scheme=scheme, viewport={"width": width, "height": 900})
        browser.page.goto(files[request.param].as_uri())
        browser.page.locator(".ux").wait_for()
        return browser

    return open_


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_at_no_width_is_anything_wider_than_the_view(opened, scheme):
    page = opened(scheme, WIDTHS[0]).page
    u = page.get_by_role("button", name="open the map of the U")
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate(WIDER) == []
        assert page.evaluate(SIDEWAYS) <= 0
        if u.count():
            u.click()
            page.locator("dialog .ux-umap-map").wait_for()
            assert page.evaluate(WIDER) == []
            page.keyboard.press("Escape")
    page.close()


def test_where_it_is_narrow_what_is_used_together_stands_together(files, chromium):
    page = Browser(chromium, viewport={"width": 590, "height": 800}).page

    def place(selector: str) -> dict:
        return page.locator(selector).first.bounding_box()

    page.goto(files["umap"].as_uri())
    page.locator("[data-name='conv_in']").first.hover()
    told, pointed = place(".ux-umap-info"), place("[data-name='conv_in']")
    assert "conv_in" in page.locator(".ux-umap-info").inner_text()
    assert told["y"] + told["height"] < pointed["y"] < 800
    page.goto(files["explorer"].as_uri())
    menu, words, picture = (place(f".ux-{name}") for name in ("side", "words", "picture"))
    assert menu["y"] == picture["y"]
    assert words["y"] + words["height"] < 800
    page.goto(files["live"].as_uri())
    first, second = (page.locator(".ux-live-panel").nth(n).bounding_box() for n in (0, 1))
    assert (first["y"], first["width"]) == (second["y"], second["width"])
    page.close()


@pytest.mark.parametrize("width", [360, 1000])
def test_nothing_moves_while_it_loads(opened, width):
    page = opened("light", width).page
    assert page.evaluate(JUMPS) < 0.01
    page.close()


def test_all_that_can_be_used_has_a_name_and_is_reached_by_keys(opened):
    page = opened("light", 1000).page
    told = page.locator(".ux").first.aria_snapshot()
    nameless = [line for line in told.splitlines() if re.match(rf"\s*- ({NAMED})(:| \[|$)", line)]
    assert nameless == []
    page.locator("body").click(position={"x": 1, "y": 1})
    reached = set()
    for _ in range(80):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.localName"))
    assert {"button", "input"} <= reached
    page.close()
