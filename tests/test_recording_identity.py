"""A record belongs to the run that made its forwards: whatever runs beside it, nothing mixes."""

import threading

import pytest
import torch

import unet_explained as ux
from unet_explained.recording import record

pytestmark = pytest.mark.slow

ONE, TWO = "a red circle left of a blue square", "a green fish"


def alone(pipe, prompt, **options):
    """The record of a run that nothing runs beside."""
    with record(pipe.unet, "mid_block") as rec:
        pipe(prompt, **options)
    return rec


def assert_equal(rec, number, expected):
    """Run `number` of a record is, bit for bit, the only run of another."""
    run, other = rec.runs[number], expected.runs[0]
    assert run.timesteps == other.timesteps
    assert [text.text for text in run.texts] == [text.text for text in other.texts]
    assert run.layers == other.layers
    for one, two in zip(run.steps, other.steps, strict=True):
        assert list(one.attention) == list(two.attention)
        assert all(torch.equal(one.attention[name], two.attention[name]) for name in two.attention)
        assert all(torch.equal(one.values[name], two.values[name]) for name in two.values)


def end(generator):
    """The run that a generator of steps returns."""
    while True:
        try:
            next(generator)
        except StopIteration as stop:
            return stop.value


@pytest.fixture
def expected(tiny_pipe):
    return [alone(tiny_pipe, ONE, steps=4), alone(tiny_pipe, TWO, steps=4, guidance=1)]


def test_generators_in_turn_and_unevenly(tiny_pipe, expected):
    with record(tiny_pipe.unet, "mid_block") as rec:
        first = tiny_pipe.denoise(ONE, steps=4)
        second = tiny_pipe.denoise(TWO, steps=4, guidance=1)
        for generator in (first, second, second, first, first, second):
            next(generator)
        runs = [end(second), end(first)][::-1]
    for number in (0, 1):
        assert_equal(rec, number, expected[number])
        assert rec.runs[number].origin is runs[number].recording.runs[0].origin
        assert rec.runs[number].finished
    assert torch.equal(rec.attention("fish", run=1), expected[1].attention("fish"))
    with pytest.raises(ValueError, match="2 runs were recorded: pass run=0 to 1"):
        rec.attention("fish")
    with pytest.raises(ValueError, match="'fish' is not in the prompt: a, red, circle"):
        rec.attention("fish", run=0)


@pytest.mark.parametrize("recorders", [1, 2])
def test_threads_that_run_at_once(tiny_pipe, expected, recorders):
    records, meet = {}, threading.Barrier(2)

    def run(number, prompt, options):
        if recorders == 2:
            with record(tiny_pipe.unet, "mid_block") as rec:
                meet.wait()
                tiny_pipe(prompt, steps=4, **options)
                meet.wait()
            records[number] = rec
        else:
            meet.wait()
            tiny_pipe(prompt, steps=4, **options)

    with record(tiny_pipe.unet, "mid_block") as rec:
        threads = [
            threading.Thread(target=run, args=(0, ONE, {})),
            threading.Thread(target=run, args=(1, TWO, {"guidance": 1})),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for one in (rec, *records.values()):
        texts = [run.text("conditional", None).text for run in one.runs]
        assert sorted(texts) == sorted([ONE, TWO])
        for number, prompt in enumerate((ONE, TWO)):
            assert_equal(one, texts.index(prompt), expected[number])


def test_a_live_view_and_the_next_cell(tiny_pipe, expected):
    view = ux.live(tiny_pipe, TWO, steps=40)
    with record(tiny_pipe.unet, "mid_block") as rec:
        tiny_pipe(ONE, steps=4)
    view.stop()
    mine = [n for n, run in enumerate(rec.runs) if run.text("conditional", None).text == ONE]
    assert len(mine) == 1
    assert_equal(rec, mine[0], expected[0])


def test_a_run_within_a_run_a_replay_and_a_view(tiny_pipe, expected):
    other = tiny_pipe(TWO, steps=2, guidance=1)
    with record(tiny_pipe.unet, "mid_block") as rec:
        for step in tiny_pipe.denoise(ONE, steps=4):
            if step.index == 1:
                tiny_pipe(TWO, steps=4, guidance=1)
                ux.explore(other)
            other.replay(0)
    lengths = [len(run.steps) for run in rec.runs]
    assert lengths[0] == 4
    assert_equal(rec, 0, expected[0])
    assert_equal(rec, lengths.index(4, 1), expected[1])
    rest = [run for run in rec.runs if len(run.steps) == 1]
    assert len(rest) == len(rec.runs) - 2 == 5  # four replays, and the view's first
    assert {run.text("conditional", None).text for run in rest} == {TWO}


def test_an_abandoned_run_is_readable_and_says_that_it_is_unfinished(tiny_pipe, expected):
    unet = tiny_pipe.unet
    with record(unet, "mid_block") as rec:
        generator = tiny_pipe.denoise(ONE, steps=4)
        next(generator)
        generator.close()
        stray = torch.zeros(2, 4, 8, 8), 5, torch.zeros(2, 77, unet.config.cross_attention_dim)
        with torch.no_grad():
            unet(*stray)
            unet(*stray)
    assert [len(run.steps) for run in rec.runs] == [1, 2]
    assert [run.finished for run in rec.runs] == [False, None]
    assert "1 (unfinished), 2" in repr(rec)
    first = expected[0].attention("circle", step=0)
    assert torch.equal(rec.attention("circle", run=0), first)
    assert rec.attention(token=3, run=1, picture=0).shape == (8, 8)
    with pytest.raises(ValueError, match=r"nobody said here what the prompt is.*pass token="):
        rec.attention("circle", run=1, picture=0)


def test_an_interrupted_run_and_the_one_after_it(tiny_pipe, expected):
    def interrupt(module, args):
        raise KeyboardInterrupt

    with record(tiny_pipe.unet, "mid_block") as rec:
        generator = tiny_pipe.denoise(ONE, steps=4)
        next(generator)
        handle = tiny_pipe.unet.mid_block.register_forward_pre_hook(interrupt)
        with pytest.raises(KeyboardInterrupt):
            next(generator)
        handle.remove()
        tiny_pipe(TWO, steps=4, guidance=1)
    assert [run.finished for run in rec.runs] == [False, True]
    assert len(rec.runs[0].steps) == 1
    assert_equal(rec, 1, expected[1])


def test_two_sizes_that_nobody_calls_theirs_are_two_runs(unet, inputs):
    small = inputs[0][..., :8, :8], *inputs[1:]
    with record(unet, "conv_in") as rec:
        unet(*inputs)
        unet(*small)
        unet(*inputs)
    assert [len(run.steps) for run in rec.runs] == [2, 1]
    assert [next(iter(run.layers.values())) for run in rec.runs] == [(16, 24), (8, 8)]


def test_the_words_of_the_negative_prompt(tiny_pipe):
    with record(tiny_pipe.unet, halves="both") as rec:
        tiny_pipe(ONE, negative_prompt="a green frog", steps=2)
    frog = rec.attention("frog", half="unconditional")
    tokens = rec.runs[0].text("unconditional", None).find("frog")[0]
    expected = sum(rec.attention(token=token, half="unconditional") for token in tokens)
    torch.testing.assert_close(frog, expected)
    with pytest.raises(ValueError, match="'frog' is not in the prompt: a, red"):
        rec.attention("frog")


def test_a_recorded_forward_again(tiny_pipe):
    with record(tiny_pipe.unet, "mid_block") as rec:
        run = tiny_pipe(ONE, steps=3)
    again = rec.replay(1, "mid_block", "conv_out", attention="heads")
    assert torch.equal(again["mid_block"][0], rec["mid_block"][1])
    assert torch.equal(again["conv_out"][0], run.replay(1, "conv_out")["conv_out"][0])
    assert again.timesteps == rec.timesteps[1:2]
    once = again.attention("circle", layer="mid_block*")
    torch.testing.assert_close(once, rec.attention("circle", layer="mid_block*", step=1))
    with pytest.raises(IndexError, match="step 3 is not among the 3"):
        rec.replay(3)


def test_a_bare_forward_again_and_why_not(unet, inputs):
    with record(unet, "conv_out") as rec:
        unet(*inputs)
        unet(inputs[0], timestep=3, encoder_hidden_states=inputs[2])
    assert torch.equal(rec.replay(1, "conv_out")["conv_out"][0], rec["conv_out"][1])
    inputs[0].mul_(2)
    with pytest.raises(ValueError, match="step 0 was given has been written into since"):
        rec.replay(0)


def test_what_was_given_gives_way_to_what_was_asked_for(unet, inputs):
    with record(unet, attention=None) as without:
        unet(*inputs)
    assert without.runs[0].steps[0].given
    with record(unet, attention=None, budget=1000) as rec:
        unet(*inputs)
    with pytest.raises(ValueError, match="did not fit the budget"):
        rec.replay(0)


def test_the_model_is_held_weakly_and_another_may_be_named(tiny_config, inputs):
    unet = ux.UNet2DConditionModel.from_config(tiny_config, seed=0)
    with record(unet, "conv_out") as rec:
        unet(*inputs)
    del unet
    with pytest.raises(ValueError, match="the model that was recorded is gone: pass unet="):
        rec.replay(0)
    same = ux.UNet2DConditionModel.from_config(tiny_config, seed=0)
    assert torch.equal(rec.replay(0, "conv_out", unet=same)["conv_out"][0], rec["conv_out"][0])
