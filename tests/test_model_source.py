"""The network's source keeps the house's promises: out of place, in einops, in small files."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from model_reference import options_of

from unet_explained.lessons.source import source
from unet_explained.model import UNet2DConditionModel, UNetConfig, unet
from unet_explained.recording.rows import rows_of
from unet_explained.recording.skeleton import trace_config
from unet_explained.run.in_diffusers import one_of_theirs

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "unet_explained" / "model").glob("*.py"))
RESHAPES = {
    "view", "reshape", "permute", "transpose", "flatten", "unflatten", "squeeze", "unsqueeze",
    "expand", "swapaxes", "movedim", "chunk", "unbind", "T", "mT",
}  # fmt: skip
LISTS = {"skips"}  # names of lists of tensors, which may grow and change


def root(node: ast.AST) -> str | None:
    while isinstance(node, ast.Subscript | ast.Attribute):
        node = node.value
    return getattr(node, "id", None)


def offence(node: ast.AST) -> str | None:
    """What is wrong with a node of the syntax tree, if anything."""
    match node:
        case ast.Attribute(attr=name) if name in RESHAPES:
            return f".{name}, where einops has a pattern"
        case ast.Call(func=ast.Attribute(attr=name)) if name[-1] == "_" and name[-2:] != "__":
            return f".{name}() works in place"
        case ast.keyword(arg="inplace" | "out" as name):
            return f"{name}= works in place"
        case ast.AugAssign(target=target) if root(target) not in LISTS:
            return f"{ast.unparse(node)} works in place"
        case ast.Assign(targets=targets):
            for target in targets:
                if isinstance(target, ast.Subscript) and root(target) not in LISTS:
                    return f"{ast.unparse(target)} = works in place"
        case ast.Subscript(slice=index):
            entries = index.elts if isinstance(index, ast.Tuple) else [index]
            if any(isinstance(n, ast.Constant) and n.value is None for n in entries):
                return f"{ast.unparse(node)} adds an axis, where einops has a pattern"
    return None


def offences(source: str) -> list[str]:
    found = ((node, offence(node)) for node in ast.walk(ast.parse(source)))
    return [f"line {node.lineno}: {what}" for node, what in found if what]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_nothing_is_done_in_place_and_einops_does_every_reshape(file):
    assert not offences(file.read_text())


@pytest.mark.parametrize(
    "line",
    [
        "x = x.view(2, -1)",
        "x = x.reshape(2, -1)",
        "x = x.permute(0, 2, 1)",
        "x = torch.transpose(x, 1, 2)",
        "x = x.T",
        "x = x[:, :, None]",
        "x = x[..., None, None]",
        "x += 1",
        "self.x *= 2",
        "x[0] = 1",
        "y = x[:, 0] = 1",
        "x.add_(1)",
        "torch.nn.init.zeros_(x)",
        "F.relu(x, inplace=True)",
        "torch.add(x, y, out=x)",
    ],
)
def test_that_check_finds(line):
    assert offences(line)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_file_can_be_read_in_one_sitting(file):
    assert 0 < len(file.read_text().splitlines()) <= 250


def test_the_network_loads_without_diffusers_and_transformers():
    code = (
        "import sys, torch, unet_explained.model as model\n"
        "torch.set_default_device('meta')\n"
        "model.UNet2DConditionModel.from_config('sd15')\n"
        "print({'diffusers', 'transformers', 'matplotlib', 'beartype'} & set(sys.modules))"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert process.stdout.strip() == "set()"


def test_the_u_in_numbers_is_what_the_network_does():
    """The text that unet.py begins with: each skip with its shape, from where to where."""
    sizes = dict(batch=1, height=64, width=64, tokens=77)
    rows = {
        r.name: r for r in rows_of(trace_config(UNetConfig.load("sd15"), torch.float16, **sizes))
    }

    def shape(name):
        return " x ".join(map(str, rows[name].tensor.shape[1:]))

    def line(name, target):
        skip, both = rows[name].tensor.shape[1], rows[f"{target}.input_tensor"].tensor.shape[1]
        made = rows[target].tensor.shape[1]
        return f"{name} {shape(name)} -> {target} {both - skip} + {skip} to {made}"

    skips = {name: row.skip[3:] for name, row in rows.items() if row.skip.startswith("to ")}
    text = [" ".join(line.split()) for line in unet.__doc__.splitlines()]
    first, last = text.index(line("conv_in", skips["conv_in"])), f"mid_block {shape('mid_block')}"
    assert text[first : text.index(last)] == [line(*skip) for skip in skips.items()]
    resnets = sum(row.kind == "ResnetBlock2D" for row in rows.values())
    attentions = sum(row.kind == "Transformer2DModel" for row in rows.values())
    (time,), context = rows["time_embedding"].tensor.shape[1:], shape("encoder_hidden_states")
    said = f"each of {resnets} resnets as {time} numbers, the prompt to each of {attentions} attent"
    assert said in " ".join(text)
    assert f"as {context}." in " ".join(text)


def test_the_source_of_a_pipelines_network_is_that_of_its_forward():
    with torch.device("meta"):
        unet = one_of_theirs(UNet2DConditionModel.from_config("sd15"))
    assert "# 6. post-process" in str(source(unet))


def test_printing_the_network_shows_what_torch_does_not():
    with torch.device("meta"):
        text = str(UNet2DConditionModel.from_config("sd15"))
    for said in (
        "heads=8, head_dim=40", "heads=8, head_dim=160", "level=3", "size / 2", "size * 2",
        "time shifts", "320, [cos, sin], freq_shift=0",
    ):  # fmt: skip
        assert said in text
    options = options_of("scale_shift") | dict(downsample_padding=0, mid_block_scale_factor=2)
    text = str(UNet2DConditionModel.from_config(options))
    assert "time scales and shifts, output / 2" in text
    assert "size / 2, padded right and below" in text
