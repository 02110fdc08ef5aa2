"""Whatever interrupts a `with`, at the latest the next forward is rid of every hook."""

import copy
import itertools
import pickle
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import pytest
import torch

from unet_explained.recording import record
from unet_explained.recording.hooks import Hook, Hooks
from unet_explained.recording.intervene import intervene
from unet_explained.recording.recorder import Recorder

INTERRUPTED = """
import os, random, signal, sys, threading, time
import torch, torch._dynamo
import unet_explained as ux
from unet_explained.recording.hooks import Hook

torch.set_num_threads(1)
torch.set_grad_enabled(False)
unet = ux.UNet2DConditionModel.from_config(dict(
    block_out_channels=[8, 8], norm_num_groups=4, cross_attention_dim=8, attention_head_dim=2,
    down_block_types=["CrossAttnDownBlock2D"] * 2, up_block_types=["CrossAttnUpBlock2D"] * 2,
    layers_per_block=1,
), seed=0)
inputs = torch.ones(1, 4, 4, 4), torch.tensor(7), torch.ones(1, 5, 8)
expected = unet(*inputs).sample
stance = torch._dynamo.eval_frame._stance
ready, sent, left = [], 0, 0  # a list, not an Event: an interrupt may leave one locked

def interrupter():
    rng, last = random.Random(0), time.monotonic()
    while True:
        time.sleep(rng.random() * 0.03)
        # Python swallows an interrupt that comes in a finalizer, whosever it is: then another.
        if ready or time.monotonic() > last + 5:
            ready.clear()
            last = time.monotonic()
            os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupter, daemon=True).start()
while sent < int(sys.argv[1]):
    try:
        ready.append(True)
        while True:
            with ux.record(unet, "*", stats=True, self_attention=True):
                unet(*inputs)
                with ux.intervene(unet, "conv_in", lambda x: 2 * x), ux.record(unet):
                    pass
    except KeyboardInterrupt:
        sent += 1
    unet(*inputs)  # a forward rids itself of what is left
    hooks = [h for m in unet.modules()
             for h in (*m._forward_hooks.values(), *m._forward_pre_hooks.values())]
    left += len(hooks)
    assert torch.equal(unet(*inputs).sample, expected)
assert torch._dynamo.eval_frame._stance == stance, torch._dynamo.eval_frame._stance
print(sent, left)
"""


PUTTING_ON = (
    torch.nn.Module.register_forward_hook.__code__,
    torch.nn.Module.register_forward_pre_hook.__code__,
)


def ours(model) -> list[Hook]:
    """This package's hooks on any module."""
    stores = (s for m in model.modules() for s in (m._forward_hooks, m._forward_pre_hooks))
    return [hook for store in stores for hook in store.values() if isinstance(hook, Hook)]


@pytest.mark.long
def test_after_hundreds_of_interrupts_no_hook_is_left():
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, "300"], cwd=Path(__file__).parents[1], text=True,
        capture_output=True, env={"JAXTYPING_DISABLE": "1", "PATH": "", "OMP_NUM_THREADS": "1"},
        timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["300", "0"]


def test_a_hook_whose_with_is_gone_takes_itself_off(unet, inputs):
    """As if the interrupt came when the `with` was just about to end."""
    expected = unet(*inputs).sample
    watch, change = record(unet, "*", stats=True), intervene(unet, "conv_in", lambda x: 0 * x)
    recording = watch.__enter__()
    change.__enter__()
    assert len(ours(unet)) > 500
    del watch, change
    assert torch.equal(unet(*inputs).sample, expected)
    assert not ours(unet)
    assert not recording.runs


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_of_a_model_under_recording_carry_no_live_hook(unet, inputs, copied):
    with record(unet, "*") as rec:
        other = copied(unet)
        output = other(*inputs).sample
        assert not ours(other)
        assert not rec.runs
        assert torch.equal(unet(*inputs).sample, output)
    assert len(rec.runs) == 1


def test_the_compilers_stance_is_what_it_was_when_recorders_overlap(unet):
    import torch._dynamo

    before = torch._dynamo.eval_frame._stance
    first, second = record(unet), record(unet)
    first.__enter__()
    second.__enter__()
    first.__exit__()
    assert torch._dynamo.eval_frame._stance.stance == "force_eager"
    second.__exit__()
    assert torch._dynamo.eval_frame._stance == before


def test_a_forward_that_never_ended_is_let_go_with_its_recorder(unet, inputs):
    """Of the recorder that is still at hand."""
    watch, seen = record(unet), []

    def interrupt(module, args, output):
        seen.append(weakref.ref(args[0]))
        raise KeyboardInterrupt

    attend = unet.down_blocks[0].attentions[0].transformer_blocks[0].attn2.attend
    with Hooks(lambda hooks: hooks.after(attend, interrupt)):
        watch.__enter__()
        with pytest.raises(KeyboardInterrupt):
            unet(*inputs)
    assert seen[0]() is not None, "what is recorded waits for the forward's end"
    watch.__exit__()
    assert seen[0]() is None


def test_hooks_are_put_on_once(unet):
    with Hooks(lambda hooks: hooks.after(unet, print)) as hooks:
        with pytest.raises(RuntimeError, match="on already"), hooks:
            pass
        assert len(ours(unet)) == 1
    assert not ours(unet)


def test_forwards_of_another_thread_run_through_a_recorders_coming_and_going(unet, inputs):
    """One between any two of the lines in which torch puts a hook on: every 499th of them."""
    expected, outputs, lines = unet(*inputs).sample, [], itertools.count(1)

    def forward():
        outputs.append(None)
        outputs[-1] = unet(*inputs).sample

    def trace(frame, event, argument):
        if event == "line" and next(lines) % 499 == 0:
            thread = threading.Thread(target=forward)
            thread.start()
            thread.join()
        return trace if frame.f_code in PUTTING_ON else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with record(unet, "*", stats=True, self_attention=True):
            pass
    finally:
        sys.settrace(before)
    assert len(outputs) > 20
    assert all(output is not None and torch.equal(output, expected) for output in outputs)


def test_of_two_threads_that_find_other_modules_one_puts_hooks_on(unet, inputs):
    attention = unet.mid_block.attentions[0].transformer_blocks[0].attn2
    other = threading.Thread(target=unet, args=inputs)

    def trace(frame, event, argument):
        if frame.f_code is Recorder.place_inside.__code__ and not other.ident:
            other.start()
            other.join(0.1)  # it waits for this one, or it would be through

    with record(unet, "mid_block") as rec:
        attention.to_q = torch.nn.Sequential(attention.to_q)
        before = sys.gettrace()
        sys.settrace(trace)
        unet(*inputs)
        sys.settrace(before)
        other.join()
    assert [list(run.steps[0].values) for run in rec.runs] == [["mid_block"]] * 2
    assert not ours(unet)


def test_a_recorder_may_be_left_by_another_thread(unet, inputs):
    watch = record(unet)
    rec = watch.__enter__()
    unet(*inputs)
    thread = threading.Thread(target=watch.__exit__)
    thread.start()
    thread.join()
    unet(*inputs)
    assert len(rec.runs[0].steps) == 1
    assert not ours(unet)
