"""Every axis has a name: from the annotations of forward, or from the table for torch.nn."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from unet_explained.model import Attend, UNetConfig
from unet_explained.model.blocks import Context, CrossAttnDownBlock2D
from unet_explained.recording.axes import Trace, axes_of, see
from unet_explained.recording.skeleton import trace_config


def text(spec, value) -> dict[str, str]:
    return {seen.name: str(seen) for seen in see(spec, value)}


def test_annotations_of_forward():
    axes = axes_of(Attend)
    assert axes.inputs["k"] == "batch head key head_dim"
    assert axes.inputs["mask"] == "batch 1 1 key"
    assert axes.output == "batch head query head_dim"


def test_tuples_lists_and_named_tuples():
    axes = axes_of(CrossAttnDownBlock2D)
    skips = [torch.zeros(2, 8, 4, 4), torch.zeros(2, 8, 2, 2)]
    assert text(axes.output, (skips[1], skips)) == {
        "0": "batch=2 channel=8 height=2 width=2",
        "1.0": "batch=2 channel=8 height=4 width=4",
        "1.1": "batch=2 channel=8 height=2 width=2",
    }
    context = Context(torch.zeros(2, 77, 24), encoder_attention_mask=torch.zeros(2, 77))
    assert text((axes.inputs["context"],), (context,)) == {
        "0.encoder_hidden_states": "batch=2 token=77 text=24",
        "0.encoder_attention_mask": "batch=2 token=77",
    }


def test_leaves_of_torch_nn():
    axes = axes_of(nn.Conv2d(4, 8, 3, stride=2))
    assert text(axes.inputs["input"], torch.zeros(2, 4, 8, 6)) == {
        "": "batch=2 channel_in=4 height_in=8 width_in=6"
    }
    linear = nn.Linear(4, 8)
    assert text(axes_of(linear).output, torch.zeros(2, 5, 8)) == {"": "batch=2 query=5 channel=8"}
    where = axes_of(linear, "attn2.to_k")
    assert text(where.output, torch.zeros(2, 77, 8)) == {"": "batch=2 key=77 channel=8"}
    assert text(where.inputs["input"], torch.zeros(2, 7, 4)) == {"": "batch=2 key=7 channel_in=4"}
    assert text(axes_of(nn.SiLU, "x.act").output, torch.zeros(2, 9)) == {"": "batch=2 time=9"}


def test_as_many_names_as_dimensions():
    assert text("*batch", torch.zeros(3)) == {"": "batch=3"}
    assert text("*batch", torch.zeros(())) == {"": ""}
    assert text("batch *label", torch.zeros(3)) == {"": "batch=3"}
    assert text("batch channel _ _", torch.zeros(1, 2, 3, 4)) == {
        "": "batch=1 channel=2 height=3 width=4"
    }
    assert text("batch", torch.zeros(1, 2)) == {"": "batch=1 channel=2"}
    assert text(None, {"text_embeds": torch.zeros(1, 2)}) == {"text_embeds": "batch=1 channel=2"}


def test_all_names_of_a_traced_forward_are_words(tiny_unet):
    with torch.device("meta"), Trace(tiny_unet.to("meta")) as trace:
        tiny_unet(torch.zeros(2, 4, 8, 8), 1, torch.zeros(2, 77, 24))
    seen = [each for call in trace.calls for each in (*call.inputs, *call.outputs)]
    assert all(len(each.axes) == len(each.shape) for each in seen)
    names = {name for each in seen for name in each.axes}
    assert {"head", "query", "key", "token", "text", "time", "hidden", "height_in"} <= names
    assert all(len(name) > 2 for name in names - {"1"})


@pytest.mark.parametrize("preset", ["sd15", "sdxl", "lcm", "unclip-h", "x4", "ssd1b"])
def test_the_readme_has_every_axis(preset):
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    section = readme.partition("## The alphabet of axes")[2].partition("\n## ")[0]
    alphabet = set(re.findall(r"`(\w+)`(?=.*?\|.*?\|)", section))
    sizes = dict(batch=2, height=32, width=32, tokens=77)
    calls = trace_config(UNetConfig.load(preset), torch.float16, **sizes)
    tensors = [tensor for call in calls for tensor in (*call.inputs, *call.outputs)]
    names = {name.removesuffix("_in") for tensor in tensors for name in tensor.axes}
    assert names - {"1"} <= alphabet


def test_the_trace_starts_anew_and_leaves_no_hooks():
    model = nn.Sequential(nn.Linear(2, 2), nn.SiLU())
    with Trace(model) as trace:
        model(torch.zeros(1, 2))
        model(torch.zeros(3, 2))
    assert [(call.name, call.kind) for call in trace.calls] == [
        ("", "Sequential"), ("0", "Linear"), ("1", "SiLU"),
    ]  # fmt: skip
    assert trace.calls[1].outputs[0].shape == (3, 2)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_part_that_is_called_twice_in_a_row_stands_before_its_own_parts():
    block = nn.Sequential(nn.Linear(2, 2), nn.SiLU())
    model = nn.Sequential(block, block)
    with Trace(model) as trace:
        model(torch.zeros(1, 2))
    assert [call.name for call in trace.calls] == ["", "0", "0.0", "0.1", "0", "0.0", "0.1"]
