"""A run that draws itself: it ends where any run ends, can be stopped, and costs little."""

import json
import time

import numpy as np
import pytest
import torch

import unet_explained as ux
from unet_explained.recording.heatmaps import average
from unet_explained.recording.listen import Stopped, listening, stoppable
from unet_explained.run.palette import Palette
from unet_explained.widgets.live import live
from unet_explained.widgets.live_pace import Pace

pytestmark = pytest.mark.slow


@pytest.fixture
def view(tiny_pipe):
    view = live(tiny_pipe, "a red circle", steps=4, seed=3)
    yield view
    view.stop()


def test_it_gives_the_run_that_the_pipeline_gives(view, tiny_pipe):
    run = view.wait()
    assert torch.equal(run.latents, tiny_pipe("a red circle", steps=4, seed=3).latents)
    assert view.status == "finished"
    assert view.picture.startswith(b"\x89PNG")


def test_the_first_and_the_last_step_are_always_drawn(view):
    view.wait()
    steps = [frame.content["step"] for frame in view.frames]
    assert steps[0] == 0
    assert steps[-1] == 3


def test_a_frame_shows_the_steps_own_preview_maps_and_activity(view, tiny_pipe):
    run = view.wait()
    frame, step = view.frames[-1], len(run.timesteps) - 1
    with_words = run.replay(step, attention="mean")
    layers = [n for n in with_words.layers if n.startswith("up_") and with_words.layers[n] < (8, 8)]
    recorded = [with_words.attention("circle", layer=layer) for layer in layers]
    expected = average(recorded).numpy()
    np.testing.assert_allclose(frame.maps[2], expected, atol=frame.content["top"] / 255)
    stats = run.replay(step, stats=True).stats
    activity = np.frombuffer(frame.buffers[2], np.uint8) / 255 * frame.content["strongest"]
    expected = [np.hypot(*stats[name][0][:2]) for name in frame.content["modules"]]
    np.testing.assert_allclose(activity, expected, atol=frame.content["strongest"] / 255)
    drawn = {box["name"] for box in view.drawing["boxes"]}
    assert set(frame.content["modules"]) == drawn
    assert {"time_embedding", "mid_block.attentions.0", "conv_out"} <= drawn


def test_a_frame_shows_what_the_network_is_given_and_says_beside_the_preview(view, tiny_pipe):
    view.wait()
    steps = list(tiny_pipe.denoise("a red circle", steps=4, seed=3))
    frame, step = view.frames[-1], steps[-1]
    assert [one["about"] for one in frame.content["beside"]] == [
        "what it is given",
        "what it predicts",
    ]
    given, predicted = (tiny_pipe.glimpse(x) for x in (step.sample, step.prediction))
    assert frame.buffers[3:] == [given.tobytes(), predicted.tobytes()]
    assert torch.equal(step.sample, view.wait().recording.given(3)["sample"][:1])


def test_the_map_of_the_u_that_opens_is_of_the_run_once_it_has_ended(view, tiny_pipe):
    run = view.wait()
    state = view.answer({"map": None})[0]["state"]
    assert state["timesteps"] == list(run.timesteps)
    assert state["title"] == "“a red circle”"
    asked = {"activity": 1}
    assert view.answer({"map": asked}) == ux.umap(run).answer(asked)
    fresh = live(tiny_pipe, "a blue square", steps=50)
    assert fresh.answer({"map": None})[0]["state"]["timesteps"] == []
    fresh.stop()


def test_maps_of_a_picture_of_any_size_have_its_proportions(tiny_pipe):
    view = live(tiny_pipe, "a red circle", steps=1, height=72, width=104)
    recording, frame = view.wait().replay(0, attention="mean"), view.frames[0]
    assert frame.maps.shape == (3, 5, 7)
    layers = [n for n, (high, _) in recording.layers.items() if n.startswith("up_") and high < 9]
    maps = [recording.attention("circle", layer=layer) for layer in layers]
    error = np.abs(frame.maps[2] - average(maps).numpy()).max()
    assert error <= frame.content["top"] / 255


def test_stop_ends_a_run_between_two_modules(view, tiny_pipe):
    view.wait()
    endless = live(tiny_pipe, "a red circle", steps=900)
    while not endless.frames and endless.status == "running":
        time.sleep(0.01)
    assert endless.status == "running", endless.note
    start = time.perf_counter()
    endless.stop()
    assert time.perf_counter() - start < 0.3
    assert endless.status == "stopped"
    with pytest.raises(RuntimeError, match="stopped before its end"):
        endless.wait()
    endless.start("a blue square")  # nothing of it is left in the network
    endless.stop()
    assert not any(module._forward_pre_hooks for module in tiny_pipe.unet.modules())


def test_the_page_starts_stops_and_looks_back(view):
    view.wait()
    asked = {"prompt": "a blue square", "seed": 1, "steps": 2, "guidance": None}
    assert view.answer({"start": asked}) == ({}, [])
    run = view.wait()
    assert (run.prompt.text, run.seed, view.words) == ("a blue square", 1, ["a", "blue", "square"])
    assert (len(run.timesteps), view.steps, view.words[view.first]) == (2, 2, "square")
    content, buffers = view.answer({"frame": 0})
    assert content["step"] == 0
    assert len(buffers[0]) == np.prod(content["preview"]) * 3
    with pytest.raises(ValueError, match="no such step"):
        view.answer({"frame": 99})


def test_a_prompt_that_names_nothing_is_answered_and_run_once_it_is_asked_for_again(tiny_pipe):
    tiny_pipe.palette = Palette(things=("circle",))
    view = live(tiny_pipe, "asdf qwer", steps=2)
    with pytest.raises(ValueError, match=r"press Start again, .* in the prompt: circle;"):
        view.wait()
    assert (view.status, view.prompt, view.steps, view.count) == ("ready", "asdf qwer", 2, 0)
    assert "'qwer': this model was never shown this word" in view.note
    asked = {"prompt": "asdf qwer", "seed": 0, "steps": 2, "guidance": None}
    view.answer({"start": asked})
    assert view.wait().prompt.text == "asdf qwer"
    view.start("7 7")  # answered, and what was run stays
    assert (view.status, view.count > 0, bool(view.picture)) == ("finished", True, True)
    with pytest.raises(ValueError, match="'7': this model was never shown a number"):
        view.wait()
    view.start("a circle")
    assert view.wait().prompt.text == "a circle"


def test_frames_are_dropped_for_a_page_that_is_behind():
    now = time.perf_counter()
    assert Pace(sent=5, sent_at=now).allows(1e9)  # nobody looks
    assert not Pace(sent=5, sent_at=now, shown=1).allows(1e9)
    assert Pace(sent=5, sent_at=now, shown=4).allows(1e9)
    assert Pace(sent=5, sent_at=now - 60, shown=1).allows(1e9)  # the page is gone: nobody waits


def test_frames_are_dropped_where_they_would_cost_the_run_too_much(view):
    view.wait()
    assert view.pace.spent > 0
    assert view.pace.allows(1e9)
    assert not view.pace.allows(view.pace.spent)


def test_the_page_says_what_it_has_shown(view):
    view.wait()
    view.answer({"shown": 1})
    assert (view.pace.shown, view.pace.sent) == (2, len(view.frames))


def test_a_replay_beside_it_sees_its_own_forward_alone(view, tiny_pipe):
    run = view.wait()
    right = run.replay(1, attention=None, stats=True).stats
    beside = live(tiny_pipe, "a blue square", steps=300)
    for _ in range(5):
        again = run.replay(1, attention=None, stats=True)
        assert again.timesteps == [run.timesteps[1]]
        assert again.stats == right
    assert beside.status == "running"
    beside.stop()
    run.replay(1)  # is not stopped


def test_what_goes_wrong_in_the_thread_is_said(tiny_pipe, monkeypatch):
    def broken(latents):
        raise MemoryError("no room for a picture")

    monkeypatch.setattr(tiny_pipe, "decode", broken)
    view = live(tiny_pipe, "a red circle", steps=1)
    with pytest.raises(MemoryError, match="no room"):
        view.wait()
    assert (view.status, view.note) == ("failed", "MemoryError: no room for a picture")


def test_bad_input_is_refused_before_any_work(tiny_pipe):
    with pytest.raises(TypeError, match=r"ux\.load\(\)"):
        live(tiny_pipe.unet, "a red circle")
    with pytest.raises(ValueError, match="steps"):
        live(tiny_pipe, "a red circle", steps=0)


def test_a_saved_page_holds_every_frame_and_no_markup_of_a_prompt(tiny_pipe, tmp_path):
    hostile = "</script><img src=x onerror=alert(1)>"
    view = live(tiny_pipe, hostile, steps=2)
    view.wait()
    page = view.to_html(tmp_path / "run.html").read_text()
    assert "<img" not in page
    saved = page.split('id="saved">')[1].split("</script>")[0]
    saved = json.loads(saved)
    assert saved["state"]["prompt"] == hostile
    assert sum("frame" in asked for asked, *_ in saved["answers"]) == len(view.frames)
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_a_notebook_without_a_kernel_shows_a_film_strip(view):
    view.wait()
    data, _ = view._repr_mimebundle_()
    assert data["image/png"].startswith("iVBOR")
    assert "application/vnd.jupyter.widget-view+json" in data


def test_listening_hears_and_stopping_leaves_nothing(unet, inputs):
    heard = []
    with listening(unet, ["mid_block*", "conv_out"], lambda name, args, output: heard.append(name)):
        unet(*inputs)
    assert heard[-1] == "conv_out"
    assert "mid_block.attentions.0" in heard
    with stoppable(unet, lambda: True), pytest.raises(Stopped):
        unet(*inputs)
    unet(*inputs)
    with pytest.raises(ValueError, match="no module fits"), listening(unet, ["nothing"], print):
        pass
