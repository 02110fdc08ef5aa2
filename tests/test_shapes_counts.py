"""The shape table's counts against torch's own, against torchinfo and published checkpoints."""

import subprocess
import sys
from functools import cache
from types import SimpleNamespace

import jaxtyping
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from unet_explained.model import UNet2DConditionModel, UNetConfig
from unet_explained.recording.axes import Trace
from unet_explained.recording.shapes import shape_table, summary, table_of_recording
from unet_explained.recording.skeleton import example_inputs, trace_config

SHALLOW = {
    "block_out_channels": [16, 32],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "attention_head_dim": 2,
}

# Millions of parameters of published checkpoints, and how many attention layers they have.
PUBLISHED = {
    "sd15": (859.52, 32),
    "inpaint": (859.54, 32),
    "ip2p": (859.53, 32),
    "sd21": (865.91, 32),
    "x4": (473.40, 32),
    "sdxl": (2567.46, 140),
    "refiner": (2259.53, 88),
    "lcm": (859.60, 32),
    "ssd1b": (1331.33, 68),
    "vega": (745.23, 30),
    "unclip-h": (870.17, 32),
    "unclip-l": (869.52, 32),
}


@pytest.fixture(scope="module", autouse=True)
def unchecked():
    """Without the check of annotations, which would take most of the time here."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


table_of = cache(shape_table)


@pytest.fixture
def sd15():
    return table_of("sd15")


def traced_by_torch(config, dtype, *sizes):
    """The calls of a forward through torch's own kernels for the meta device, and its FLOPs."""
    with torch.device("meta"):
        model = UNet2DConditionModel(config).eval().to(dtype)
    with torch.no_grad(), FlopCounterMode(display=False) as counter, Trace(model) as trace:
        model(**example_inputs(config, dtype, *sizes))
    return trace.calls, counter


@pytest.mark.parametrize(
    ("preset", "height", "width"),
    [
        ("sd15", 64, 64),
        pytest.param("x4", 128, 128, marks=pytest.mark.long),
        pytest.param("sd15", 40, 72, marks=pytest.mark.slow),
        pytest.param("sd21", 96, 96, marks=pytest.mark.slow),
        pytest.param("ssd1b", 128, 128, marks=pytest.mark.slow),
        pytest.param("sdxl", 128, 128, marks=pytest.mark.long),
        pytest.param("refiner", 128, 128, marks=pytest.mark.long),
    ],
)
def test_flops_and_shapes_are_those_of_torch(preset, height, width):
    calls, counter = traced_by_torch(UNetConfig.load(preset), torch.float16, 2, height, width, 77)
    table = shape_table(preset, height=height, width=width)
    assert table.total_flops == counter.get_total_flops()
    assert trace_config(UNetConfig.load(preset), torch.float16, 2, height, width, 77) == calls

    theirs = counter.get_flop_counts()
    for row in table.rows:
        counted = theirs.get(f"UNet2DConditionModel.{row.name}", {})
        if row.kind in ("Conv2d", "Linear", "Attend"):
            assert row.flops == sum(counted.values()), row.name


@pytest.mark.parametrize(
    "changes",
    [
        {"mid_block_type": None, "norm_num_groups": None},
        {"mid_block_type": "UNetMidBlock2D", "mid_block_scale_factor": 2.0},
        {"resnet_time_scale_shift": "scale_shift", "downsample_padding": 0, "dropout": 0.1},
        {"act_fn": "mish", "center_input_sample": True, "use_linear_projection": True},
        {"class_embed_type": "timestep", "time_cond_proj_dim": 6, "conv_out_kernel": 1},
        {"class_embed_type": "identity", "freq_shift": 1, "conv_in_kernel": 5},
        {"class_embed_type": "simple_projection", "projection_class_embeddings_input_dim": 9},
        {"num_class_embeds": 3, "flip_sin_to_cos": False, "only_cross_attention": True},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_every_option_has_the_shapes_of_torch(changes):
    config, sizes = UNetConfig.load(SHALLOW | changes), (3, 17, 18, 5)
    calls, counter = traced_by_torch(config, torch.bfloat16, *sizes)
    assert trace_config(config, torch.bfloat16, *sizes) == calls
    table = table_of_recording(SimpleNamespace(calls=calls))
    assert table.total_flops == counter.get_total_flops()


def test_sd15_is_1606_gflop(sd15):
    by_kind = sd15.to_pandas().groupby("class")["flops"].sum() / 1e9
    assert sd15.total_flops / 1e9 == pytest.approx(1606.5, abs=0.05)
    assert by_kind["Conv2d"] == pytest.approx(887.9, abs=0.05)
    assert by_kind["Linear"] == pytest.approx(466.6, abs=0.06)
    assert by_kind["Attend"] == pytest.approx(252.1, abs=0.05)


@pytest.mark.parametrize("preset", PUBLISHED)
def test_parameters_are_the_checkpoints(preset):
    table = table_of(preset)
    attentions = sum(row.kind == "Attention" for row in table.rows)
    assert (round(table.total_params / 1e6, 2), attentions) == PUBLISHED[preset]


def test_torchinfo_finds_the_same_parameters(sd15, tiny_unet):
    parameters = sum(parameter.numel() for parameter in tiny_unet.parameters())
    assert summary(tiny_unet).total_params == parameters
    assert shape_table(tiny_unet).total_params == parameters
    assert summary("sd15").total_params == sd15.total_params == 859_520_964


def test_it_is_fast_and_needs_no_compiler():
    """CPU seconds of the best of three, so that a busy machine does not fail it."""
    code = """if True:
        import sys, time
        from unet_explained.recording.shapes import shape_table

        def seconds(preset):
            start = time.process_time()
            shape_table(preset)
            return time.process_time() - start

        assert min(seconds("sd15") for _ in range(3)) < 0.6
        assert min(seconds("sdxl") for _ in range(2)) < 1.5
        # torch's own kernels for the meta device would load these, for seconds.
        assert not {"torch._dynamo", "sympy"} & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_torchinfo_leaves_out_is_attention_and_linears(sd15):
    """In GFLOP, as the docstring of summary says."""

    def flops(kind):
        return sum(row.flops for row in sd15.rows if row.kind == kind)

    table = summary("sd15")
    linears = 2 * sum(each.macs for each in table.summary_list if each.class_name == "Linear")
    missing = flops("Attend"), flops("Linear") - linears
    assert sd15.total_flops - sum(missing) == pytest.approx(2 * table.total_mult_adds, rel=1e-3)
    for number in (*missing, sd15.total_flops):
        assert f" {number / 1e9:.0f} " in " ".join(summary.__doc__.split())
