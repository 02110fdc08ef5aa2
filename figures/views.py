"""Screenshots of the live views and of the page that runs, in light and dark."""

import shutil
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import unet_explained as ux
from unet_explained.__main__ import PROMPT
from unet_explained.page.build import build

HERE = Path(__file__).parent
SIZE = {"width": 1040, "height": 400}  # and as high as the page is
SCHEMES = {"light": "", "dark": "-dark"}


def views() -> dict:
    """One of each, by name, of one run."""
    pipe = ux.load(device="cpu")
    with ux.record(pipe.unet) as recording:
        run = pipe(PROMPT)
    live = ux.live(pipe, PROMPT)
    live.wait()
    umap = ux.umap(run)
    umap.selected = "up_blocks.1.attentions.0"
    return {"umap": umap, "explorer": ux.explore(run, recording), "live": live}


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
