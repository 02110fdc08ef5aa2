"""The network's source keeps the house's promises: out of place, in einops, in small files."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

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
            if any(isinstance(n, ast.Constant) and n.value is None for n in ast.walk(index)):
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
