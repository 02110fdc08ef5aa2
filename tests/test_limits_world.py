"""The world around: terminals, pipes, homes, interrupts, kernels and other processes."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Timer

import pytest
import torch
from lab import FAILED, RUN
from playwright.sync_api import expect
from warm import Ended, Warm

import unet_explained as ux

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
ENDLESS = ("--steps", "900")


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    warm = Warm(tmp_path_factory.mktemp("warm"))
    yield warm
    warm.close()


@pytest.fixture
def heatmap(tiny_folder, tmp_path) -> list[str]:
    out = str(tmp_path / "heat.png")
    options = ["--model", str(tiny_folder), "--device", "cpu", "--steps", "2", "--out", out]
    return ["heatmap", "a red circle", *options]


@pytest.fixture
def tour(tiny_folder, tmp_path) -> list[str]:
    out = str(tmp_path / "tour")
    return ["tour", "--model", str(tiny_folder), "--device", "cpu", "--steps", "2", "--out", out]


def written(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.glob("tour/*"))


TOUR = ["heatmaps.png", "picture.png", "shapes-of-this-run.txt", "shapes-sd15.txt"]

# Output that is closed, or cannot be written


def test_shapes_into_a_pager_that_is_closed(warm):
    warm.begin("shapes", "sdxl", pipe=True)
    with open(warm.out) as reader:
        assert reader.readline().startswith("sdxl: batch 2")
    ended = warm.end()
    assert (ended.status, ended.err) == (0, "")


@pytest.mark.parametrize("one", [False, True], ids=["output", "output and errors"])
def test_a_run_whose_output_is_closed_is_not_lost(one, warm, tour, tmp_path):
    warm.begin(*tour, pipe=True, one=one)
    with open(warm.out) as reader:
        assert reader.readline().startswith("loading")
    ended = warm.end()
    assert written(tmp_path) == TOUR
    assert ended.status == 0
    assert "rror" not in ended.err


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_run_without_one_of_its_streams(number, warm, heatmap, tmp_path):
    ended = warm.run(*heatmap, closed=[number])
    assert ended.status == 0
    assert (tmp_path / "heat.png").exists()


def test_output_that_cannot_be_written_is_said_in_a_line():
    # In a Python of its own: what it still holds is written as it ends.
    command = [sys.executable, "-m", "unet_explained", "shapes", "sd15", "--depth", "1"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "No space left" in done.stderr


# Terminals that are not UTF-8


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_a_terminal_without_some_characters(encoding, warm, tour, tmp_path):
    ended = warm.run(*tour, encoding=encoding, env={"PYTHONIOENCODING": encoding})
    assert ended.status == 0, ended.err
    assert "a red house left of a green tree" in ended.out
    assert written(tmp_path) == TOUR


def test_a_locale_that_knows_ascii_alone(tour, tmp_path):
    env = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = command(tour, env=env)
    assert done.status == 0, done.err
    assert written(tmp_path) == TOUR
    assert "└" in (tmp_path / "tour" / "shapes-sd15.txt").read_text(encoding="utf-8")


# No home, no display, no fonts


def command(words: list[str], env: dict[str, str | None], **options) -> Ended:
    """In a Python of its own: most of this is read as Python, torch and matplotlib start."""
    env = {name: value for name, value in (os.environ | env).items() if value is not None}
    done = subprocess.run(
        [sys.executable, "-m", "unet_explained", *words], cwd=ROOT, env=env, capture_output=True,
        text=True, errors="replace", **options,
    )  # fmt: skip
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.mark.skipif(sys.platform != "linux", reason="takes a right of root's by Linux's own call")
@pytest.mark.parametrize("given", ["read-only", "none"])
def test_a_home_that_cannot_be_written(given, heatmap, tmp_path, tiny_folder):
    home = tmp_path / "home"
    home.mkdir(mode=0o555)
    env: dict[str, str | None] = {name: str(home) for name in ("HOME", "MPLCONFIGDIR", "HF_HOME")}
    if given == "none":
        env = dict.fromkeys(env)
    ended = command(heatmap, env | {"TMPDIR": str(tmp_path)}, preexec_fn=_as_anyone)
    assert ended.status == 0, ended.err
    assert (tmp_path / "heat.png").exists()
    assert "Traceback" not in ended.err


def _as_anyone() -> None:
    """Not even root writes where the mode forbids it (PR_CAPBSET_DROP, CAP_DAC_OVERRIDE)."""
    ctypes.CDLL(None).prctl(24, 1)


def test_no_display_and_no_fonts_of_the_system(heatmap, tmp_path):
    bare = {"DISPLAY": None, "WAYLAND_DISPLAY": None, "MPLBACKEND": "TkAgg", "PATH": ""}
    nothing = {"FONTCONFIG_FILE": os.devnull, "MPLCONFIGDIR": str(tmp_path / "new")}
    ended = command(heatmap, bare | nothing)
    assert ended.status == 0, ended.err
    assert (tmp_path / "heat.png").exists()


def test_without_docstrings():
    ended = command(["shapes", "sd15", "--depth", "1"], {"PYTHONOPTIMIZE": "2"})
    assert ended.status == 0, ended.err
    assert "up_blocks.3" in ended.out


# Interrupts


@pytest.mark.parametrize("after", ["loading", "“a red circle”"])
def test_an_interrupt_of_heatmap(after, warm, heatmap, tmp_path):
    (tmp_path / "heat.png").write_bytes(b"an older picture")
    warm.begin(*heatmap, *ENDLESS)
    warm.interrupt_after(after)
    stopped(warm.end())
    assert (tmp_path / "heat.png").read_bytes() == b"an older picture"


def test_an_interrupt_of_the_tour(warm, tour, tmp_path):
    warm.begin(*tour, *ENDLESS)
    warm.interrupt_after("900 steps")
    stopped(warm.end())
    assert not (tmp_path / "tour").exists()


def test_an_interrupt_of_shapes_whose_reader_waits(warm):
    warm.begin("shapes", "sdxl", pipe=True)
    with open(warm.out) as reader:
        reader.readline()
        time.sleep(1)  # until it has filled the pipe
        os.kill(warm.pid, signal.SIGINT)
        time.sleep(0.2)
    stopped(warm.end())


@contextmanager
def serving(place: Path) -> Iterator[tuple[subprocess.Popen, int]]:
    """`lab` that serves, in a terminal, and what that terminal's keyboard is."""
    names = ("JUPYTER_CONFIG", "JUPYTER_DATA", "JUPYTER_RUNTIME", "JUPYTERLAB_WORKSPACES")
    places = {f"{name}_DIR": str(place / name) for name in names}
    command = [sys.executable, "-m", "unet_explained", "lab", "--no-browser", "--allow-root"]
    keyboard, terminal = os.openpty()  # else JupyterLab does not ask
    with open(place / "log", "w") as log:
        lab = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | places,
            stdin=terminal, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        _wait_for("is running at", place / "log", lab)
        yield lab, keyboard
    finally:
        with suppress(ProcessLookupError):
            os.killpg(lab.pid, signal.SIGKILL)
        os.close(keyboard), os.close(terminal)
    left = list(place.glob("JUPYTER_RUNTIME/jpserver-*"))
    assert not left, "it was killed before it could tidy up"


def test_an_interrupt_of_lab_is_its_servers_to_answer(tmp_path):
    with serving(tmp_path) as (lab, keyboard):
        assert "/lab/tree/00_start_here.ipynb" in (tmp_path / "log").read_text()
        os.killpg(lab.pid, signal.SIGINT)  # as a terminal does
        _wait_for("Shut down this Jupyter server", tmp_path / "log", lab)
        os.write(keyboard, b"y\n")
        assert lab.wait(60) == 130
    assert (tmp_path / "log").read_text().endswith("\nstopped\n")


def test_a_lab_that_is_ended_serves_no_longer(tmp_path):
    with serving(tmp_path) as (lab, _):
        lab.terminate()  # its server hears nothing of it
        lab.wait(60)


def _wait_for(text: str, log: Path, process: subprocess.Popen, late: float = 120) -> None:
    late += time.monotonic()
    while text not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < late, log.read_text()
        time.sleep(0.1)


def stopped(ended: Ended) -> None:
    assert ended.status == 130
    assert ended.err.split("\n")[-2:] == ["stopped", ""]
    assert "Traceback" not in ended.err
    assert "Exception" not in ended.err


# A process that ends while a live view runs

LIVE = """
import time
import unet_explained as ux
view = ux.live({pipe}, "a red circle", steps=900)
while not view.frames:
    time.sleep(0.01)
view.to_html({page!r})
{last}
"""
OTHERS = "__import__('diffusers').StableDiffusionPipeline.from_pretrained({!r})"


@pytest.mark.parametrize(
    ("pipe", "last", "status"),
    [
        ("ux.load({!r}, device='cpu')", "", 0),
        ("ux.load({!r}, device='cpu')", "raise SystemExit(3)", 3),
        ("ux.load({!r}, device='cpu')", "raise ValueError('mine')", 1),
        ("ux.load({!r}, device='cpu')", "again = ux.live(view.pipe, 'red', steps=900)", 0),
        (OTHERS, "", 0),
    ],
    ids=["a script", "its own status", "its own error", "two views", "diffusers'"],
)
def test_the_end_of_a_process_ends_its_live_views(pipe, last, status, warm, tiny_folder, tmp_path):
    page = str(tmp_path / "run.html")
    code = LIVE.format(pipe=pipe.format(str(tiny_folder)), page=page, last=last)
    ended = warm.run(code=code)
    assert ended.status == status, ended.err
    assert "terminate" not in ended.err
    assert ("ValueError: mine" in ended.err) == (status == 1)
    assert Path(page).read_text().endswith("</html>\n")


# Views that are closed, begun again, dragged and interrupted


@pytest.fixture
def view(tiny_pipe):
    view = ux.live(tiny_pipe, "a red circle", steps=900)
    yield view
    view.stop()
    assert not any(module._forward_pre_hooks for module in tiny_pipe.unet.modules())


def frames(view, count: int) -> None:
    while len(view.frames) < count and view.status == "running":
        time.sleep(0.01)
    assert view.status == "running", view.note


def test_a_closed_view_still_receives_steps(tiny_pipe):
    view = ux.live(tiny_pipe, "a red circle", steps=30)
    frames(view, 1)
    view.close()
    view.wait()
    assert (view.status, view.note) == ("finished", "")
    assert view.frames[-1].content["step"] == 29


def test_a_closed_explorer_is_still_asked(tiny_pipe):
    explorer = ux.explore(tiny_pipe("a red circle", steps=2))
    question = {"number": "1", "ask": explorer.baked()[0]}
    explorer.close()
    explorer._asked(explorer, question, [])


def test_a_cell_that_is_run_again_and_again(tiny_pipe, view):
    alone = tiny_pipe("a blue square", steps=4, seed=3).latents
    views = [ux.live(tiny_pipe, "a blue square", steps=4, seed=3) for _ in range(3)]
    for each in views:
        assert torch.equal(each.wait().latents, alone)
    assert view.status == "running"


def test_of_many_starts_the_newest_wins(view):
    for seed in range(20):
        view.answer({"start": {"prompt": "a blue square", "seed": seed}})
    frames(view, 1)
    assert (view.seed, view.prompt) == (19, "a blue square")


def test_an_interrupt_while_a_run_is_waited_for(view):
    frames(view, 1)
    Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        view.wait()
    assert view.status == "running"
    view.stop()
    assert view.status == "stopped"


def test_steps_that_are_not_there(view):
    for index in (-1, 10**9):
        with pytest.raises(ValueError, match="no such step"):
            view.answer({"frame": index})


# A busy machine


@pytest.mark.skipif(sys.platform != "linux", reason="GNU OpenMP's, which torch brings on Linux")
@pytest.mark.parametrize("users", [None, "ACTIVE"])
def test_threads_that_wait_give_their_core_away_unless_the_user_says_otherwise(users):
    env = {"OMP_WAIT_POLICY": users, "OMP_DISPLAY_ENV": "VERBOSE"}
    ended = command(["shapes", "sd15", "--depth", "1"], env)
    (said,) = (line for line in ended.err.splitlines() if "OMP_WAIT_POLICY" in line)
    assert f"'{users or 'PASSIVE'}'" in said


# JupyterLab: kernels that start again, pages that are loaded again, two at once, quick hands

VIEWS = [
    "import unet_explained as ux\npipe = ux.load({folder!r}, device='cpu')",
    "ux.explore(pipe({prompt!r}, steps=6))",
    "ux.live(pipe, {prompt!r}, steps=12)",
]
RESTART = """async () => {
  const { session } = window.jupyterapp.shell.currentWidget.sessionContext;
  await session.kernel.restart();
  await session.kernel.info;
}"""
# A hand that does not wait for answers: each step is chosen in turn, the first one last.
DRAG = """(slider) => {
  for (const step of [1, 2, 3, 4, 5, 4, 3, 2, 1, 0]) {
    slider.value = step;
    for (const event of ["input", "change"]) slider.dispatchEvent(new Event(event));
  }
}"""


@pytest.fixture(scope="module")
def views(request, tiny_folder):
    lab = request.getfixturevalue("lab")
    return lambda prompt, name: lab.run(
        *(cell.format(folder=str(tiny_folder), prompt=prompt) for cell in VIEWS), name=name
    )


@pytest.fixture(scope="module")
def browser(views):
    expect.set_options(timeout=60_000)
    yield views("a red circle", "one.ipynb")
    expect.set_options(timeout=5_000)


def choose_step(browser, act: str, expected: int) -> None:
    explorer = browser.page.locator(".ux-explorer")
    explorer.get_by_label("Step", exact=True).evaluate(act)
    expect(explorer.locator(".ux-detail")).to_contain_text(f"step {expected} of 0 to 5")
    expect(explorer).to_have_attribute("aria-busy", "false")


def they_answer(browser, word: str, step: int) -> None:
    """Both views have this word, show what they are asked for, and no cell failed."""
    words = browser.page.locator(".ux-explorer .ux-word").filter(has_text=word)
    expect(words.first).to_be_visible()
    choose_step(browser, DRAG.replace("[1,", f"[{step},").replace(" 0]", f" {step}]"), step)
    live = browser.page.locator(".ux-live")
    expect(live.get_by_role("status")).to_contain_text("finished: step")
    live.get_by_label("look back").press("End")
    expect(live.get_by_role("status")).to_have_text("finished: step 12 of 12")
    live.get_by_label("look back").press("Home")
    expect(live.get_by_role("status")).to_have_text("finished: step 1 of 12")
    assert browser.page.evaluate(FAILED) == []
    assert browser.errors == []


@pytest.mark.browser
def test_of_a_rapid_drag_the_newest_wins(browser):
    choose_step(browser, DRAG, 0)
    they_answer(browser, "circle", 1)


@pytest.mark.browser
def test_a_page_that_is_loaded_again_has_its_views(browser):
    browser.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    browser.page.reload()
    they_answer(browser, "circle", 2)


@pytest.mark.browser
def test_a_kernel_that_is_started_again(browser):
    browser.page.evaluate(RESTART)
    browser.page.evaluate(RUN)
    they_answer(browser, "circle", 3)


@pytest.mark.browser
def test_two_kernels_do_not_mix(browser, views):
    other = views("a blue square", "two.ipynb")
    they_answer(other, "square", 4)
    they_answer(browser, "circle", 5)
    browser.page.evaluate(RUN)
    they_answer(browser, "circle", 4)
    other.page.close()
