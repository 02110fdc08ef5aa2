"""The source of a module's class, and its einops lines."""

import ast
import inspect
import textwrap

from torch import nn

from ..model import attention_weights
from .umap_modules import class_of

EINOPS = ("rearrange", "einsum", "repeat", "reduce")
BESIDE = {"Attend": [attention_weights]}  # read with the class: it derives what the class hides


def source_of(kind: str) -> dict:
    """{"codes": [{name, file, first line, code, einops}]} of a class and of what it stands on.

    Each of einops: {first and last line within code, code, pattern}.
    """
    bases = [base for base in class_of(kind).__mro__ if issubclass(base, nn.Module)]
    classes = bases[: bases.index(nn.Module)]
    if classes[0].__module__.startswith("torch."):
        classes = classes[:1]
    return {"codes": [_code(thing) for thing in [*classes, *BESIDE.get(kind, ())]]}


def _code(thing) -> dict:
    lines, first = inspect.getsourcelines(thing)
    code, file = textwrap.dedent("".join(lines)), thing.__module__.replace(".", "/") + ".py"
    if file.startswith("torch/"):
        code = _without_docstring(code)
    return dict(name=thing.__name__, file=file, first=first, code=code, einops=einops_of(code))


def einops_of(code: str) -> list[dict]:
    """Every einops call, with its pattern even where the pattern has a name."""
    tree, found = ast.parse(code), []
    named = {
        target.id: node.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in EINOPS:
            values = (getattr(arg, "value", named.get(getattr(arg, "id", ""))) for arg in node.args)
            pattern = next((value for value in values if isinstance(value, str)), "")
            text = " ".join((ast.get_source_segment(code, node) or "").split())
            text = text.replace("( ", "(").replace(" )", ")")  # of a call on several lines
            lines = dict(first=node.lineno, last=node.end_lineno)
            found.append(dict(code=text, pattern=pattern) | lines)
    return sorted(found, key=lambda call: call["first"])


def _without_docstring(code: str) -> str:
    """torch's are longer than its code."""
    lines, node = code.splitlines(keepends=True), ast.parse(code).body[0]
    if isinstance(node, ast.ClassDef) and ast.get_docstring(node) is not None:
        del lines[node.body[0].lineno - 1 : node.body[0].end_lineno]
    return "".join(lines)
