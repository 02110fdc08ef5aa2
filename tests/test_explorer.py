"""The word explorer without a browser: what its page is given, and what it answers when asked."""

import base64
import json
import threading

import numpy as np
import pytest
import torch

import unet_explained as ux
from unet_explained.widgets import explorer_page
from unet_explained.widgets.explorer import explore
from unet_explained.widgets.explorer_page import choice, packed
from unet_explained.widgets.subject_maps import WordMaps, columns_of
from unet_explained.widgets.subjects import subject_of
from unet_explained.widgets.widget import Asked

pytestmark = pytest.mark.slow

PROMPT = "a red frog left of a blue square, a frog"  # repeated words; frog has four tokens
NEGATIVE = "a green frog"
STEPS = 3


@pytest.fixture
def forwards(tiny_pipe):
    """The timesteps of the forwards so far."""
    seen = []
    tiny_pipe.unet.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["timestep"].item()), with_kwargs=True
    )
    return seen


@pytest.fixture
def recorded(tiny_pipe):
    """A guided run, and a recording of all there is to know of its attention."""
    options = dict(attention="heads", halves="both", self_attention=True)
    with ux.record(tiny_pipe.unet, **options) as recording:
        run = tiny_pipe(PROMPT, negative_prompt=NEGATIVE, steps=STEPS, guidance=5)
    return run, recording


@pytest.fixture
def run(recorded):
    return recorded[0]


def shown(view, **where) -> tuple[list[dict], np.ndarray]:
    """The words as the page lists them, and the weights (word, height, width) it makes of bytes."""
    where = choice(**where)
    content, (data,) = view.answer({"maps": where})
    words = view.about["texts"][where["half"]]["words"]
    maps = np.frombuffer(data, np.uint8).reshape(content["shape"]) / 255.0
    return words, maps * np.array(content["tops"])[:, None, None]


def of_recording(recording, half="conditional", **where) -> np.ndarray:
    """The same weights read from a recording, token by token."""
    columns = columns_of(recording.text(half=half), 77)
    return np.stack(
        [
            sum(recording.attention(token=i, half=half, **where) for i in column.tokens).numpy()
            for column in columns
        ]
    )


def assert_equal(maps: np.ndarray, expected: np.ndarray) -> None:
    """As equal as 255 steps from 0 to each map's maximum allow."""
    tops = expected.max(axis=(1, 2), keepdims=True)
    assert (np.abs(maps - expected) <= tops / 255).all()


LAYER = "up_blocks.1.attentions.2.transformer_blocks.0.attn2"
PLACES = [
    dict(step=1),
    dict(step=0, layer=LAYER),
    dict(step=2, layer=LAYER, head=3),
    dict(step=2, layer="down_blocks*"),
    dict(layer=LAYER, head=1),
    dict(),
]


@pytest.mark.parametrize("half", ["conditional", "unconditional"])
@pytest.mark.parametrize("given", [True, False], ids=["recorded", "replayed"])
def test_the_page_shows_what_a_recording_says(recorded, half, given):
    run, recording = recorded
    view = explore(run, recording if given else None)
    for step in range(STEPS):
        view.answer({"replay": step})
    for where in PLACES:
        _, maps = shown(view, half=half, **where)
        assert_equal(maps, of_recording(recording, half, **where))


def test_each_occurrence_of_a_word_is_shown_apart_with_its_tokens_summed(recorded):
    run, recording = recorded
    view = explore(run, recording)
    words, maps = shown(view, step=1)
    assert [word["text"] for word in words] == ["start", *run.prompt.words, "the rest"]
    numbered = [(word["text"], word["number"]) for word in words if word["number"]]
    assert numbered == [("a", 1), ("frog", 1), ("a", 2), ("a", 3), ("frog", 2)]
    for word, each in zip(words[1:-1], maps[1:-1]):
        occurrence = max(0, word["number"] - 1)
        expected = recording.attention(word["text"], occurrence=occurrence, step=1).numpy()
        assert_equal(each[None], expected[None])


def test_of_the_unconditional_half_the_words_are_those_it_was_told(run):
    texts = explore(run).about["texts"]
    told = {half: [word["text"] for word in each["words"]] for half, each in texts.items()}
    assert told["unconditional"] == ["start", "a", "green", "frog", "the rest"]
    assert texts["unconditional"]["prompt"] == NEGATIVE


def test_the_weights_of_a_pixel_sum_to_1(run):
    _, maps = shown(explore(run), layer=LAYER, head=2, step=1)
    assert maps.sum(axis=0) == pytest.approx(1, abs=0.02)


def test_the_first_view_costs_one_forward_and_each_step_is_replayed_once(run, forwards):
    view = explore(run)
    assert view.about["choice"] == choice(step=1)
    assert forwards == [run.timesteps[1]]
    for _ in range(2):
        shown(view, step=1, layer=LAYER, head=0)
        shown(view, step=0, half="unconditional")
    assert forwards == [run.timesteps[1], run.timesteps[0]]


def test_with_a_recording_the_first_view_is_of_all_steps_and_costs_no_forward(recorded, forwards):
    view = explore(*recorded)
    assert view.about["choice"] == choice()
    assert forwards == []


def test_what_a_recording_did_not_keep_is_replayed(tiny_pipe):
    with ux.record(tiny_pipe.unet) as recording:
        run = tiny_pipe(PROMPT, steps=2, guidance=5)
    view = explore(run, recording)
    _, maps = shown(view, layer=LAYER, head=3, step=1)
    assert_equal(maps, of_recording(run.replay(1, attention="heads"), head=3, layer=LAYER))
    assert view.answer({"maps": choice(half="unconditional")})[0] == {"missing": [0]}


def test_the_mean_of_all_steps_names_the_steps_to_replay_first(run, forwards):
    view = explore(run)
    forwards.clear()
    assert view.answer({"maps": choice()}) == ({"missing": [0, 2]}, [])
    assert forwards == []


def test_a_small_budget_drops_steps_but_no_mean(recorded, forwards):
    run, recording = recorded
    source = WordMaps(subject_of(run, image=None), budget=1)
    mean = source.maps("*")
    expected = recording.attention("square").numpy()
    assert mean[8].numpy() == pytest.approx(expected, abs=1e-3)
    assert len(forwards) == STEPS
    source.maps(LAYER, head=0)
    assert len(forwards) == STEPS
    source.maps(LAYER, step=0)  # was dropped
    assert len(forwards) == STEPS + 1


def test_no_answer_is_over_4_mb_and_a_reduced_map_says_so(monkeypatch):
    maps = torch.rand(2, 31, 40)
    assert packed(maps)[0]["full"] == packed(maps)[0]["shape"][1:] == [31, 40]
    monkeypatch.setattr(explorer_page, "MESSAGE", 700)
    content, data = packed(maps)
    assert (content["shape"], content["full"]) == ([2, 16, 20], [31, 40])
    assert len(data) == 2 * 16 * 20
    assert max(content["tops"]) < 1
    assert explorer_page.MESSAGE <= 4 * 2**20


@pytest.mark.parametrize("half", ["conditional", "unconditional"])
@pytest.mark.parametrize("given", [True, False], ids=["recorded", "replayed"])
def test_self_attention_of_a_pixel_is_that_of_the_layer_beside(recorded, given, half):
    run, recording = recorded
    view = explore(run, recording if given else None)
    asked = {"self": {"row": 5, "column": 6, "layer": LAYER, "step": 2, "half": half}}
    content, (data,) = view.answer(asked)
    beside = LAYER.replace("attn2", "attn1")
    pixel = (1, 1)  # of the layer's 2 x 2, at the 5th row and 6th column of 8
    expected = recording.self_attention(layer=beside, step=2, pixel=pixel, half=half).numpy()
    found = np.frombuffer(data, np.uint8).reshape(content["shape"]) / 255.0 * content["tops"][0]
    assert content["step"] == 2
    assert_equal(found, expected[None])


def test_self_attention_of_all_layers_is_their_mean_and_of_all_steps_that_of_one(run, forwards):
    view = explore(run)
    forwards.clear()
    asked = {"row": 0, "column": 7, "layer": "*", "step": None, "half": "conditional"}
    content, (data,) = view.answer({"self": asked})
    assert content["shape"] == [1, 8, 8]
    shares = np.frombuffer(data, np.uint8) / 255 * content["tops"][0]
    assert shares.sum() == pytest.approx(1, abs=0.05)  # coarse layers count no more than fine ones
    assert content["step"] == 1
    view.answer({"self": asked | {"row": 3}})
    assert forwards == [run.timesteps[1]]


def test_what_there_is_not_is_said_in_words(tiny_pipe):
    view = explore(tiny_pipe("a red circle", steps=1, guidance=1))
    with pytest.raises(Asked, match="no unconditional half: its guidance was off"):
        view.answer({"maps": choice(half="unconditional", step=0)})
    with pytest.raises(Asked, match="head 9 is not among the 4"):
        view.answer({"maps": choice(LAYER, head=9, step=0)})
    with pytest.raises(Asked, match="step 4 is not among the 1"):
        view.answer({"maps": choice(step=4)})
    with pytest.raises(Asked, match="outside the latents' 8 x 8"):
        view.answer({"self": choice(step=0) | {"row": 8, "column": 0}})
    with pytest.raises(
        Asked, match="expected one of maps, replay, self, picture, subject, got weather"
    ):
        view.answer({"weather": 1})


def test_one_forward_at_a_time(run):
    view, unet, inside, most = explore(run), run.pipeline.unet, [0], [0]

    def enter(*_):
        inside[0] += 1
        most[0] = max(most[0], inside[0])

    unet.register_forward_pre_hook(enter)
    unet.register_forward_hook(lambda *_: inside.__setitem__(0, inside[0] - 1))
    asked = [{"replay": 0}, {"replay": 2}, {"self": choice(step=0) | {"row": 0, "column": 0}}]
    threads = [threading.Thread(target=view.answer, args=(each,)) for each in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


def test_without_a_kernel_a_notebook_shows_a_map_for_each_word(run):
    data, _ = explore(run)._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")


def test_an_empty_prompt_is_shown_too(tiny_pipe):
    view = explore(tiny_pipe("", steps=1, guidance=1))
    assert [word["text"] for word in view.about["texts"]["conditional"]["words"]] == [
        "start",
        "the rest",
    ]
    assert view.still().startswith(b"\x89PNG")


def test_a_file_holds_what_was_looked_at_and_costs_no_forward(run, forwards, tmp_path):
    view = explore(run)
    looked = {"self": {"row": 2, "column": 3, "layer": LAYER, "step": 0, "half": "conditional"}}
    view.answer(looked)
    view.answer({"maps": choice(LAYER, head=2, step=0)})
    forwards.clear()
    page = view.to_html(tmp_path / "explorer.html").read_text()
    assert forwards == []
    saved = json.loads(page.split('id="saved">')[1].split("</script>")[0])
    questions = [asked for asked, *_ in saved["answers"]]
    assert questions[0] == looked
    for where in (
        choice(LAYER, 2, 0), choice(step=0), choice(step=1), choice(step=1, half="unconditional"),
        choice("down_blocks*", step=1), choice(LAYER, step=1), choice(LAYER, 3, 1),
    ):  # fmt: skip
        assert {"maps": where} in questions
    assert {"maps": choice(step=2)} not in questions


def test_a_file_stays_small(recorded, monkeypatch):
    monkeypatch.setattr("unet_explained.widgets.explorer.FILE", 5000)
    view = explore(*recorded)
    size = sum(len(view.answer(asked)[1][0]) for asked in view.baked())
    assert 2500 < size <= 5000


def test_explore_names_what_it_cannot_take(tiny_pipe, recorded):
    run, recording = recorded
    with pytest.raises(TypeError, match=r"expected a Run.*got Pipeline.*explore\(pipe\("):
        explore(tiny_pipe)
    with pytest.raises(TypeError, match="what record\\(\\) gives, got str"):
        explore(run, "recording")
    other = tiny_pipe("a blue square", steps=STEPS)
    with pytest.raises(ValueError, match="no forward of this run"):
        explore(other, recording)
    with ux.record(tiny_pipe.unet, attention=None) as nothing:
        pass
    with pytest.raises(ValueError, match="kept no attention"):
        explore(run, nothing)


def test_two_runs_of_one_prompt_under_one_recorder_are_not_confused(tiny_pipe):
    with ux.record(tiny_pipe.unet) as recording:
        runs = [tiny_pipe("a frog", steps=1, seed=seed) for seed in (0, 1)]
        runs.append(tiny_pipe("a house", steps=1))
    for number, word in enumerate(("frog", "frog", "house")):
        _, maps = shown(explore(runs[number], recording))
        expected = recording.attention(word, run=number).numpy()
        assert_equal(maps[2:3], expected[None])
    assert not torch.equal(*(recording.attention("frog", run=number) for number in (0, 1)))
