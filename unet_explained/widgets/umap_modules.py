"""What the map of the U knows of each module: from the shape table, and from its class."""

import inspect

from torch import nn

from ..model import UNetConfig, attention, blocks, embeddings, resnet, unet
from ..recording.rows import Row
from ..recording.shapes import ShapeTable

# For a reader who meets them here for the first time; the package's own classes say it themselves.
HINTS = {
    "Conv2d": "Every pixel becomes a weighted sum of the pixels around it.",
    "Linear": "Every number becomes a weighted sum of all numbers at its place.",
    "GroupNorm": "Channels in groups, each group to mean 0 and deviation 1, then scaled.",
    "LayerNorm": "Each place's channels to mean 0 and deviation 1, then scaled.",
    "SiLU": "x times sigmoid(x), number by number.",
    "GELU": "x times the normal distribution's share below x, number by number.",
    "Mish": "x times tanh(softplus(x)), number by number.",
    "ReLU": "Negative numbers become 0.",
    "Embedding": "A learnt row of numbers for each class.",
    "Identity": "What comes in goes out.",
}

RESNET_START = [{"part": "norm1"}, {"part": "nonlinearity"}, {"part": "conv1"}]
RESNET_END: list[dict] = [
    {"part": "nonlinearity"},
    {"part": "conv2"},
    {"op": "+", "from": 0, "through": "conv_shortcut"},
]
TOLD_TIME = {"side": ["nonlinearity", "time_emb_proj", "time_shift"], "given": "time"}

# What stands inside, from top to bottom. part: a module; op: where paths meet, one of which left
# before the row "from"; each: all of a list; parts: side by side. Other classes are a plain chain.
INSIDES: dict[str, list[dict]] = {
    "ResnetBlock2D": [*RESNET_START, {"op": "+"} | TOLD_TIME, {"part": "norm2"}, *RESNET_END],
    "Transformer2DModel": [
        {"part": "norm"}, {"part": "proj_in"}, {"each": "transformer_blocks"},
        {"part": "proj_out"}, {"op": "+", "from": 0},
    ],
    "BasicTransformerBlock": [
        {"part": "norm1"}, {"part": "attn1"}, {"op": "+", "from": 0},
        {"part": "norm2"}, {"part": "attn2"}, {"op": "+", "from": 3},
        {"part": "norm3"}, {"part": "ff"}, {"op": "+", "from": 6},
    ],
    "Attention": [{"parts": ["to_q", "to_k", "to_v"]}, {"part": "attend"}, {"part": "to_out.0"}],
    "GEGLU": [{"part": "proj"}, {"note": "one half times gelu of the other"}],
    "Upsample2D": [{"note": "each pixel becomes four"}, {"part": "conv"}],
}  # fmt: skip
SCALED_TOO: list[dict] = [*RESNET_START, {"part": "norm2"}, {"op": "× +"} | TOLD_TIME, *RESNET_END]


def insides_of(config: UNetConfig) -> dict[str, list[dict]]:
    """What stands inside, by class."""
    scaled = config.resnet_time_scale_shift == "scale_shift"
    return INSIDES | ({"ResnetBlock2D": SCALED_TOO} if scaled else {})


def modules_of(table: ShapeTable, config: UNetConfig) -> dict[str, dict]:
    """Every module in order of execution, by name: class, axes, parameters, FLOPs, parts, tensors.

    Parameters and FLOPs are with those of its parts; parts are named from the module on. again:
    the axes of further calls. tensors: what no module returns. cross: it looks at the prompt.
    """
    modules: dict[str, dict] = {}
    for row in table.rows:
        if row.name in modules:
            modules[row.name]["again"].append(_axes(row))
        elif row.kind[0].isupper():  # a class; how an input came about is in lower case
            modules[row.name] = dict(
                kind=row.kind, stage=row.stage, axes=_axes(row), params=0, flops=0,
                skip=row.skip, parts=[], again=[], tensors=[],
            )  # fmt: skip
    seen = set()
    for row in table.rows:
        if not (path := _prefixes(row.name, modules)):
            continue  # what the model was given
        for name in path:
            modules[name]["params"] += row.params
            modules[name]["flops"] += row.flops
        *around, inner = path
        if row.name not in modules:
            how = dict(name=row.name.removeprefix(f"{inner}."), how=row.kind, axes=_axes(row))
            modules[inner]["tensors"].append(how | dict(skip=row.skip))
        elif around and inner not in seen:
            modules[around[-1]]["parts"].append(inner.removeprefix(f"{around[-1]}."))
            seen.add(inner)
    for name, module in modules.items():
        module["params_share"] = module["params"] / table.total_params
        module["flops_share"] = module["flops"] / table.total_flops
        if module["kind"] == "Attention":
            module["cross"] = name.endswith("attn2") or _only_cross(name, config)
    return modules


def class_of(kind: str) -> type[nn.Module]:
    """The class of that name, of this package or of torch."""
    homes = (unet, blocks, attention, resnet, embeddings, nn)
    return next(getattr(home, kind) for home in homes if hasattr(home, kind))


def hints_of(modules: dict[str, dict]) -> dict[str, str]:
    """What each class does, in a line."""
    return {kind: _hint(kind) for kind in dict.fromkeys(m["kind"] for m in modules.values())}


def _hint(kind: str) -> str:
    known = kind in HINTS
    return HINTS[kind] if known else (inspect.getdoc(class_of(kind)) or "").partition("\n")[0]


def _axes(row: Row) -> list[list]:
    return [[axis, size] for axis, size in zip(row.tensor.axes, row.tensor.shape)]


def _prefixes(name: str, modules: dict) -> list[str]:
    """The modules that a row is in or of, from the outermost."""
    parts = name.split(".")
    names = (".".join(parts[:n]) for n in range(1, len(parts) + 1))
    return [name for name in names if name in modules]


def _only_cross(name: str, config: UNetConfig) -> bool:
    """Whether the first attention of that block, too, looks at the prompt."""
    side, level, *_ = name.split(".")
    if side == "mid_block":
        return False
    number = int(level) if side == "down_blocks" else config.levels - 1 - int(level)
    return bool(config.at("only_cross_attention", number))


def attentions_of(modules: dict[str, dict], name: str) -> list[str]:
    """The attentions in a module, else those that it is in."""
    every = [each for each, module in modules.items() if "cross" in module]
    inside = [each for each in every if f"{each}.".startswith(f"{name}.")]
    return inside or [each for each in every if name.startswith(f"{each}.")]


def axes_of(modules: dict[str, dict], name: str) -> tuple[list[str], tuple[int, int] | None]:
    """The axes of what a module gives; and of what is in a transformer its height and width."""
    parts = name.split(".")
    names = (".".join(parts[:n]) for n in range(1, len(parts)))
    outer = [modules[each] for each in names if each in modules]
    around = [module for module in outer if module["kind"] == "Transformer2DModel"]
    sizes = dict(around[0]["axes"]) if around else {}
    size = (sizes["height"], sizes["width"]) if around else None
    return [axis for axis, _ in modules[name]["axes"]], size
