"""The page in Chromium: it runs as Python does, from disk and from a host, or says why not."""

import functools
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import numpy as np
import pytest
from lab import CHROMIUM, FLAGS, Browser
from page_runs import SHOWN, expect_pythons
from playwright.sync_api import expect

import unet_explained as ux
from unet_explained.run.text import read_prompt

pytestmark = [
    pytest.mark.browser,
    pytest.mark.long,
    pytest.mark.skipif(
        any(find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
        reason="needs the extra: pip install -e '.[page]'",
    ),
]
PROMPT, SEED, STEPS = "a blue fish left of an orange house", 3, 2
LISTEN = """window.told = []; // all that the page says of how far its engine is
addEventListener("DOMContentLoaded", () => new MutationObserver(
  ([{ target }]) => told.push(target.textContent)
).observe(document.getElementById("engine"), { childList: true }));"""
JUMPS = """window.jumped = 0;
new PerformanceObserver((list) => {
  for (const { value } of list.getEntries()) jumped += value;
}).observe({ type: "layout-shift", buffered: true });"""
CORES = "Object.defineProperty(navigator, 'hardwareConcurrency', { get: () => 6 })"
FOCUSED = """() => {
  const { activeElement: element } = document;
  const { outlineStyle, outlineWidth } = getComputedStyle(element);
  const { top, bottom } = element.getBoundingClientRect();
  return element !== document.body && {
    outline: `${outlineStyle} ${outlineWidth}`, name: element.localName,
    seen: top > -1 && bottom < innerHeight + 1, module: element.dataset.name ?? "",
  };
}"""
WAIT = 600_000  # milliseconds; a forward takes two seconds, and many times that on a busy machine


@pytest.fixture(scope="module")
def pipe():
    return ux.load(device="cpu", dtype="float32")


@pytest.fixture
def opened(chromium):
    """A function that opens an address; what went wrong there, or left the machine, fails."""
    browsers = []

    def open_(address: str, before: str = "", **options) -> Browser:
        base = address.partition("?")[0] if address.startswith("http") else ""
        browser = Browser(chromium, base, **options)
        browsers.append(browser)
        browser.page.set_default_timeout(WAIT)
        browser.page.add_init_script(before)
        browser.page.goto(address, wait_until="commit")
        return browser

    yield open_
    for browser in browsers:
        browser.page.close()
        assert not browser.outside
        assert not browser.errors


@pytest.fixture(scope="module")
def host(pages) -> Iterator[str]:
    """A plain static server of site/; an address may ask it for a content policy."""

    class Quiet(SimpleHTTPRequestHandler):
        def end_headers(self) -> None:
            if policy := parse_qs(urlsplit(self.path).query).get("policy"):
                self.send_header("Content-Security-Policy", policy[0])
            super().end_headers()

        def log_message(self, *arguments) -> None:
            pass

    handler = functools.partial(Quiet, directory=pages / "site")
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def start(page, prompt: str = PROMPT, steps: int = STEPS, **options) -> None:
    live = page.locator(".ux-live")
    for name, value in {"prompt": prompt, "seed": SEED, "steps": steps, **options}.items():
        live.get_by_label(name, exact=True).fill(str(value))
    live.get_by_role("button", name="Start").click()


def ended(page, status: str) -> None:
    expect(page.locator(".ux-live")).to_have_attribute("data-status", status, timeout=WAIT)


def word(page, text: str):
    return page.locator(".ux-explorer .ux-word").filter(has_text=text)


def weight(page, text: str) -> float:
    shown = word(page, text).locator(".ux-weight").inner_text()
    return 0.0 if shown == "<.001" else float(shown)


def test_from_disk_a_run_is_pythons(pages, pipe, opened):
    page = opened((pages / "live.html").as_uri()).page
    expect(word(page, "butterfly")).to_be_visible()  # the saved run, before anything is loaded
    start(page)
    expect(page.locator(".ux-live .ux-said").last).to_have_text("running")  # of no step yet
    expect(page.locator(".ux-live-stage")).to_have_css("opacity", "0.35")  # of the run before
    ended(page, "finished")
    expect(page.locator(".ux-live-stage")).to_have_css("opacity", "1")
    expect(page.locator("#of")).to_have_text(f"seed {SEED}, made in this page")
    expect(page.locator(".ux-explorer .ux-prompt")).to_have_text(f"“{PROMPT}”")
    with ux.record(pipe.unet) as recording:
        run = pipe(PROMPT, seed=SEED, steps=STEPS)

    for name in ("fish", "orange"):
        assert weight(page, name) == pytest.approx(recording.attention(name).max().item(), abs=1e-3)
    page.locator(".ux-explorer canvas.ux-picture").focus()
    page.keyboard.press("ArrowUp")  # from the middle: row 31, column 32
    for name in ("fish", "orange", "house"):
        expected = recording.attention(name)[31, 32].item()
        assert weight(page, name) == pytest.approx(expected, abs=3e-3)
    page.keyboard.press("Escape")
    found = page.evaluate("""() => {
        const canvas = document.querySelector(".ux-explorer canvas.ux-picture");
        return [...canvas.getContext("2d").getImageData(0, 0, 512, 512).data];
    }""")
    picture = np.array(found).reshape(512, 512, 4)[..., :3]
    assert np.abs(picture - np.asarray(run.image).astype(int)).max() <= 1

    code = page.locator("#code").inner_text()
    told: dict = {}
    exec(code.removesuffix("run.image"), told)
    assert told["run"].latents.allclose(run.latents)


@pytest.fixture(scope="module")
def shared(pages, chromium) -> Iterator:
    """A page in which one run is made after the other."""
    browser = Browser(chromium)
    browser.page.set_default_timeout(WAIT)
    browser.page.goto((pages / "live.html").as_uri())
    yield browser.page
    assert not browser.outside
    assert not browser.errors


@pytest.mark.filterwarnings("ignore:the prompt is longer")
@pytest.mark.parametrize(
    "asked",
    [
        {"prompt": "a small red heart above a large green boat", "seed": 11},
        {"prompt": "a star and a purple disc left of a black sailboat", "seed": 2**53 - 1},
        {"prompt": "a zeppelin over Zürich’s well-known house", "seed": 2},
        {"prompt": "a yellow tree on a pink ground", "guidance": 1},  # a batch of one row
        {"prompt": "the red, red, RED fish; a tree: ‘(red)’!", "seed": 4, "guidance": 7.5},
        {"prompt": "", "seed": 5},
        {"prompt": "?! ...", "seed": 6},
        {"prompt": "赤い家 🏠 İstanbul e\u0301te\u0301 x_y\xa0don't", "seed": 7, "steps": 3},
        {"prompt": "<|endoftext|> a fish <b>&amp;</b> \\n 007", "seed": 8},
        {"prompt": "a blue square, a white triangle and " * 12, "seed": 9},  # 84 words
    ],
    ids=lambda asked: asked["prompt"][:24] or "nothing",
)
def test_any_prompts_run_is_pythons(shared, pipe, asked):
    options = {"seed": 0, "steps": STEPS, "guidance": 3.5} | asked
    start(shared, **options)
    if pipe.palette.doubt(read_prompt(options["prompt"], pipe.tokenizer).words):
        expect(shared.locator(".ux-live-note")).to_contain_text("press Start again")
        shared.locator(".ux-live").get_by_role("button", name="Start").click()
    ended(shared, "finished")
    expect_pythons(shared.evaluate(SHOWN), pipe, **options)


def test_where_a_pixel_looks_is_asked_of_the_saved_run(pages, opened):
    page = opened((pages / "live.html").as_uri(), LISTEN).page
    page.get_by_label("self-attention").check()
    page.locator(".ux-explorer canvas.ux-picture").click(position={"x": 100, "y": 300})
    expect(page.locator(".ux-caption")).to_have_text("where the framed pixel looks", timeout=WAIT)
    assert any("MB" in words for words in page.evaluate("told"))


def test_from_a_plain_host_it_has_threads_and_stops(host, opened):
    page = opened(f"{host}/").page
    page.wait_for_function("() => crossOriginIsolated")  # once its service worker has come
    expect(page.locator("#state")).to_contain_text("thread")
    start(page, "</script><img src=x onerror='window.bad=1'>", steps=50)
    expect(page.locator(".ux-live-note")).to_contain_text("to run it anyway, press Start again")
    ended(page, "finished")  # the saved run is still there
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator(".ux-live .ux-said").last).to_contain_text("step 1 of 50", timeout=WAIT)
    expect(page.locator(".ux-live-note")).to_contain_text("was never shown this word")
    page.get_by_role("button", name="Stop").click()
    ended(page, "stopped")
    assert page.evaluate("window.bad") is None
    assert page.locator("main img").count() == 0
    page.reload()
    expect(word(page, "butterfly")).to_be_visible()


def workers(browser) -> int:
    """How many Web Workers are under way, by the names of the threads on Linux."""
    told = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
    names = [
        task.read_text().strip()
        for process in told
        if process["type"] == "renderer"
        for task in Path(f"/proc/{process['id']}/task").glob("*/comm")
    ]
    return names.count("DedicatedWorker")


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize(("where", "count", "said"), [("disk", 1, "one"), ("host", 3, "3")])
def test_half_of_the_cores_run_it_on_a_host_and_one_thread_from_disk(
    pages, host, chromium, where, count, said
):
    browser = chromium.browser_type.launch(executable_path=CHROMIUM, args=FLAGS)  # no other page
    page = browser.new_page()
    page.add_init_script(CORES)
    page.goto(f"{host}/" if where == "host" else (pages / "live.html").as_uri())
    if where == "host":
        page.wait_for_function("() => crossOriginIsolated")
    expect(page.locator("#state")).to_contain_text(f"Here it runs on {said} thread")
    start(page, steps=1)
    ended(page, "finished")
    assert workers(browser) == count
    browser.close()


def test_nothing_jumps(pages, opened):
    address = (pages / "live.html").as_uri()
    page = opened(address, JUMPS, viewport={"width": 768, "height": 900}).page
    expect(page.locator("#map .ux-umap")).to_be_visible()
    start(page, "a zeppelin on a red ground")  # of which much is said, before it runs
    expect(page.locator(".ux-live-note")).to_contain_text("press Start again")
    page.locator(".ux-live").get_by_role("button", name="Start").click()
    ended(page, "finished")
    expect(page.locator("#of")).to_contain_text("made in this page")
    assert page.evaluate("jumped") < 1e-3  # a word that becomes bold


def test_by_keyboard_alone_all_is_reached_and_seen(pages, opened):
    page = opened((pages / "live.html").as_uri()).page
    expect(page.locator("#map .ux-umap")).to_be_visible()
    stops = []

    def tabbed() -> dict:
        page.keyboard.press("Tab")
        return page.evaluate(FOCUSED)

    for stop in iter(tabbed, False):
        assert stop["seen"], stop
        assert stop["outline"] == "solid 2px", stop
        stops.append(stop)
        if stop["module"]:
            page.keyboard.press("ArrowRight")
            page.keyboard.press("ArrowDown")
            assert page.evaluate(FOCUSED)["module"] == "conv_in"
            page.keyboard.press("Enter")
            expect(page.locator("#map .ux-umap-details")).to_contain_text("conv_in")
            page.keyboard.press("Escape")
    assert len(stops) > 50
    kinds = {"input", "button", "summary", "canvas", "select", "g", "rect"}
    assert kinds == {stop["name"] for stop in stops}


def test_where_nothing_can_run_the_saved_run_is_there_and_why(pages, opened):
    page = opened((pages / "live.html").as_uri(), "delete globalThis.WebAssembly").page
    expect(page.locator("#state")).to_contain_text("too old to run the model: it lacks WebAssembly")
    expect(word(page, "butterfly")).to_be_visible()
    page.get_by_label("look back").press("ArrowLeft")
    expect(page.locator(".ux-live [role=status]")).to_contain_text("step 19 of 20")
    start(page)
    ended(page, "failed")
    expect(page.locator(".ux-live-note")).to_contain_text("it lacks WebAssembly")


def test_where_no_script_may_run_the_picture_is_there_and_why(pages, opened):
    address = (pages / "live.html").as_uri()
    page = opened(address, java_script_enabled=False).page
    expect(page.get_by_text("Its script does not run here")).to_be_visible()
    expect(page.get_by_role("img", name="a red house left of")).to_be_visible()


@pytest.mark.parametrize(
    ("allowed", "said"),
    [
        ("'self'", "Its script does not run here"),
        (
            "'self' 'unsafe-inline' data:",
            "the content policy of this page's host forbids its script",
        ),
    ],
)
def test_where_a_content_policy_forbids_the_views_the_picture_is_there_and_why(
    host, opened, allowed, said
):
    page = opened(f"{host}/?policy={quote(f'default-src {allowed}')}").page
    expect(page.get_by_text(said)).to_be_visible()
    expect(page.get_by_text("a red house left of")).to_be_visible()


def refused(page, why: str) -> None:
    """The saved run stays, and a run that is asked for says why it is not made."""
    start(page)
    ended(page, "failed")
    expect(page.locator(".ux-live-note")).to_contain_text(why)
    expect(word(page, "butterfly")).to_be_visible()
    page.locator("#map [data-name=conv_in]").first.click()
    page.locator("#map").get_by_role("tab", name="source").click()
    expect(page.locator("#map")).to_contain_text("class Conv2d")


def test_where_a_content_policy_forbids_webassembly_it_is_said(host, opened):
    policy = quote("default-src 'self' 'unsafe-inline' blob: data:")
    refused(opened(f"{host}/?policy={policy}").page, "host forbids WebAssembly")


def test_where_memory_is_too_little_it_is_said(pages, chromium):
    """125 MB for WebAssembly, by an option of Chromium's own."""
    few = [*FLAGS, "--js-flags=--wasm-max-mem-pages=2000"]
    browser = chromium.browser_type.launch(executable_path=CHROMIUM, args=few)
    page = browser.new_page()
    page.goto((pages / "live.html").as_uri())
    refused(page, "too little memory")
    browser.close()


def test_the_map_of_the_u_is_of_the_run_that_was_made(pages, opened):
    page = opened((pages / "live.html").as_uri()).page
    u = page.locator("#map .ux-umap")
    expect(u.locator(".ux-umap-title")).to_contain_text("yellow butterfly")
    u.get_by_role("button", name="activity in the run").click()  # of the saved run, at once
    u.locator("[data-name='mid_block.resnets.0']").click()
    start(page)
    ended(page, "finished")
    expect(u.locator(".ux-umap-title")).to_contain_text(PROMPT)
    expect(u).to_contain_text("root mean square")
    u.get_by_role("tab", name="feature maps").click()
    expect(u.locator(".ux-umap-tiles img")).to_have_count(12, timeout=WAIT)
    u.get_by_role("button", name="Play").click()
    expect(u.locator("image").first).to_be_attached(timeout=WAIT)
    page.get_by_role("button", name="open the map of the U").click()
    expect(page.get_by_role("dialog")).to_contain_text(PROMPT)


def test_the_licences_of_what_is_linked_in_are_there(pages, opened):
    page = opened((pages / "live.html").as_uri()).page
    page.get_by_text("Licences of what runs here").click()
    expect(page.locator("#notices pre")).to_contain_text("protocolbuffers/protobuf")
