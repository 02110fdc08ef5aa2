"""The map of the U in a real browser: pointed at, opened, coloured and moved through by keys."""

import pytest
from lab import Browser

import unet_explained as ux
from unet_explained.widgets.umap import umap

pytestmark = [pytest.mark.browser, pytest.mark.slow]

HOSTILE = "a red circle </script><img src=x onerror='window.hacked=1'>"
RESNET, ATTENTION = "up_blocks.3.resnets.2", "up_blocks.2.attentions.1"
# Python hears what the page does: opening conv_in turns the colours, and is written down.
CELL = """
from pathlib import Path
import unet_explained as ux
from unet_explained.widgets.umap import umap

view = umap(ux.load({folder!r}, device="cpu")({prompt!r}, steps=3, seed=0))

def heard(change):
    Path("selected.txt").write_text(change["new"])
    if change["new"] == "conv_in":
        view.colour, view.selected = "flops", {resnet!r}

view.observe(heard, "selected")
view
"""
HOVER = """name => {
  const part = document.querySelector(`.ux-umap-map [data-name="${name}"]`);
  const start = performance.now();
  for (let i = 0; i < 20; i++) {
    part.dispatchEvent(new PointerEvent(i % 2 ? "pointerleave" : "pointerenter"));
    document.querySelector(".ux-umap").getBoundingClientRect();
  }
  return (performance.now() - start) / 20;
}"""


def of(name: str) -> str:
    return f'.ux-umap-map [data-name="{name}"]'


def tab(word: str) -> str:
    return f'.ux-umap [role="tab"]:has-text("{word}")'


@pytest.fixture(scope="module")
def exported(tiny_folder, tmp_path_factory):
    run = ux.load(tiny_folder, device="cpu")(HOSTILE, steps=3, seed=0)
    return umap(run).to_html(tmp_path_factory.mktemp("umap") / "u.html")


@pytest.fixture
def browser(chromium, exported):
    browser = Browser(chromium)
    browser.page.set_default_timeout(60_000)
    browser.page.goto(exported.as_uri())
    browser.page.locator(".ux-umap-map").wait_for()
    yield browser
    assert browser.outside == []
    assert browser.errors == []
    assert browser.page.evaluate("window.hacked") is None
    browser.page.close()


def test_in_a_notebook_page_and_python_tell_each_other(lab, tiny_folder):
    cell = CELL.format(folder=str(tiny_folder), prompt=HOSTILE, resnet=RESNET)
    browser = lab.run(cell)
    page, heard = browser.page, lab.folder / "selected.txt"
    page.locator(of("conv_in")).click()
    page.locator('[data-colour="flops"][aria-pressed="true"]').wait_for()
    page.locator('.ux-umap [aria-current="true"]:text-is("resnets.2")').wait_for()
    assert heard.read_text() == RESNET

    page.locator('[data-colour="activity"]').click()
    page.wait_for_function("n => document.querySelector(n).textContent !== '…'", arg=of(RESNET))
    at_step = page.locator(".ux-umap-info dt", has_text="at step")
    assert at_step.bounding_box()["height"] < 30, "one line"
    first = page.locator(of(RESNET)).text_content()
    page.locator(".ux-umap-step input").press("ArrowRight")
    page.locator(".ux-umap-step output", has_text="2 of 0 to 2").wait_for()
    page.wait_for_function(
        "([n, old]) => !['…', old].includes(document.querySelector(n).textContent)",
        arg=[of(RESNET), first],
    )

    page.locator(tab("feature maps")).click()
    page.locator(".ux-umap-tiles img >> nth=11").wait_for()
    page.wait_for_function("document.querySelector('.ux-umap-tiles img').naturalWidth === 8")
    page.locator(of(ATTENTION)).click()
    page.locator(tab("attention")).click()
    page.locator(".ux-umap-tiles figcaption", has_text="circle").wait_for()
    page.locator(of(ATTENTION)).focus()
    page.keyboard.press("ArrowDown")  # to the next module, not to the next cell
    focused = page.evaluate("document.activeElement.dataset.name")
    assert focused == "up_blocks.2.resnets.2"
    assert page.evaluate("window.hacked") is None
    assert browser.outside == []
    assert browser.errors == []


def test_pointing_tells_at_once_what_a_module_is(browser):
    page = browser.page
    page.locator(of("mid_block.attentions.0")).hover()
    told = page.locator(".ux-umap-info").inner_text()
    for word in ("mid_block.attentions.0", "Transformer2DModel", "channel 64", "FLOPs"):
        assert word in told
    took = page.evaluate(HOVER, RESNET)
    print(f"pointing at the map: {took:.1f} ms")
    assert took < 16  # within a frame
    page.locator(".ux-umap-skip .ux-umap-reach").first.hover()
    assert "conv_in" in page.locator(".ux-umap-info").inner_text()


def test_opening_shows_the_inside_and_the_source_without_python(browser):
    page = browser.page
    page.locator(of(ATTENTION)).click()
    parts = page.locator(".ux-umap-inside [data-name]")
    names = parts.evaluate_all("all => all.map(each => each.dataset.name)")
    assert [name.removeprefix(f"{ATTENTION}.") for name in names] == [
        "norm", "proj_in", "transformer_blocks.0", "transformer_blocks.0.attn1",
        "transformer_blocks.0.attn2", "transformer_blocks.0.ff", "proj_out",
    ]  # fmt: skip
    page.locator(".ux-umap-inside", has_text="cross-attention").wait_for()
    page.locator('.ux-umap-inside [data-name$="attn2"]').click()
    page.locator(tab("source")).click()
    first = page.locator(".ux-umap-einops li").nth(1)
    first.wait_for()
    assert "batch query (head head_dim) -> batch head query head_dim" in first.inner_text()
    page.locator(".ux-umap nav button", has_text="up_blocks.2").click()
    assert page.locator(of("up_blocks.2")).get_attribute("class").count("ux-umap-open") == 1
    page.locator(tab("feature maps")).click()
    page.locator(".ux-umap-panel .ux-error", has_text="not in the saved page").wait_for()


def test_all_of_it_can_be_done_by_keys(browser):
    page = browser.page
    page.locator('[data-colour="params"]').focus()
    page.keyboard.press("Enter")
    assert page.locator(of("time_proj")).text_content() == "time_proj0 %"
    page.locator(of("time_proj")).focus()
    for _ in range(4):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.locator(".ux-umap-inside").wait_for()
    assert page.locator('.ux-umap [aria-current="true"]').inner_text() == "resnets.0"
    page.locator(tab("inside")).focus()
    page.keyboard.press("ArrowRight")
    page.locator(".ux-umap-panel pre").wait_for()
    page.keyboard.press("Escape")
    assert page.locator(".ux-umap-panel").count() == 0
    focused = page.evaluate("document.activeElement.dataset.name")
    assert focused == "down_blocks.0.resnets.0"
    assert page.locator('.ux-umap-map [tabindex="0"]').count() == 1


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_numbers_on_the_colours_are_legible_and_fit(browser, colours):
    page = browser.page
    page.emulate_media(color_scheme=colours)
    page.set_viewport_size({"width": 700, "height": 800})
    for colour in ("flops", "activity"):
        page.locator(f'[data-colour="{colour}"]').click()
        page.wait_for_function("n => document.querySelector(n).textContent !== '…'", arg=of(RESNET))
        assert page.evaluate(CONTRAST) >= 4.5
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


# The least contrast (as WCAG has it) of a box's text with its fill, through a canvas of one pixel.
CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const light = (colour) => {
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((v) => v / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  return Math.min(...[...document.querySelectorAll(".ux-umap-heat")].map((part) => {
    const of = (what) => light(getComputedStyle(part.querySelector(what)).fill);
    const [low, high] = [of(".ux-umap-shape"), of("text")].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  }));
}"""
