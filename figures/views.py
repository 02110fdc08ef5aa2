"""Screenshots of the live views, in a page and in JupyterLab, and of the page that runs."""

import shutil
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import unet_explained as ux
from tests.lab import jupyterlab
from unet_explained.__main__ import PROMPT
from unet_explained.page.build import build

HERE = Path(__file__).parent
SIZE = {"width": 1040, "height": 400}  # and as high as the page is
SCHEMES = {"light": "", "dark": "-dark"}
THEMES = {"JupyterLab Light": "", "JupyterLab Dark": "-dark"}
WIDTHS = 1280, 1000  # of JupyterLab's window, with its list of files open
CELLS = {
    "umap": 'view = ux.umap(run)\nview.selected = "up_blocks.1.attentions.0"\nview',
    "explorer": "ux.explore(run, recording)",
    "live": "view = ux.live(pipe, prompt)\nview",
}
RUN = f"""import unet_explained as ux

pipe, prompt = ux.load(device="cpu"), {PROMPT!r}
with ux.record(pipe.unet) as recording:
    run = pipe(prompt)"""


def views() -> dict:
    """One of each, by name, of one run."""
    pipe = ux.load(device="cpu")
    with ux.record(pipe.unet) as recording:
        run = pipe(PROMPT)
    umap = ux.umap(run)
    umap.selected = "up_blocks.1.attentions.0"
    return {"umap": umap, "explorer": ux.explore(run, recording)}


@contextmanager
def _browser():
    """Chromium. Needs playwright."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


def screenshots() -> None:
    """NAME.png and NAME-dark.png of every view."""
    with TemporaryDirectory() as folder, _browser() as browser:
        for name, view in views().items():
            address = view.to_html(Path(folder) / f"{name}.html").as_uri()
            for scheme, suffix in SCHEMES.items():
                page = browser.new_page(viewport=SIZE, color_scheme=scheme)
                page.goto(address)
                page.wait_for_timeout(2000)
                if name == "explorer":
                    page.get_by_role("button", name="butterfly").first.click()
                    page.wait_for_timeout(300)
                page.screenshot(path=HERE / f"{name}{suffix}.png", full_page=True)
                page.close()


def lab() -> None:
    """lab/VIEW-WIDTH.png and lab/VIEW-WIDTH-dark.png of every view, in JupyterLab."""
    (HERE / "lab").mkdir(exist_ok=True)
    with _browser() as browser:
        for theme, suffix in THEMES.items():
            with (
                TemporaryDirectory() as folder,
                jupyterlab(browser, Path(folder), theme) as running,
            ):
                cells = RUN, *CELLS.values(), "picture = view.wait().image"
                page = running.run(*cells, name="views.ipynb").page
                for width in WIDTHS:
                    page.set_viewport_size({"width": width, "height": 900})
                    for name in CELLS:
                        path = HERE / "lab" / f"{name}-{width}{suffix}.png"
                        path.write_bytes(_shot(page, name))


def _shot(page, name: str) -> bytes:
    """JupyterLab's window, a view's cell at its top."""
    view = page.locator(f".ux-{name}")
    if name == "explorer":
        word = view.get_by_role("button", name="butterfly", pressed=False)
        word.click() if word.count() else None
        page.mouse.move(0, 0)
    if name == "umap":
        view.get_by_role("tab", name="attention").click()
        view.locator(".ux-umap-tiles").wait_for()
    view.evaluate("view => view.closest('.jp-Cell').scrollIntoView()")
    page.wait_for_timeout(1000)
    return page.screenshot()


def page() -> None:
    """page.png and page-dark.png: the page that runs, down to the end of its run."""
    with TemporaryDirectory() as folder, _browser() as browser:
        address = build(Path(folder) / "live.html").as_uri()
        for scheme, suffix in SCHEMES.items():
            page = browser.new_page(viewport=SIZE, color_scheme=scheme)
            page.goto(address)
            page.locator("#map .ux-umap").wait_for()  # the last that comes
            end = page.locator("section", has=page.locator("#explorer")).bounding_box()
            clip = {"x": 0, "y": 0, "width": SIZE["width"], "height": end["y"] - 8}
            page.screenshot(path=HERE / f"page{suffix}.png", clip=clip, full_page=True)
            page.close()
