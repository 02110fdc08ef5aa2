"""ux.live in JupyterLab, in a browser: it draws, stops, leaves the notebook usable, and is safe."""

import re

import pytest
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.slow]

LOAD = "import unet_explained as ux\npipe = ux.load()"
# Seconds from the click on Stop until the page says that the run has stopped.
STOP = """async (root) => {
  const said = root.querySelector("[role=status]");
  const begun = performance.now();
  const ended = new Promise((resolve) => new MutationObserver(() => {
    if (said.textContent.startsWith("stopped")) resolve(performance.now());
  }).observe(said, { childList: true, subtree: true, characterData: true }));
  [...root.querySelectorAll("button")].find((each) => each.textContent === "Stop").click();
  return ((await ended) - begun) / 1000;
}"""


@pytest.fixture(scope="module")
def browser(lab):
    """A notebook whose last cell has run while the run of the cell before it goes on."""
    prompt = "a red circle left of a blue square"
    view = f"view = ux.live(pipe, {prompt!r}, steps=60)\nview"
    return lab.run(LOAD, view, "print(view.status, 6 * 7)")


@pytest.fixture
def view(browser):
    return browser.page.locator(".ux-live")


def test_it_draws_while_the_notebook_stays_usable(browser, view):
    expect(browser.page.get_by_text("running 42", exact=True)).to_be_visible()
    expect(view.locator(".ux-row .ux-said")).to_contain_text(re.compile(r"running: step \d+ of 60"))
    expect(view.get_by_role("status")).to_contain_text("running")
    expect(view.get_by_role("button", name="circle")).to_be_visible()
    lit = "(svg) => [...svg.querySelectorAll('rect')].filter((r) => r.style.fill).length"
    assert view.locator("svg").evaluate(lit) > 40
    expect(view).to_contain_text("activity of each module (root mean square)")


def test_stop_is_quick_and_start_begins_another(browser, view):
    assert view.evaluate(STOP) < 0.5  # of which the browser and the messages take some
    browser.page.wait_for_timeout(500)
    expect(view.get_by_role("status")).to_contain_text("stopped")  # and stays so
    prompt = view.get_by_label("prompt", exact=True)
    prompt.fill("</script><img src=x onerror='window.bad=1'>")
    prompt.press("Enter")
    expect(view.get_by_role("alert")).to_contain_text("to run it anyway, press Start again")
    expect(view.get_by_role("status")).to_contain_text("stopped")
    view.get_by_role("button", name="Start").click()
    expect(view.get_by_role("button", name="onerror")).to_be_visible()
    begun = re.compile(r"running: step [3-9] of")  # there is something to look back at
    expect(view.locator(".ux-row .ux-said")).to_contain_text(begun, timeout=60_000)
    view.get_by_role("button", name="Stop").click()
    expect(view.get_by_role("status")).to_contain_text("stopped")
    assert browser.page.evaluate("window.bad") is None
    assert view.locator("img").count() == 0


def test_the_keyboard_alone_chooses_words_and_looks_back(view):
    view.get_by_label("look back").press("Home")
    expect(view.locator("progress")).to_have_js_property("value", 1)
    word = view.get_by_role("button", name="onerror")
    word.press("Enter")
    expect(word).to_have_attribute("aria-pressed", "true")
    expect(view).to_contain_text("where pixels look at “onerror”")


def test_a_click_in_the_u_opens_its_map_there_and_escape_closes_it(browser, view):
    view.locator(".ux-live-panel rect").nth(20).click()
    name = view.locator("figcaption", has_text=".").last.inner_text().split(":")[0]
    opened = browser.page.get_by_role("dialog")
    room = "(dialog) => dialog.clientWidth - dialog.querySelector('.ux-umap').offsetWidth"
    assert opened.evaluate(room) < 50  # the view has all of it
    expect(opened.locator("[aria-current=true]")).to_have_text(re.compile(r"\w"))
    crumbs = opened.locator("nav button").all_inner_texts()
    assert ".".join(crumbs) == name
    opened.get_by_role("tab", name="source").click()
    expect(opened.locator(".ux-umap-panel pre").first).to_be_visible()
    opened.get_by_role("button", name="close the map").focus()
    browser.page.keyboard.press("Escape")
    expect(opened).to_have_count(0)
    stop = view.locator(".ux-live-panel rect[tabindex='0']")  # the one that Tab comes to
    for name in ("time_proj", "time_embedding", "conv_in"):
        expect(stop).to_have_attribute("aria-label", name)
        stop.press("ArrowDown")
    stop.press("ArrowLeft")
    expect(view.locator("figcaption", has_text="conv_in: ")).to_be_visible()
    stop.press("Enter")
    expect(opened.locator("[aria-current=true]")).to_have_text("conv_in")
    browser.page.keyboard.press("Escape")  # what is open in it
    browser.page.keyboard.press("Escape")
    expect(opened).to_have_count(0)
    expect(stop).to_be_focused()
    view.get_by_role("button", name="open the map of the U").press("Enter")
    expect(opened.locator(".ux-umap-first")).to_be_visible()
    browser.page.keyboard.press("Escape")
    expect(opened).to_have_count(0)


def test_nothing_left_the_machine(browser, view):
    assert browser.outside == []
    assert browser.errors == []


def test_once_the_kernel_was_restarted_it_is_said_what_to_do(browser, view):
    browser.page.evaluate("""async () => {
      const { session } = window.jupyterapp.shell.currentWidget.sessionContext;
      await session.kernel.restart();
      await session.kernel.info;
    }""")
    view.locator(".ux-live-go button:enabled").click()
    expect(view.get_by_role("alert")).to_contain_text("run the cell again")


def test_a_saved_page_looks_back_by_itself(chromium, tmp_path):
    from lab import Browser

    import unet_explained as ux

    view = ux.live(ux.load(), "a red circle", steps=3, height=192, width=384)
    view.wait()
    browser = Browser(chromium)
    browser.page.goto(view.to_html(tmp_path / "run.html").as_uri())
    status = browser.page.get_by_role("status")
    expect(status).to_have_text("finished: step 3 of 3")
    proportions = "all => all.map(canvas => canvas.width / canvas.height)"
    # What it was given and what it predicts, the picture, and a word's map over it.
    assert browser.page.locator("canvas").evaluate_all(proportions) == [2, 2, 2, 2]
    browser.page.get_by_label("look back").press("Home")
    expect(status).to_have_text("finished: step 1 of 3")
    browser.page.get_by_role("button", name="Start").click()
    expect(browser.page.get_by_text("not in the saved page")).to_be_visible()
    assert browser.outside == []
    assert browser.errors == []


def test_a_page_of_a_diffusers_pipeline_has_its_pictures_proportions(chromium, tmp_path):
    import pipelines
    from lab import Browser

    import unet_explained as ux

    pipe, _ = pipelines.build("xl")
    view = ux.live(pipe, pipelines.RED, steps=3, height=64, width=96, num_images_per_prompt=2)
    view.wait()
    browser = Browser(chromium)
    browser.page.goto(view.to_html(tmp_path / "run.html").as_uri())
    status = browser.page.get_by_role("status")
    expect(status).to_have_text("finished: step 3 of 3")
    proportions = "all => all.map(canvas => canvas.width / canvas.height)"
    assert browser.page.locator("canvas").evaluate_all(proportions) == [1.5] * 4
    # A weight is read where the pointer is; a picture that is not square stands in a square box.
    overlay = browser.page.locator(".ux-live-panel canvas").last
    side, (*_, height, width) = overlay.bounding_box()["width"], view.frames[-1].maps.shape
    for row, column in ((0, 0), (height - 1, width - 1)):
        y, x = (row + 0.5) / height / 1.5 + (1 - 1 / 1.5) / 2, (column + 0.5) / width
        overlay.hover(position={"x": x * side, "y": y * side})
        weight = view.frames[-1].maps[view.first, row, column]
        told = f"“circle”: {weight:.3f} at row {row}, column {column}"
        expect(browser.page.get_by_text(told)).to_be_visible()
    picture = browser.page.locator(".ux-live-panel figcaption").first
    expect(picture).to_have_text("the picture, decoded by the VAE")
    expect(browser.page.get_by_text("what it predicts for the prompt")).to_be_visible()
    browser.page.get_by_label("look back").press("Home")
    caption = re.compile(r"the picture so far, noise and all, at t = \d+")
    expect(picture).to_have_text(caption)
    browser.page.get_by_role("button", name="blue").click()
    expect(browser.page.get_by_text("where pixels look at “blue”")).to_be_visible()
    assert browser.errors == []
