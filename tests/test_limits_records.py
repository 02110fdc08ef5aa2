"""Records: what is handed out, who else runs, and what stays behind when nobody looks any more."""

import gc
import threading
import weakref
from contextlib import ExitStack, suppress

import pytest
import torch
from PIL import ImageDraw
from pipelines import RED, build
from pipelines import run as called

import unet_explained as ux
from unet_explained.model import UNet2DConditionModel
from unet_explained.recording import Recording, record
from unet_explained.recording.identity import Identity, Origin, Row, identified
from unet_explained.widgets.explorer import explore
from unet_explained.widgets.explorer_page import choice
from unet_explained.widgets.live import live
from unet_explained.widgets.umap import umap
from unet_explained.widgets.widget import Asked

pytestmark = pytest.mark.slow

BLOCK, LAYER = "down_blocks.0", "down_blocks.0.attentions.0"
CROSS = f"{LAYER}.transformer_blocks.0.attn2"
SELF = CROSS.replace("attn2", "attn1")
PROMPT = "a red frog"


def made(pipe, **options):
    """A run of two steps, and a record of it."""
    with record(pipe.unet, BLOCK, LAYER, self_attention=True, stats=True, **options) as rec:
        run = pipe(PROMPT, steps=2, guidance=5)
    return run, rec


def everything(run, rec) -> list:
    """All that can be read of them, as bytes and texts."""
    again = rec.replay(1, LAYER)
    numbers = [
        *rec[LAYER], *(skip for _, skips in rec[BLOCK] for skip in skips), *again[LAYER],
        rec.weights(CROSS), rec.weights(CROSS, step=0), rec.attention("frog"),
        rec.self_attention(layer=SELF, step=0), *rec.given(0).values(), run.latents,
    ]  # fmt: skip
    told = rec.timesteps, rec.stats, rec.layers, rec.texts, rec.unknown, rec.names, rec.config
    words = len(rec.runs), run.timesteps, rec.shapes.rows
    read = [tensor.numpy().tobytes() for tensor in numbers]
    return [*read, repr(told), repr(words), run.image.tobytes()]


def rubbed_out(picture) -> None:
    ImageDraw.Draw(picture).rectangle([0, 0, *picture.size], fill="white")


HANDED_OUT = {
    'rec["module"]': lambda run, rec: rec[LAYER][0].zero_(),
    'rec["module"], its list': lambda run, rec: rec[BLOCK][0][1].clear(),
    "rec.values": lambda run, rec: rec.values(LAYER).clear(),
    "rec.weights": lambda run, rec: rec.weights(CROSS, step=0).zero_(),
    "rec.attention": lambda run, rec: rec.attention("frog", step=0, layer=CROSS).zero_(),
    "rec.self_attention": lambda run, rec: rec.self_attention(layer=SELF, step=0).zero_(),
    "rec.given": lambda run, rec: rec.given(0).clear(),
    "rec.given, a tensor": lambda run, rec: rec.given(0)["sample"].zero_(),
    "rec.given, a timestep": lambda run, rec: rec.given(0)["timestep"].zero_(),
    "rec.replay": lambda run, rec: rec.replay(1, LAYER).given(0)["sample"].zero_(),
    "rec.runs": lambda run, rec: rec.runs.clear(),
    "rec.runs, its steps": lambda run, rec: rec.runs[0].steps.pop(),
    "rec.calls": lambda run, rec: rec.calls.clear(),
    "rec.shapes": lambda run, rec: setattr(rec.shapes, "rows", ()),
    "rec.texts": lambda run, rec: setattr(rec.texts[0], "text", "a cat"),
    "rec.text": lambda run, rec: setattr(rec.text(), "spans", ()),
    "rec.timesteps": lambda run, rec: rec.timesteps.clear(),
    "rec.stats": lambda run, rec: [rec.stats[LAYER].clear(), rec.stats.clear()],
    "rec.layers": lambda run, rec: rec.layers.clear(),
    "rec.names": lambda run, rec: rec.names.clear(),
    "rec.config": lambda run, rec: rec.config.clear(),
    "rec.unknown": lambda run, rec: rec.unknown.append("nothing"),
    "run.image": lambda run, rec: rubbed_out(run.image),
    "run.latents": lambda run, rec: run.latents.zero_(),
    "run.recording": lambda run, rec: run.recording.given(1)["encoder_hidden_states"].zero_(),
}


@pytest.fixture(scope="module")
def whole(tiny_folder):
    """A function that gives a run, its record and all that can be read of them, unharmed."""
    pipe, kept = ux.load(tiny_folder, device="cpu"), []

    def give():
        if not (kept and kept[2]):
            kept.clear()
            kept.extend(made(pipe))
            kept.append(everything(*kept))
        return kept

    return give


@pytest.mark.parametrize("what", HANDED_OUT)
def test_what_is_handed_out_cannot_change_the_record(whole, what):
    """It is a copy, or cannot be written into."""
    run, rec, expected = whole()
    with suppress(AttributeError):  # of what has no such method, or is frozen
        HANDED_OUT[what](run, rec)
    try:
        assert everything(run, rec) == expected
    except BaseException:
        expected.clear()  # the next case begins with others
        raise


def test_what_was_recorded_stays_when_its_inputs_are_written_into(unet, inputs):
    with record(unet, LAYER) as rec:
        unet(*inputs)
    expected = rec[LAYER][0].clone()
    inputs[0].zero_()
    assert torch.equal(rec[LAYER][0], expected)
    for read in (rec.given, rec.replay):
        with pytest.raises(ValueError, match="step 0 was given has been written into since"):
            read(0)


def test_a_step_with_a_list_of_residuals_is_replayed_as_often_as_one_likes():
    """diffusers' UNet takes from the lists that it is given."""
    pipe, options = build("t2i")
    with ux.record(pipe) as rec:
        called(pipe, **options)
    first = rec.replay(1, "conv_out")["conv_out"][0]
    assert torch.equal(rec.replay(1, "conv_out")["conv_out"][0], first)


def in_a_forward(unet, inputs, act) -> None:
    """A forward in the middle of which something is done, once."""

    def hook(module, args):
        handle.remove()
        act()

    handle = unet.mid_block.register_forward_pre_hook(hook)
    unet(*inputs)


def test_a_recorder_entered_within_a_forward_sees_the_next_one(unet, inputs):
    watch, entered = record(unet, "conv_out", stats=True), []
    in_a_forward(unet, inputs, lambda: entered.append(watch.__enter__()))
    (rec,) = entered
    assert not rec.runs
    with pytest.raises(ValueError, match="no forward of the model ended inside `with`"):
        rec.values("conv_out")
    with watch_left(watch):
        expected = unet(*inputs).sample
    assert torch.equal(rec["conv_out"][0], expected)
    assert len(rec.runs[0].steps) == 1
    assert len(rec.layers) == 16


def watch_left(watch):
    """A `with` that was entered elsewhere."""
    stack = ExitStack()
    stack.callback(watch.__exit__)
    return stack


def test_a_recorder_left_within_a_forward_has_nothing_of_it(unet, inputs):
    watch = record(unet, "conv_out")
    rec = watch.__enter__()
    unet(*inputs)
    in_a_forward(unet, inputs, watch.__exit__)
    assert len(rec.runs[0].steps) == 1
    assert not any(module._forward_hooks for module in unet.modules())


@pytest.mark.parametrize("leaves", [False, True], ids=["entered", "entered and left"])
def test_a_recorder_of_another_thread_while_a_forward_runs(unet, inputs, leaves):
    inside, go = threading.Event(), threading.Event()
    given = torch.zeros_like(inputs[0]), *inputs[1:]

    def wait():
        inside.set()
        assert go.wait(60)

    other = threading.Thread(target=in_a_forward, args=(unet, inputs, wait))
    expected = unet(*given).sample
    other.start()
    assert inside.wait(60)
    with record(unet, "conv_out", stats=True) as rec:
        seen = unet(*given).sample
        if not leaves:
            go.set()
            other.join()
    go.set()
    other.join()
    assert torch.equal(seen, expected)
    assert len(rec.runs) == len(rec.runs[0].steps) == 1
    assert torch.equal(rec["conv_out"][0], expected)


class Interrupted(BaseException):
    """As Ctrl-C, but never the tests' own."""


def interrupt():
    raise Interrupted


def test_the_table_of_a_record_whose_first_forward_was_interrupted(unet, inputs):
    with record(unet) as whole:
        unet(*inputs)
    with record(unet) as rec:
        with pytest.raises(Interrupted):
            in_a_forward(unet, inputs, interrupt)
        with pytest.raises(ValueError, match="nothing was recorded of its shapes"):
            _ = rec.shapes
        unet.conv_in(inputs[0])  # a part of the model, called by itself
        unet(*inputs)
    assert repr(rec.shapes) == repr(whole.shapes)


def test_a_part_called_alone_after_an_interrupt_is_of_no_forward(unet, inputs):
    with record(unet, "conv_in", stats=True) as rec:
        with pytest.raises(Interrupted):
            in_a_forward(unet, inputs, interrupt)
        unet.conv_in(inputs[0])
        unet(*inputs)
    assert len(rec.runs[0].steps) == 1
    assert list(rec.runs[0].steps[0].values) == ["conv_in"]


def test_a_forward_inside_a_forward_hides_neither(unet, inputs):
    within = torch.zeros_like(inputs[0]), torch.tensor(3), inputs[2]
    results = []
    with record(unet, "conv_out", stats=True) as rec:
        in_a_forward(unet, inputs, lambda: results.append(unet(*within).sample))
    assert sorted(rec.timesteps) == [3, 7]
    by_time = dict(zip(rec.timesteps, rec["conv_out"]))
    assert torch.equal(by_time[3], results[0])
    assert torch.equal(by_time[7], unet(*inputs).sample)
    assert rec.attention(token=1, step=rec.timesteps.index(7), picture=0).shape == (16, 24)


def test_a_forward_inside_one_of_a_run_is_not_the_runs(unet, inputs):
    with record(unet) as rec, identified(Identity(Origin(1), (Row(),) * 2), unet):
        in_a_forward(unet, inputs, lambda: unet(inputs[0], torch.tensor(3), inputs[2]))
    (own,) = [run for run in rec.runs if run.origin]
    assert own.timesteps == [7]


def test_a_recorder_entered_within_a_forward_of_a_run_hears_what_is_not_the_runs(unet, inputs):
    seen = []

    def look():
        with record(unet) as rec:
            unet(*inputs)
        seen.append(rec)

    with identified(Identity(Origin(1), (Row(),) * 2), unet):
        in_a_forward(unet, inputs, look)
    assert [run.origin for run in seen[0].runs] == [None]


def test_another_unet_called_inside_a_run_does_not_take_its_name(tiny_pipe, tiny_config, inputs):
    other = UNet2DConditionModel.from_config(tiny_config, seed=1).requires_grad_(False)
    watch = record(other)
    tiny_pipe.unet.mid_block.register_forward_pre_hook(lambda *call: other(*inputs) and None)
    with watch as rec:
        tiny_pipe(PROMPT, steps=1, guidance=5)
    assert [run.origin for run in rec.runs] == [None]


def test_runs_that_are_abandoned_give_back_what_they_would_have_kept(tiny_pipe):
    with record(tiny_pipe.unet) as rec:
        tiny_pipe(PROMPT, steps=2)
    one = sum(part.nbytes for part in rec.runs[0].steps[0].attention.values())
    with record(tiny_pipe.unet, budget=14 * one) as rec:
        for _ in range(4):
            steps = tiny_pipe.denoise(PROMPT, steps=10)
            next(steps)
            steps.close()
        tiny_pipe(PROMPT, steps=10)
    assert [len(run.steps) for run in rec.runs] == [1, 1, 1, 1, 10]


def test_a_call_that_was_interrupted_gives_back_what_it_would_have_kept():
    pipe, options = build("sd")
    options |= {"num_inference_steps": 10}
    with ux.record(pipe, halves="both") as rec:
        called(pipe, **options)
    one = sum(part.nbytes for part in rec.runs[0].steps[0].attention.values())

    def stop(pipe, index, timestep, given):
        raise Interrupted

    with ux.record(pipe, halves="both", budget=14 * one) as rec:
        for _ in range(4):
            with pytest.raises(Interrupted):
                called(pipe, **options, callback_on_step_end=stop)
        called(pipe, **options)
    assert [len(run.steps) for run in rec.runs] == [1, 1, 1, 1, 10]


def test_a_pipeline_that_nobody_watches_in_a_callback_is_not_the_outer_call():
    pipe, options = build("sd")
    other, _ = build("sd")
    other.unet = pipe.unet

    def also(_, index, timestep, given):
        if index == 0:
            called(other, RED, **options)
        return {}

    with ux.record(pipe) as rec:
        called(pipe, RED, **options, callback_on_step_end=also)
    (own,) = [run for run in rec.runs if run.origin]
    assert len(own.steps) == options["num_inference_steps"]


@pytest.mark.parametrize("view", [explore, umap])
def test_a_loaded_record_runs_again_on_a_unet_that_is_given(tiny_pipe, tmp_path, view):
    run, rec = made(tiny_pipe)
    loaded = Recording.load(rec.save(tmp_path / "record"))
    asked = {
        explore: {"maps": choice(CROSS, head=1, step=0)},
        umap: {"features": "conv_out", "step": 1, "first": 0},
    }[view]
    with pytest.raises(Asked, match=r"the model that was recorded is gone: pass unet="):
        view(loaded).answer(asked)
    assert view(loaded, unet=tiny_pipe.unet).answer(asked) == view(run).answer(asked)


@pytest.mark.parametrize("view", [explore, umap])
def test_a_view_that_is_asked_for_too_much_says_what_its_user_can_do(tiny_pipe, view, monkeypatch):
    run, _ = made(tiny_pipe)
    shown = view(run)
    monkeypatch.setattr("unet_explained.widgets.subject.ROOM", 1000)
    asked = {
        explore: {"maps": choice(CROSS, head=1, step=1)},
        umap: {"features": LAYER, "step": 1, "first": 0},
    }[view]
    with pytest.raises(Asked, match=r"rec\.replay\([01], .*budget=") as refusal:
        shown.answer(asked)
    assert "over the budget" not in str(refusal.value)


def views_of(pipe, kind):
    """A view, and weakly what it is of."""
    if kind is live:
        view = live(pipe, PROMPT, steps=2)
        run = view.wait()
        return view, [weakref.ref(one) for one in (view, run, run.recording)]
    run, rec = made(pipe)
    view = kind(*((run, rec) if kind is explore else (run,)))
    view.still()
    return view, [weakref.ref(one) for one in (view, run, rec)]


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "abandoned"])
@pytest.mark.parametrize("kind", [explore, umap, live])
def test_a_view_that_nobody_looks_at_any_more_keeps_nothing_alive(tiny_pipe, kind, closed):
    view, parts = views_of(tiny_pipe, kind)
    if closed:
        view._repr_mimebundle_()
        view.close()
    del view
    gc.collect()
    assert [part() for part in parts] == [None] * 3


def test_a_closed_view_lets_go_though_it_has_a_name(tiny_pipe):
    view, (_, *parts) = views_of(tiny_pipe, explore)
    view.close()
    gc.collect()
    assert [part() for part in parts] == [None] * 2
    with pytest.raises(Asked, match="closed"):
        view.answer({"maps": choice(step=0)})
