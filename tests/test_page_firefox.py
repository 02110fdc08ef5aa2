"""The page in Firefox, from disk."""

from importlib.util import find_spec

import pytest
from firefox import ENTER, FIREFOX, firefox
from page_runs import SHOWN, expect_pythons

import unet_explained as ux

NEEDED = "onnx", "onnxscript", "onnxruntime", "websocket"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.long,
    pytest.mark.skipif(
        any(find_spec(name) is None for name in NEEDED),
        reason="needs the extras: pip install -e '.[page,test]'",
    ),
    pytest.mark.skipif(FIREFOX is None, reason="no Firefox was found: apt-get install firefox-esr"),
]
PROMPT, STEPS = "an orange heart right of a tiny ship", 2


@pytest.fixture
def tab(pages, tmp_path):
    with firefox(tmp_path) as opened:
        yield opened


def test_from_disk_a_run_is_pythons(pages, tab):
    tab.open((pages / "live.html").as_uri())
    assert "saved with this page" in tab.evaluate("document.querySelector('#of').textContent")
    for name, value in {"steps": f"{STEPS}", "prompt": PROMPT}.items():
        tab.evaluate(f"document.querySelector('.ux-live [aria-label={name}]').select()")
        tab.type(value)
    tab.type(ENTER)
    status = "document.querySelector('.ux-live').dataset.status"
    assert tab.evaluate(status) == "running"
    tab.until(f"{status} !== 'running'")
    note = "document.querySelector('.ux-live-note').textContent"
    assert "'ship': this model was never shown this word" in tab.evaluate(note)
    pipe = ux.load(device="cpu", dtype="float32")
    expect_pythons(tab.evaluate(SHOWN), pipe, PROMPT, seed=0, steps=STEPS)
    assert not tab.outside
    assert not tab.errors
