"""What stands in the shape table, where, and what may be asked of it."""

import json
from functools import cache
from types import SimpleNamespace

import pytest
import torch
from torch.overrides import TorchFunctionMode

from unet_explained.model import UNetConfig
from unet_explained.recording.axes import Trace
from unet_explained.recording.shapes import shape_table, summary, table_of_recording

SD15 = {
    "sample": (2, 4, 64, 64),
    "timestep": (),
    "encoder_hidden_states": (2, 77, 768),
    "time_proj": (2, 320),
    "time_embedding": (2, 1280),
    "conv_in": (2, 320, 64, 64),
    "down_blocks.0": (2, 320, 32, 32),
    "down_blocks.1": (2, 640, 16, 16),
    "down_blocks.2": (2, 1280, 8, 8),
    "down_blocks.3": (2, 1280, 8, 8),
    "mid_block": (2, 1280, 8, 8),
    "up_blocks.0": (2, 1280, 16, 16),
    "up_blocks.1": (2, 1280, 32, 32),
    "up_blocks.2": (2, 640, 64, 64),
    "up_blocks.3": (2, 320, 64, 64),
    "conv_out": (2, 4, 64, 64),
    "down_blocks.0.resnets.0.time_shift": (2, 320, 1, 1),
    "down_blocks.0.attentions.0.transformer_blocks.0.attn2.attend.q": (2, 8, 4096, 40),
    "down_blocks.0.attentions.0.transformer_blocks.0.attn2.attend.k": (2, 8, 77, 40),
    "down_blocks.0.attentions.0.transformer_blocks.0.attn2.attend.v": (2, 8, 77, 40),
    "down_blocks.0.attentions.0.transformer_blocks.0.attn2.attend.weights": (2, 8, 4096, 77),
    "down_blocks.0.attentions.0.transformer_blocks.0.attn2.attend": (2, 8, 4096, 40),
    "down_blocks.0.attentions.0.transformer_blocks.0.attn1.attend.weights": (2, 8, 4096, 4096),
    "down_blocks.0.attentions.0.transformer_blocks.0.ff.net.0.proj": (2, 4096, 2560),
    "down_blocks.0.attentions.0.transformer_blocks.0.ff.net.0": (2, 4096, 1280),
    "up_blocks.0.resnets.0.input_tensor": (2, 2560, 8, 8),
    "up_blocks.0.upsamplers.0.conv.input": (2, 1280, 16, 16),
}

table_of = cache(shape_table)


@pytest.fixture
def sd15():
    return table_of("sd15")


def test_every_shape_of_the_walk_is_there(sd15):
    found = {row.name: row.tensor.shape for row in sd15.rows}
    assert {name: found.get(name) for name in SD15} == SD15


def test_axes_have_names(sd15):
    axes = {row.name: str(row.tensor) for row in sd15.rows}
    attn2 = "down_blocks.0.attentions.0.transformer_blocks.0.attn2"
    assert axes[f"{attn2}.attend.q"] == "batch=2 head=8 query=4096 head_dim=40"
    assert axes[f"{attn2}.attend.weights"] == "batch=2 head=8 query=4096 key=77"
    assert axes[f"{attn2}.to_k"] == "batch=2 key=77 channel=320"
    assert axes["down_blocks.0.resnets.0.time_shift"] == "batch=2 channel=320 1 1"
    assert axes["up_blocks.0.resnets.0.input_tensor"] == "batch=2 channel=2560 height=8 width=8"
    assert axes["time_embedding"] == "batch=2 time=1280"


def test_bytes_are_the_tensors_own(sd15):
    size = {row.name: row.bytes for row in sd15.rows}
    assert size["conv_in"] == 2 * 320 * 64 * 64 * 2
    assert size["time_proj"] == 2 * 320 * 4  # sinusoids are float32 in any model
    assert size["timestep"] == 8


@pytest.mark.parametrize(("preset", "skips"), [("sd15", 12), ("sdxl", 9), ("x4", 12)])
def test_each_skip_leaves_once_and_arrives_once(preset, skips):
    ends = [(row.name, *row.skip.split()) for row in table_of(preset).rows if row.skip]
    left = [(name, f"{other}.input_tensor") for name, way, other in ends if way == "to"]
    arrived = [(other, name) for name, way, other in ends if way == "from"]
    assert len(left) == skips
    assert left == arrived[::-1]  # last in, first out


def test_skips_are_where_the_tensors_went(tiny_unet):
    sources, received = {}, {}
    for name, module in tiny_unet.named_modules():
        module.register_forward_hook(lambda _, args, out, name=name: sources.update({name: out}))
        module.register_forward_pre_hook(lambda _, args, name=name: received.update({name: args}))
    tiny_unet(torch.randn(1, 4, 16, 16), 5, torch.randn(1, 7, 24))
    arrivals = [row for row in shape_table(tiny_unet).rows if row.skip.startswith("from")]
    assert len(arrivals) == 12
    for row in arrivals:
        source = sources[row.skip.removeprefix("from ")]
        whole = received[row.name.removesuffix(".input_tensor")][0]
        assert torch.equal(whole[:, -source.shape[1] :], source)


def test_rows_stand_in_order_of_execution(sd15):
    stages = [row.stage for row in sd15.rows]
    assert stages == sorted(stages)
    assert set(stages) == set(range(7))
    names = [row.name for row in sd15.rows]
    resnet = names.index("down_blocks.0.resnets.0")
    parts = ["norm1", "nonlinearity", "conv1", "nonlinearity", "time_emb_proj", "time_shift"]
    assert [name.split(".")[-1] for name in names[resnet + 1 : resnet + 7]] == parts
    attend = names.index("mid_block.attentions.0.transformer_blocks.0.attn2.attend")
    parts = ["q", "k", "v", "weights", "0"]
    assert [name.split(".")[-1] for name in names[attend + 1 : attend + 6]] == parts


class OnlyMeta(TorchFunctionMode):
    """Fails at the first tensor with numbers in it."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        assert not isinstance(result, torch.Tensor) or result.is_meta, function
        return result


def test_no_tensor_has_numbers():
    state = torch.random.get_rng_state()
    with OnlyMeta():
        shape_table("sd15")
        summary("sd15")
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_model_is_described_but_not_touched(tiny_unet):
    before = [parameter.data_ptr() for parameter in tiny_unet.parameters()]
    tiny_unet.train().to(torch.bfloat16).to(torch.float32)
    table = shape_table(tiny_unet, height=16, width=8)
    assert "latents 16x8, 77 tokens, float32" in table.given
    assert tiny_unet.training
    assert len(before) == len(list(tiny_unet.parameters()))
    assert not any(module._forward_hooks for module in tiny_unet.modules())
    assert "bfloat16" in shape_table(tiny_unet.to(torch.bfloat16)).given


def test_a_real_forward_gives_the_same_table(tiny_unet):
    with Trace(tiny_unet) as trace:
        tiny_unet(torch.randn(2, 4, 8, 24), torch.tensor(5), torch.randn(2, 7, 24))
    recorded = table_of_recording(SimpleNamespace(calls=trace.calls))
    assert recorded.rows == shape_table(tiny_unet, height=8, width=24, tokens=7).rows
    with pytest.raises(ValueError, match="nothing was recorded"):
        table_of_recording(SimpleNamespace(calls=[]))


def test_what_may_be_a_folder_a_dict_or_a_config(tiny_config, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(tiny_config))
    config = UNetConfig.load(tiny_config)
    tables = [shape_table(what, height=8, width=8) for what in (tmp_path, tiny_config, config)]
    assert tables[0].rows == tables[1].rows == tables[2].rows


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_depth_hides_rows_but_no_numbers(sd15, depth):
    table = shape_table("sd15", depth=depth)
    assert max(row.depth for row in table.rows) == depth
    assert table.total_flops == sd15.total_flops
    assert table.total_params == sd15.total_params


def test_a_block_counts_what_is_hidden_inside(sd15):
    blocks = {row.name: row for row in shape_table("sd15", depth=1).rows}
    inside = [row for row in sd15.rows if row.name.startswith("down_blocks.1")]
    assert blocks["down_blocks.1"].flops == sum(row.flops for row in inside)


@pytest.mark.parametrize("stage", ["down", 3, "3"])
def test_one_stage(sd15, stage):
    table = shape_table("sd15", stage=stage)
    assert {row.name.split(".")[0] for row in table.rows} == {"down_blocks"}
    assert table.rows == tuple(row for row in sd15.rows if row.stage == 3)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"height": 0}, "height=0: expected a whole number"),
        ({"width": -8}, "width=-8"),
        ({"batch": 1.5}, "batch=1.5"),
        ({"tokens": True}, "tokens=True"),
        ({"depth": 0}, "depth=0"),
        ({"stage": "middle"}, "stage='middle': expected .* 4 mid"),
        ({"stage": 7}, "stage=7"),
    ],
    ids=str,
)
def test_wrong_sizes_say_so(wrong, message):
    with pytest.raises(ValueError, match=message):
        shape_table("sd15", **wrong)


@pytest.mark.parametrize("what", ["sd16", 15, torch.nn.Linear(1, 1)], ids=str)
def test_what_is_no_unet_says_so(what):
    with pytest.raises(ValueError, match=r"preset|config"):
        shape_table(what)
