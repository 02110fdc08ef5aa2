"""Each room of the package imports only from those before it, as CONTRIBUTING says."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "unet_explained"
ORDER = (
    "version", "extras", "plain", "streams", "json_file", "writing", "words", "numbers", "model",
    "diffusion", "recording", "run", "bundled", "show", "widgets", "page", "lessons", "commands",
    "__main__",
)  # fmt: skip
# from_pretrained stands in the model, as in the reference, and loads inside the function.
EXCEPTION = ("model/unet.py", "run")
ALLOWED_IN_MODEL = {"torch", "einops", "jaxtyping"}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    """The rooms that a file imports from, its own left out."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            folder = path.relative_to(PACKAGE).parts[: -node.level]
            parts = (*folder, *(node.module or node.names[0].name).split("."))
            if parts[0] != room(path):
                yield parts[0]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: f"{room(p)}/{p.stem}")
def test_a_room_imports_only_from_those_before_it(path):
    if path.parent == PACKAGE and path.stem == "__init__":
        return  # the public names: they come from everywhere
    before = set(ORDER[: ORDER.index(room(path))])
    if EXCEPTION[0] == path.relative_to(PACKAGE).as_posix():
        before.add(EXCEPTION[1])
    assert set(imported(path)) <= before


@pytest.mark.parametrize("path", sorted((PACKAGE / "model").glob("*.py")), ids=lambda p: p.stem)
def test_the_model_imports_little(path):
    tree = ast.parse(path.read_text())
    modules = [n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and not n.level]
    modules += [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
    outside = {name.split(".")[0] for name in modules} - ALLOWED_IN_MODEL
    assert outside <= sys.stdlib_module_names


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_the_documents_have_every_room_in_its_order(document):
    text = (ROOT / document).read_text()
    rooms = [name for name in ORDER if (PACKAGE / name).is_dir() or name == "diffusion"]
    lists = re.findall(r"(?:`\w+`, )+`\w+`", " ".join(text.split()))
    assert ", ".join(f"`{name}`" for name in rooms) in lists
