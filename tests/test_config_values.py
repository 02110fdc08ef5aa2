"""Configs as the world writes them: read if they make a network, else refused by name and line."""

import json
import os
import re
import time
from types import MappingProxyType

import diffusers
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model_reference import CROSS, FAMILIES, NARROW, SHALLOW, options_of

import unet_explained as ux
from unet_explained.model import UNet2DConditionModel, UNetConfig
from unet_explained.model.options import EMA

SMALL = NARROW | SHALLOW | CROSS
AVERAGED = {
    "decay": 0.9999, "inv_gamma": 1.0, "min_decay": 0.0, "optimization_step": 37000,
    "power": 0.6666666666666666, "update_after_step": 0, "use_ema_warmup": False,
}  # fmt: skip
# More of them by one command: UNET_EXAMPLES=5000 python -m pytest -n 0 -k mutated
EXAMPLES = int(os.environ.get("UNET_EXAMPLES", "200"))


def test_how_the_weights_were_averaged_makes_no_difference():
    assert set(AVERAGED) == set(EMA)
    assert UNetConfig.load(SMALL | AVERAGED) == UNetConfig.load(SMALL)


@pytest.mark.parametrize("switch", ["use_memory_efficient_attention", "split_head_dim"])
def test_flax_switches_are_read_past_when_they_are_off(switch):
    flax = SMALL | {"_class_name": "FlaxUNet2DConditionModel"}
    assert UNetConfig.load(flax | {switch: False}) == UNetConfig.load(SMALL)
    with pytest.raises(ValueError, match=f"{switch}=True is not covered"):
        UNetConfig.load(flax | {switch: True})


def shapes(kind: type, options: dict) -> dict[str, torch.Size]:
    with torch.device("meta"):
        return {name: t.shape for name, t in kind.from_config(options).state_dict().items()}


@pytest.mark.parametrize(
    ("down", "up"),
    [
        ([[1, 2], [2, 1]], [[2, 1], 1]),  # the down blocks' lists have one depth too many
        ([[1], [2]], [[2, 1, 3], [1, 1]]),
        ([[0], [2, 2]], [2, [0, 1]]),
        ([0, 2], None),
        (((1, 1), (2, 2)), None),  # tuples, which only Python can write
        (1, [[2, 1], [1, 1]]),
    ],
)
def test_depths_that_differ_are_read_as_diffusers_reads_them(down, up):
    options = SMALL | {
        "transformer_layers_per_block": down, "reverse_transformer_layers_per_block": up
    }  # fmt: skip
    assert shapes(UNet2DConditionModel, options) == shapes(diffusers.UNet2DConditionModel, options)


BAD = {
    "sample_size": ("64", 0, -1, [64], [64, 64, 64], 2**40, 6.4, True),
    "in_channels": (0, -4, 4.0, "4", True, [4], 2**40),
    "out_channels": (0, "4"),
    "center_input_sample": (0, "no", 1),
    "flip_sin_to_cos": ("no", 1, "true"),
    "freq_shift": (-1, "0", 8, float("nan")),
    "down_block_types": ("CrossAttnDownBlock2D", [1, 2], [["DownBlock2D"], "DownBlock2D"], []),
    "mid_block_type": (False, 3, {"a": 1}),
    "only_cross_attention": ("yes", 1, [1, 0]),
    "block_out_channels": (32, [], [16, 0], [15, 30], ["16", "32"], [16, 3e1]),
    "layers_per_block": (0, -1, "2", 2.0, [1, "1"], 2**31),
    "downsample_padding": (True, 1.0, "1"),
    "mid_block_scale_factor": (0, float("nan"), float("inf"), "1", False),
    "dropout": (-0.1, 1.5, "0"),
    "act_fn": ("SiLU", 3, ["silu"]),
    "norm_num_groups": (0, -8, 8.0, "8", 5),
    "norm_eps": ("1e-5", -1e-5, 2, float("nan"), [1e-5]),
    "cross_attention_dim": (0, "24", [24, 32], [[24], [24]]),
    "transformer_layers_per_block": (-1, 2**31, "1", [1, -1], [[[1]], [[1]]], 1.0),
    "reverse_transformer_layers_per_block": (2**31, 1, [2**31, 1], ["1", 1], [[[1]], 1]),
    "attention_head_dim": (0, -2, 3, "2", [2, 5], 2.0),
    "use_linear_projection": ("false", 0),
    "num_class_embeds": (0, -3, "7", 1e3),
    "time_cond_proj_dim": (0, "256"),
    "conv_in_kernel": (0, 2, -1, "3", [3, 3]),
    "conv_out_kernel": (4, 65),
    "upcast_attention": ("no", 1),
    "resnet_out_scale_factor": (0, "1"),
    "resnet_skip_time_act": (0,),
}


@pytest.mark.parametrize(
    ("option", "value"), [(o, v) for o, vs in BAD.items() for v in vs], ids=str
)
def test_a_value_of_wrong_type_or_range_is_refused_by_name(option, value):
    with pytest.raises(ValueError, match=rf"^{option}=.*expected .") as refusal:
        UNetConfig.load(SMALL | {option: value})
    assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("change", "option"),
    [
        ({"addition_time_embed_dim": 7}, "addition_time_embed_dim"),
        ({"addition_time_embed_dim": 8, "freq_shift": 4}, "freq_shift"),
        ({"projection_class_embeddings_input_dim": 48}, "projection_class_embeddings_input_dim"),
    ],
)
def test_conditions_that_could_not_be_embedded_are_refused(change, option):
    added = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8}
    added |= {"projection_class_embeddings_input_dim": 68}
    UNetConfig.load(SMALL | added)
    with pytest.raises(ValueError, match=f"^{option}="):
        UNetConfig.load(SMALL | added | change)


@pytest.mark.parametrize("what", [None, 3, ["sd15"], b"sd15", {"sd15"}], ids=str)
def test_what_cannot_describe_a_config_is_refused(what):
    with pytest.raises(TypeError, match=r"expected a preset's name, a path, a dict .*, got "):
        UNetConfig.load(what)


def test_a_name_that_no_file_can_have_is_refused_in_short():
    with pytest.raises(ValueError, match="is no preset") as refusal:
        UNetConfig.load("sd" * 5000)
    assert len(str(refusal.value)) < 1000


def test_any_mapping_is_read_and_a_number_is_no_option():
    assert UNetConfig.load(MappingProxyType(SMALL)) == UNetConfig.load(SMALL)
    with pytest.raises(ValueError, match="option 3=4 is not covered"):
        UNetConfig.load(SMALL | {3: 4})


@pytest.mark.parametrize("depth", [100, [[100] * 33] * 2])
def test_a_network_that_would_take_minutes_to_build_is_refused_at_once(depth):
    change = {"layers_per_block": 32, "transformer_layers_per_block": depth}
    start = time.perf_counter()
    with pytest.raises(ValueError, match=r"^layers_per_block=32, .*expected at most 1024"):
        UNetConfig.load(SMALL | change)
    assert time.perf_counter() - start < 0.5


FILES = {
    "": r"line 1: the file is empty",
    " \n": r"line 1: the file is empty",
    "null": r"line 1: .*an? |object.*null",
    "[1, 2]": r"line 1: .*object.*got a list",
    '"sd15"': r"line 1: .*object.*got a str",
    '{\n"in_channels": 4,\n<<<<<<< HEAD\n}': r"line 3: a merge conflict's mark \(<<<<<<<\)",
    '{\n"in_channels": 4\n=======\n}': r"line 3: a merge conflict's mark \(=======\)",
    '{\n"in_channels": 4,\n}': r"line 3: not JSON",
    '{"in_channels": 4': r"line 1: not JSON",
    "version https://git-lfs.github.com/spec/v1\noid sha256:aa\n": r"git lfs pull",
    "[" * 100_000: r"nested too deep",
    '{"in_channels": ' + "9" * 5000 + "}": r"number too long",
    "\udcff\udcfe": r"bytes that are no text",
}


@pytest.mark.parametrize("text", FILES, ids=lambda text: ascii(text[:20]))
@pytest.mark.parametrize("take", [UNetConfig.load, ux.shape_table])
def test_a_file_that_is_no_config_is_named_with_its_line(text, take, tmp_path):
    file = tmp_path / "config.json"
    file.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=FILES[text]) as refusal:
        take(tmp_path)
    assert str(refusal.value).startswith(str(file))
    assert len(str(refusal.value).splitlines()) == 1


def test_a_mark_that_an_editor_put_in_front_is_read_past(tmp_path):
    file = tmp_path / "config.json"
    file.write_text(json.dumps(SMALL), encoding="utf-8-sig")
    assert UNetConfig.load(file) == UNetConfig.load(SMALL)


def test_weights_in_the_place_of_a_config_are_not_read(tmp_path):
    file = tmp_path / "config.json"
    with open(file, "wb") as sparse:
        sparse.truncate(2**32)
    with pytest.raises(ValueError, match=re.escape(f"{file}: 4294967296 bytes are no config")):
        UNetConfig.load(file)


LEAVES = (
    st.none() | st.booleans() | st.integers() | st.integers(-2, 40) | st.floats()
    | st.text(max_size=8) | st.sampled_from([2**31, 2**63, "1e-5", "DownBlock2D", "silu"])
)  # fmt: skip
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner)
)
COMPLETE = {name: UNetConfig.load(options_of(name)).to_dict() for name in FAMILIES}
NAMES = st.sampled_from(sorted(COMPLETE["sdxl"])) | st.text(max_size=6)


OURS = re.compile(r"expected|not covered|takes \d+ depths|line \d+|expected JSON|nested too deep")


def refusal(take, what) -> str | None:
    """None if it was taken; any other error than a ValueError is not ours."""
    try:
        take(what)
    except ValueError as error:
        return str(error)
    return None


def narrow_table(options: dict):
    return ux.shape_table(options, batch=1, height=8, width=8, tokens=3)


@settings(max_examples=EXAMPLES, deadline=10_000, suppress_health_check=list(HealthCheck))
@given(
    family=st.sampled_from(sorted(COMPLETE)),
    changes=st.dictionaries(NAMES, VALUES, min_size=1, max_size=3),
    dropped=st.sets(st.sampled_from(sorted(COMPLETE["sdxl"])), max_size=2),
)
def test_a_mutated_config_makes_a_table_or_our_error(family, changes, dropped):
    options = {name: v for name, v in COMPLETE[family].items() if name not in dropped} | changes
    said = refusal(narrow_table, json.loads(json.dumps(options)))
    assert said is None or (OURS.search(said) and len(said) < 1000), said


@settings(max_examples=EXAMPLES, deadline=10_000, suppress_health_check=list(HealthCheck))
@given(at=st.integers(0, 1000), cut=st.integers(0, 8), put=st.binary(max_size=8))
def test_a_mutated_config_file_is_read_or_refused(at, cut, put, tmp_path_factory):
    whole = json.dumps(COMPLETE["sdxl"], indent=1).encode()
    at %= len(whole)
    file = tmp_path_factory.getbasetemp() / "mutated.json"
    file.write_bytes(whole[:at] + put + whole[at + cut :])
    said = refusal(UNetConfig.load, file)
    assert said is None or OURS.search(said), said
