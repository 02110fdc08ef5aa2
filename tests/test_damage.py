"""Damaged checkpoints: one line with the file, before any work; the command line exits with 2."""

import json
import os
import pickle
import shutil
import struct
import time

import pipelines
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import unet_explained as ux
from unet_explained.__main__ import main
from unet_explained.run.files import Search
from unet_explained.run.sums import verify
from unet_explained.run.weights import compare, header, look_over

EXAMPLES = int(os.environ.get("UNET_EXAMPLES", "200"))
WEIGHTS = "diffusion_pytorch_model.safetensors"
from_pretrained = ux.UNet2DConditionModel.from_pretrained


@pytest.fixture
def folder(tiny_folder, tmp_path):
    """A whole pipeline, to be damaged."""
    return shutil.copytree(tiny_folder, tmp_path / "pipeline")


def change(file, edit) -> None:
    """Reads tensors, edits them and writes them again."""
    state = load_file(file)
    edit(state)
    save_file(state, file)


def with_header(text: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if length is None else length) + text


def entry(**changes) -> bytes:
    one = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes
    return with_header(json.dumps({"a": one}).encode()) + bytes(8)


FILES = {
    "empty": (b"", "is empty"),
    "git-lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\n", "git lfs pull"),
    "page": (b"<!DOCTYPE html><html>", "web page.*licence"),
    "pickle": (pickle.dumps({"a": 1}), "pickle.*safetensors file"),
    "zip": (b"PK\x03\x04" + bytes(60), "zip file.*safetensors file"),
    "noise": (b"\x01\x02\x03" * 20, "no safetensors file"),
    "absurd length": (with_header(b"{}", 2**62), "no safetensors file"),
    "cut in the header": (with_header(b'{"a"', 4000), "was cut off: 12 bytes, and 4008"),
    "cut in the tensors": (entry()[:-3], "was cut off"),
    "too long": (entry() + b"more", "is too long"),
    "no object": (with_header(b"[1, 2]"), "no safetensors file"),
    "unknown type": (entry(dtype="F7"), "no safetensors file"),
    "shape of 2**62": (entry(shape=[2**62, 2**62]), "no safetensors file"),
    "negative": (entry(shape=[-2]), "no safetensors file"),
    "offsets": (entry(data_offsets=[8, 0]), "no safetensors file|too long|cut off"),
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("part", ["unet", "vae"])
def test_a_damaged_file_is_named_before_anything_is_read(kind, part, folder):
    content, words = FILES[kind]
    file = folder / part / WEIGHTS
    file.write_bytes(content)
    start = time.perf_counter()
    with pytest.raises(ValueError, match=words) as refusal:
        look_over(folder, Search())
    assert str(refusal.value).startswith(str(file))
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize("kind", ["git-lfs", "cut in the tensors"])
def test_the_command_line_says_it_in_one_line(kind, folder, capsys):
    (folder / "text_encoder" / "model.safetensors").write_bytes(FILES[kind][0])
    start = time.perf_counter()
    assert main(["heatmap", "a", "--model", str(folder)]) == 2
    assert time.perf_counter() - start < 2
    shown = capsys.readouterr().err
    assert f"{folder}/text_encoder/model.safetensors" in shown
    assert len(shown.splitlines()) == 1


def test_a_damaged_json_of_a_pipeline_is_named_with_its_line(folder, capsys):
    file = folder / "scheduler" / "scheduler_config.json"
    file.write_text("{\n<<<<<<< HEAD\n}")
    assert main(["heatmap", "a", "--model", str(folder)]) == 2
    assert f"{file}, line 2: a merge conflict" in capsys.readouterr().err


def drop(state):
    del state["conv_in.bias"], state["mid_block.resnets.0.conv1.weight"]


NOT_FITTING = {
    "missing": (drop, r"lacks 2 tensors, as conv_in\.bias.*saved whole"),
    "lora": (
        lambda s: s.update({"down.lora_A.weight": torch.ones(1)}),
        r"has too much: 1 tensors, as down\.lora_A\.weight.*LoRA",
    ),
    "single file": (
        lambda s: s.update({f"model.diffusion_model.{n}": s.pop(n) for n in list(s)}),
        r"lacks \d+ tensors.*too much: \d+ tensors.*single file",
    ),
    "whole numbers": (
        lambda s: s.update({"conv_in.bias": s["conv_in.bias"].int()}),
        r"conv_in\.bias is torch\.int32, expected floating point",
    ),
    "shapes": (
        lambda s: s.update({"conv_in.weight": torch.ones(16, 9, 3, 3)}),
        r"1 tensors of other shapes, as conv_in\.weight: \(16, 9, 3, 3\), and \(16, 4, 3, 3\)",
    ),
}


@pytest.mark.parametrize("kind", NOT_FITTING)
def test_weights_that_do_not_fit_are_counted_and_told_apart(kind, folder):
    edit, words = NOT_FITTING[kind]
    file = folder / "unet" / WEIGHTS
    change(file, edit)
    with pytest.raises(ValueError, match=words) as refusal:
        from_pretrained(folder)
    assert str(refusal.value).startswith(str(file))
    assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize("number", [float("nan"), float("-inf")])
def test_weights_that_are_no_numbers_are_named_and_can_be_had(number, folder):
    def edit(state):
        state["mid_block.resnets.0.conv1.weight"][0, 0, 0, :2] = number

    change(folder / "unet" / WEIGHTS, edit)
    with pytest.raises(ValueError, match=r"mid_block\.resnets\.0\.conv1\.weight has 2 numbers of"):
        from_pretrained(folder, device="cpu")
    unet = from_pretrained(folder, device="cpu", allow_nonfinite=True)
    assert not unet.mid_block.resnets[0].conv1.weight.isfinite().all()


def test_of_sdxls_second_text_encoder_the_same_is_said(tmp_path):
    pipelines.build("xl")[0].save_pretrained(tmp_path)
    file = tmp_path / "text_encoder_2" / "model.safetensors"
    (tensor,) = [name for name in load_file(file) if name.endswith("final_layer_norm.weight")]
    change(file, lambda state: state[tensor].fill_(float("nan")))
    with pytest.raises(ValueError, match=r"text_encoder_2: .*final_layer_norm\.weight has \d+ num"):
        ux.load(tmp_path, device="cpu")
    change(file, lambda state: state.pop(tensor))
    with pytest.raises(ValueError, match="text_encoder_2: its weights lack 1 tensors"):
        ux.load(tmp_path, device="cpu")
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(ValueError, match=r"text_encoder_2/model\.safetensors.*cut off"):
        look_over(tmp_path, Search())


@pytest.mark.parametrize(
    ("part", "file", "tensor"),
    [
        ("vae", WEIGHTS, "decoder.conv_in.bias"),
        ("text_encoder", "model.safetensors", "final_layer_norm.weight"),
    ],
)
def test_a_part_that_lacks_a_tensor_is_not_filled_by_chance(part, file, tensor, folder):
    def edit(state):
        (name,) = [name for name in state if name.endswith(tensor)]
        del state[name]

    change(folder / part / file, edit)
    with pytest.raises(ValueError, match=rf"{part}: its weights lack 1 tensors, as .*{tensor}"):
        ux.load(folder, device="cpu")


def test_a_vae_with_the_older_names_lacks_nothing(folder):
    """As the files of SD 1.x have them; diffusers knows both."""
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def edit(state):
        for name in [name for name in state if ".attentions.0.to_" in name]:
            new = next(part for part in old if f".{part}." in name)
            state[name.replace(new, old[new])] = state.pop(name)

    change(folder / "vae" / WEIGHTS, edit)
    assert "decoder.mid_block.attentions.0.query.weight" in load_file(folder / "vae" / WEIGHTS)
    ux.load(folder, device="cpu")


def index_of(unet, place) -> None:
    """The UNet's weights by way of an index, all in one shard."""
    names = list(load_file(unet / WEIGHTS))
    shutil.move(unet / WEIGHTS, unet / "one.safetensors")
    places = dict.fromkeys(names, "one.safetensors") | {names[0]: place}
    (unet / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": places}))


def test_an_index_is_followed_inside_its_folder(folder):
    index_of(folder / "unet", "one.safetensors")
    assert from_pretrained(folder, device="cpu").conv_in.weight.isfinite().all()


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("../vae/diffusion_pytorch_model.safetensors", "leads outside its folder"),
        ("/dev/zero", "leads outside its folder"),
        ("..", "leads outside its folder"),
        ("", "leads outside its folder"),
        (7, "expected a weight_map"),
        ("two.safetensors", r"two\.safetensors is missing"),
    ],
)
def test_an_index_that_leads_astray_is_refused(place, words, folder):
    index_of(folder / "unet", place)
    for take in (from_pretrained, lambda folder: look_over(folder, Search())):
        with pytest.raises((ValueError, FileNotFoundError), match=words):
            take(folder)


def test_what_is_no_file_is_not_opened(folder):
    """Devices and pipes never end; a link in a circle leads nowhere."""
    file = folder / "unet" / WEIGHTS
    for make, words in (
        (lambda: file.symlink_to("/dev/zero"), "pipe or a device"),
        (lambda: os.mkfifo(file), "pipe or a device"),
        (lambda: file.symlink_to(file.name), "a link .* in a circle"),
        (lambda: file.mkdir(), "but a folder"),
    ):
        file.unlink()
        make()
        with pytest.raises((ValueError, OSError), match=words):
            from_pretrained(folder)
        with pytest.raises((ValueError, OSError), match=words):
            look_over(folder, Search())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(folder, capsys):
    file = folder / "unet" / WEIGHTS
    file.chmod(0)
    assert main(["heatmap", "a", "--model", str(folder)]) == 2
    assert f"Permission denied: '{file}'" in capsys.readouterr().err


class Runs:
    def __reduce__(self):
        return (os.mkdir, ("executed",))


def test_nothing_of_a_pickle_is_executed(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (folder / "unet" / WEIGHTS).unlink()
    file = folder / "unet" / "diffusion_pytorch_model.bin"
    torch.save({"a": Runs()}, file)
    with pytest.raises(ValueError, match=r"get the checkpoint's \.safetensors file") as refusal:
        from_pretrained(folder)
    assert str(refusal.value).startswith(str(file))
    assert "weights_only" not in str(refusal.value)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("line", ["abc", "0" * 64, f"{'0' * 64}  ../x", f"{'0' * 64}  /dev/zero"])
def test_a_list_of_sums_that_is_none_is_named_with_its_line(line, tmp_path):
    (tmp_path / "SHA256SUMS").write_text(f"{line}\n")
    with pytest.raises(ValueError, match="SHA256SUMS, line 1: expected a sha256 sum"):
        verify(tmp_path)


HEADER = {
    "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
    "b": {"dtype": "F16", "shape": [2, 2], "data_offsets": [8, 16]},
}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)
    | st.sampled_from([2**31, 2**63, 2**64, "F32", "BF16", "F8_E4M3"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
)  # fmt: skip


def read_or_refused(content: bytes, file) -> None:
    """What header takes, compare takes; an error is a ValueError that begins with the file."""
    file.write_bytes(content)
    try:
        compare(file, header(file), {"a": (2,), "b": (2, 2)})
    except ValueError as error:
        if not str(error).startswith(str(file)):
            raise AssertionError(error) from error


@settings(max_examples=EXAMPLES, deadline=5_000, suppress_health_check=list(HealthCheck))
@given(
    name=st.sampled_from(["a", "b"]) | st.text(max_size=4),
    field=st.sampled_from(["dtype", "shape", "data_offsets"]) | st.text(max_size=4),
    value=VALUES,
    instead=st.booleans(),
    length=st.none() | st.integers(0, 2**64 - 1) | st.integers(0, 300),
)
def test_a_mutated_header_is_read_or_refused(name, field, value, instead, length, tmp_path_factory):
    changed = value if instead else HEADER.get(name, {}) | {field: value}
    text = json.dumps(HEADER | {name: changed}).encode()
    content = with_header(text, length) + bytes(16)
    read_or_refused(content, tmp_path_factory.getbasetemp() / "mutated.safetensors")


@settings(max_examples=EXAMPLES, deadline=5_000, suppress_health_check=list(HealthCheck))
@given(at=st.integers(0, 200), cut=st.integers(0, 200), put=st.binary(max_size=8))
def test_mutated_bytes_of_a_file_are_read_or_refused(at, cut, put, tmp_path_factory):
    whole = with_header(json.dumps(HEADER).encode()) + bytes(16)
    content = whole[:at] + put + whole[at + cut :]
    read_or_refused(content, tmp_path_factory.getbasetemp() / "mutated.safetensors")
