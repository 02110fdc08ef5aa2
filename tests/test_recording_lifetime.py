"""When a recorder watches, and that nothing of it is left behind."""

import gc
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch
from recording_helpers import of_a_run

from unet_explained.model import UNet2DConditionModel
from unet_explained.recording import record
from unet_explained.recording.hooks import Hooks

LAYER = "down_blocks.0.attentions.0"


def hooks(model) -> int:
    """Hooks left on any module."""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_hooks_are_gone_after_exceptions(unet, inputs):
    def fail(error):
        with record(unet, "*", self_attention=True, stats=True):
            unet(*inputs)
            assert hooks(unet) > 500
            raise error

    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error):
            fail(error)
        assert hooks(unet) == 0


def test_hooks_come_off_also_if_placing_one_fails(unet):
    def place(placed):
        placed.after(unet.conv_in, print)
        assert hooks(unet) == 1
        raise MemoryError

    with pytest.raises(MemoryError), Hooks(place):
        pass
    assert hooks(unet) == 0


def test_an_interrupted_forward_leaves_nothing_behind(unet, inputs):
    def interrupt(module, args):
        raise KeyboardInterrupt

    with record(unet, "conv_in") as rec, of_a_run(2):
        unet(*inputs)
        stop = unet.mid_block.register_forward_pre_hook(interrupt)
        with pytest.raises(KeyboardInterrupt):
            unet(*inputs)
        stop.remove()
        assert len(rec["conv_in"]) == 1
        unet(inputs[0], 5, inputs[2])
    assert rec.timesteps == [7, 5]
    assert rec.attention(token=1).shape == (16, 24)


def test_nested_recorders_are_independent(unet, inputs):
    with record(unet, LAYER) as outer:
        unet(*inputs)
        with record(unet, "mid_block", attention=None) as inner:
            unet(*inputs)
        assert hooks(unet) > 0
        unet(*inputs)
    assert hooks(unet) == 0
    assert (len(outer[LAYER]), len(inner["mid_block"])) == (3, 1)
    assert not inner.layers


def test_a_submodule_called_alone_is_no_forward(unet, inputs):
    with record(unet, "conv_in", stats=True) as rec:
        unet.conv_in(inputs[0])
    assert not rec.runs
    with pytest.raises(ValueError, match="nothing was recorded"):
        rec.attention(token=0)
    with record(unet, "conv_in") as rec:
        unet(*inputs)
        unet.conv_in(inputs[0])
    assert list(rec.runs[0].steps[0].values) == ["conv_in"]


def test_a_recording_does_not_keep_the_model_alive(tiny_config, inputs):
    unet = UNet2DConditionModel.from_config(tiny_config, seed=0)
    model = weakref.ref(unet)
    with record(unet, LAYER, self_attention=True) as rec:
        unet(*inputs)
    del unet
    gc.collect()
    assert model() is None
    assert rec[LAYER][0].shape == (2, 16, 16, 24)


def test_errors_before_any_forward(unet):
    with pytest.raises(ValueError, match="no module fits 'mid_blok'; the closest: mid_block"):
        record(unet, "mid_blok")
    with pytest.raises(TypeError, match=r"pipe\.unet.*got Linear"):
        record(torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match="attention='max'"):
        record(unet, attention="max")
    with pytest.raises(ValueError, match="halves='all'"):
        record(unet, halves="all")
    with pytest.raises(ValueError, match="budget='much'"):
        record(unet, budget="much")
    rec = record(unet)
    with rec:
        pass
    with pytest.raises(RuntimeError, match="used once"), rec:
        pass
    with pytest.raises(AttributeError, match="the Recording is what `with"):
        rec.attention("cat")


COMPILED = """
import torch
from unet_explained.model import UNet2DConditionModel
from unet_explained.recording import Identity, Origin, Row, identified, record

unet = UNet2DConditionModel.from_config(dict(
    block_out_channels=[8], norm_num_groups=4, cross_attention_dim=8, attention_head_dim=2,
    down_block_types=["CrossAttnDownBlock2D"], up_block_types=["CrossAttnUpBlock2D"],
    mid_block_type=None, layers_per_block=1,
), seed=0)
inputs = torch.ones(1, 4, 8, 8), torch.tensor(7), torch.ones(1, 5, 8)
ran = []

def backend(graph, inputs):
    return lambda *args: ran.append(1) or graph.forward(*args)

compiled = torch.compile(unet, backend=backend)
with torch.no_grad():
    compiled(*inputs)
    for model in (compiled, unet):
        compiled_runs = len(ran)
        with record(model, "conv_out") as rec, identified(Identity(Origin(1), (Row(),))):
            compiled(*inputs)
        assert len(rec.layers) == 3 and len(rec["conv_out"]) == 1, rec
        assert rec.runs[0].origin
        assert len(ran) == compiled_runs > 0
        compiled(*inputs)
        assert len(ran) > compiled_runs, "the compiled code should be back after recording"
"""


@pytest.mark.long
def test_a_compiled_model_is_recorded(tmp_path):
    """In a process of its own: the tests' check of annotations and torch.compile do not mix."""
    result = subprocess.run(
        [sys.executable, "-c", COMPILED], cwd=Path(__file__).parents[1], text=True,
        capture_output=True, env={"JAXTYPING_DISABLE": "1", "PATH": "", "HOME": str(tmp_path)},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
