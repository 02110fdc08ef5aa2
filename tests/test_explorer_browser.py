"""The word explorer in JupyterLab and as a file, in a real browser: what a person sees and does."""

import json

import pytest
from lab import Browser

from unet_explained.widgets.explorer import explore
from unet_explained.widgets.explorer_page import choice

pytestmark = [pytest.mark.browser, pytest.mark.slow]

HOSTILE = "</script><img src=x onerror='window.hacked=1'>"
PROMPT = f"a red circle left of a blue square and a green frog {HOSTILE}"  # 20 words
LAYER = "up_blocks.2.attentions.1.transformer_blocks.0.attn2"
CELLS = [
    f"""
import json
import unet_explained as ux
from unet_explained.widgets.explorer import explore
run = ux.load(device="cpu")({PROMPT!r}, steps=3, seed=0)
view = explore(run)
view
""",
    f"""
recording = run.replay(1, attention="heads")
print(json.dumps([round(recording.attention(word, layer={LAYER!r}, head=1).max().item(), 3)
                  for word in ("circle", "frog")]))
view.answer({{"self": {{"row": 20, "column": 20, "layer": "*", "step": 1, "half": "conditional"}}}})
view.to_html("explorer.html")
None
""",
]
RUNS = """
import unet_explained as ux
pipe = ux.load({folder!r}, device="cpu")
with ux.record(pipe.unet) as recording:
    for prompt in ("a red frog", "a blue square"):
        pipe(prompt, steps=2)
ux.explore(recording)
"""
# Each pointer event, until its drawing is done: reading a pixel back waits for it.
LATENCY = """() => {
  window.latencies = [];
  let start = 0;
  const canvas = document.querySelector(".ux-picture");
  const events = ["pointerenter", "pointermove"];
  for (const event of events) {
    window.addEventListener(event, () => (start = performance.now()), true);
    const done = () => {
      canvas.getContext("2d").getImageData(0, 0, 1, 1);
      window.latencies.push(performance.now() - start);
    };
    for (const each of [canvas, ...document.querySelectorAll(".ux-word")])
      each.addEventListener(event, done);
  }
}"""
COLOURED = """() => {
  const canvas = document.querySelector(".ux-picture");
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return data.reduce((sum, value, i) => (sum * 31 + value) % 1000003, 7);
}"""


@pytest.fixture(scope="module")
def notebook(lab):
    browser = lab.run(*CELLS)
    browser.page.locator(".ux-word").first.wait_for()
    return browser


@pytest.fixture
def page(notebook):
    """The notebook's view, as nothing is pointed at or kept."""
    page = notebook.page
    page.mouse.move(5, 5)
    page.locator(".ux-picture").focus()
    page.keyboard.press("Escape")
    page.locator(".ux-caption", has_text="the picture").wait_for()
    yield page
    assert (notebook.outside, notebook.errors) == ([], [])
    assert page.evaluate("window.hacked") is None


@pytest.fixture
def saved(notebook, lab, chromium):
    browser = Browser(chromium, color_scheme="dark")
    browser.page.goto((lab.folder / "explorer.html").as_uri())
    browser.page.locator(".ux-word").first.wait_for()
    yield browser.page
    assert (browser.outside, browser.errors) == ([], [])
    assert browser.page.evaluate("window.hacked") is None


def word(page, text: str, number: int = 0):
    return page.locator(".ux-word", has_text=text).nth(number)


def weights(page) -> list[str]:
    return page.locator(".ux-weight").all_inner_texts()


def caption(page) -> str:
    return page.locator(".ux-caption").inner_text()


def settled(page) -> None:
    page.locator(".ux-explorer[aria-busy=false]").wait_for()


def choose(page, name: str, **option) -> None:
    page.get_by_label(name, exact=True).select_option(**option)
    settled(page)


def at(page, x: float, y: float) -> tuple[float, float]:
    box = page.locator(".ux-picture").bounding_box()
    return box["x"] + x * box["width"], box["y"] + y * box["height"]


def test_pointing_at_a_word_lays_its_map_over_the_picture(page):
    page.locator(".ux-caption", has_text="the picture, as foreseen").wait_for()  # it was asked for
    picture = page.evaluate(COLOURED)
    word(page, "circle").hover()
    assert caption(page) == "“circle”"
    circle = page.evaluate(COLOURED)
    word(page, "square").hover()
    assert len({picture, circle, page.evaluate(COLOURED)}) == 3
    page.mouse.move(5, 5)
    assert caption(page) == "the picture, as foreseen"
    assert page.evaluate(COLOURED) == picture


def test_a_click_keeps_a_word_and_escape_lets_it_go(page):
    word(page, "circle").click()
    page.mouse.move(5, 5)
    assert caption(page) == "“circle”"
    assert word(page, "circle").get_attribute("aria-pressed") == "true"
    page.keyboard.press("Escape")
    assert caption(page) == "the picture, as foreseen"


def test_words_and_pixels_are_reached_by_keys_alone(page):
    selected = "document.querySelector('.jp-Cell.jp-mod-selected').dataset.windowedListIndex"
    before = page.evaluate(selected)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    page.locator(".ux-reading", has_text="row 33, column 33").wait_for()
    assert "circle" in page.locator(".ux-heard").inner_text()
    assert page.evaluate(selected) == before  # the notebook did not take the arrows
    word(page, "start").focus()
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    assert caption(page) == "“red”"
    page.keyboard.press("Enter")
    assert word(page, "red").get_attribute("aria-pressed") == "true"


def test_pointing_at_the_picture_shows_which_words_a_pixel_looks_at(page):
    largest = weights(page)
    page.mouse.move(*at(page, 0.25, 0.5))
    assert "row 32, column 16" in page.locator(".ux-reading").inner_text()
    assert weights(page) != largest
    assert sum(float(each.replace("<", "")) for each in weights(page)) == pytest.approx(1, abs=0.03)
    page.mouse.move(5, 5)
    assert weights(page) == largest


def test_pointing_answers_within_a_frame_without_python(page):
    page.evaluate(LATENCY)
    words = [each.bounding_box() for each in page.locator(".ux-word").all()]
    assert len(words) >= 20
    for box in words:
        page.mouse.move(box["x"] + 9, box["y"] + 9)
    for step in range(20):
        page.mouse.move(*at(page, 0.1 + 0.04 * step, 0.9 - 0.04 * step))
    latencies = sorted(page.evaluate("window.latencies"))
    assert len(latencies) >= 40
    median, worst = latencies[len(latencies) // 2], latencies[-1]
    print(f"pointing: {median:.1f} ms, at worst {worst:.1f} ms")
    assert median < 16


def test_the_page_shows_a_layer_and_head_as_a_recording_says(page):
    choose(page, "Layer", value=LAYER)
    page.get_by_role("button", name="head 1", exact=True).click()
    settled(page)
    recorded = json.loads(page.locator(".jp-OutputArea-output", has_text="[0.").first.inner_text())
    shown = [word(page, text).locator(".ux-weight").inner_text() for text in ("circle", "frog")]
    assert [float(each) for each in shown] == pytest.approx(recorded, abs=0.0011)
    assert "up_blocks.2.attentions.1 · head 1 · step 1" in page.locator(".ux-detail").inner_text()
    choose(page, "Layer", value="*")


def test_all_steps_are_replayed_with_their_progress_said(page):
    page.evaluate("""() => {
      const said = document.querySelector(".ux-said");
      window.heard = [];
      const hear = () => window.heard.push(said.textContent);
      new MutationObserver(hear).observe(said, { childList: true });
    }""")
    page.get_by_text("all steps, their mean").click()
    settled(page)
    heard = page.evaluate("window.heard")
    assert "replaying step 0: 0 of 2 are done" in heard
    assert "replaying step 2: 1 of 2 are done" in heard
    assert "the mean of all 3 steps" in page.locator(".ux-detail").inner_text()
    page.get_by_text("all steps, their mean").click()
    settled(page)
    assert "step 1 of 0 to 2" in page.locator(".ux-detail").inner_text()


def test_a_steps_map_lies_on_the_picture_as_it_was_then(page):
    then = page.evaluate(COLOURED)
    page.get_by_label("Step", exact=True).press("ArrowRight")
    settled(page)
    assert "on the picture as foreseen then" in page.locator(".ux-detail").inner_text()
    assert page.evaluate(COLOURED) != then
    page.get_by_label("Step", exact=True).press("ArrowLeft")
    settled(page)
    assert page.evaluate(COLOURED) == then


def test_another_run_of_the_record_is_chosen_in_the_view(lab, tiny_folder):
    runs = RUNS.format(folder=str(tiny_folder))
    browser = lab.run(runs, "ux.umap(recording)", name="runs.ipynb")
    page = browser.page
    u = page.locator(".ux-umap")
    u.locator("[data-name='mid_block.attentions.0']").click()
    u.get_by_role("tab", name="attention").click()
    u.get_by_text("frog").last.wait_for()
    u.get_by_label("picture").select_option(label="run 1: “a blue square”")
    u.locator("figcaption", has_text="square").wait_for()  # what was open stays open
    assert "a blue square" in u.locator(".ux-umap-title").inner_text()
    view = page.locator(".ux-explorer")
    view.get_by_label("Picture", exact=True).press("ArrowDown")
    page.locator(".ux-prompt", has_text="a blue square").wait_for()
    word(page, "square").hover()
    assert caption(page) == "“square”"
    # The keys go on from there.
    page.keyboard.press("ArrowUp")
    page.locator(".ux-prompt", has_text="a red frog").wait_for()
    assert (browser.outside, browser.errors) == ([], [])
    page.close()


def test_a_file_of_several_pictures_holds_each(chromium, tiny_folder, tmp_path):
    told: dict = {}
    exec(RUNS.format(folder=str(tiny_folder)), told)
    file = explore(told["recording"]).to_html(tmp_path / "runs.html")
    browser = Browser(chromium)
    page = browser.page
    page.goto(file.as_uri())
    for prompt in ("a blue square", "a red frog", "a blue square"):
        run = int("blue" in prompt)
        label = f"run {run}: “{prompt}”"
        page.get_by_label("Picture", exact=True).select_option(label=label)
        page.locator(".ux-prompt", has_text=prompt).wait_for()
        word(page, prompt.split()[-1]).hover()
        page.get_by_text("all steps, their mean").click()
        settled(page)
        asked = {"maps": choice(step=0)}
        tops = explore(told["recording"], run=run).answer(asked)[0]["tops"]
        page.mouse.move(5, 5)
        assert [float(each) for each in weights(page)] == pytest.approx(tops, abs=0.0006)
    assert (browser.outside, browser.errors) == ([], [])
    page.close()


def test_the_unconditional_half_shows_what_it_was_told(page):
    choose(page, "Half", value="unconditional")
    assert page.locator(".ux-name").all_inner_texts() == ["start", "the rest"]
    choose(page, "Half", value="conditional")
    assert word(page, "circle").count() == 1


def test_self_attention_of_a_clicked_pixel_comes_from_python(page):
    box = page.get_by_label("self-attention")
    box.check()
    page.mouse.click(*at(page, 0.25, 0.5))
    page.locator(".ux-caption", has_text="where the framed pixel looks").wait_for()
    looks = page.evaluate(COLOURED)
    page.mouse.click(*at(page, 0.75, 0.75))
    settled(page)
    assert page.evaluate(COLOURED) != looks
    box.uncheck()
    assert caption(page) == "the picture, as foreseen"


def test_the_file_works_alone_and_says_what_it_lacks(saved):
    word(saved, "circle").hover()
    assert caption(saved) == "“circle”"
    choose(saved, "Layer", value=LAYER)
    saved.get_by_role("button", name="head 1", exact=True).click()
    settled(saved)
    saved.get_by_label("Step", exact=True).press("ArrowRight")
    saved.locator(".ux-error", has_text="not in the saved page").wait_for()
    assert "head 1 · step 1" in saved.locator(".ux-detail").inner_text()  # it shows what it did
    choose(saved, "Layer", value="*")
    saved.get_by_label("self-attention").check()
    saved.mouse.click(*at(saved, 20.5 / 64, 20.5 / 64))  # the pixel that was looked at
    saved.locator(".ux-caption", has_text="where the framed pixel looks").wait_for()
