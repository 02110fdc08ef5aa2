"""From the calls of one forward to the rows of a shape table: one for every intermediate tensor."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from .axes import Call, Seen
from .flops import attention_flops, flops

STAGES = ("input", "time", "pre-process", "down", "mid", "up", "post-process")
BEGINNINGS = {  # of the names of a stage's modules
    "time": ("time_", "class_embedding", "add_", "encoder_hid_proj", "position_net"),
    "pre-process": ("conv_in",),
    "down": ("down_blocks",),
    "mid": ("mid_block",),
    "up": ("up_blocks",),
    "post-process": ("conv_norm_out", "conv_act", "conv_out"),
}

# What these return is what their last part returned, or what they were given.
NO_ROW = ("Sequential", "Dropout")

# How what stands inside an Attend came about.
ATTENDED = {
    "q": "to_q, by head",
    "k": "to_k, by head",
    "v": "to_v, by head",
    "mask": "added to scores",
    "weights": "softmax of q k",
}


@dataclass(frozen=True)
class Row:
    """One tensor: a module's output or, under the module's name and the argument's, its input."""

    stage: int  # 0 for the model's inputs, then 1 to 6
    name: str
    kind: str  # the module's class or, in lower case, how an input came about
    tensor: Seen
    depth: int = 1  # 1 for the model's own parts, 2 for their parts, ...
    params: int = 0  # of the module itself, without its parts
    flops: int = 0
    skip: str = ""  # "to" the resnet that will take this output, "from" the module that left it

    @property
    def bytes(self) -> int:
        return prod(self.tensor.shape) * self.tensor.dtype.itemsize


def stage_of(name: str) -> str:
    """The stage that a module of the UNet belongs to, by its name; ValueError for no such name."""
    for stage, beginnings in BEGINNINGS.items():
        if name.startswith(beginnings):
            return stage
    raise ValueError(f"{name!r} begins like no module of the UNet's stages")


def rows_of(calls: Sequence[Call]) -> list[Row]:
    """In order of execution, a module before its parts; the first call is the model's own."""
    rows = [Row(0, tensor.name, "input", tensor) for tensor in calls[0].inputs]
    calls = [call for call in calls if call.inputs and call.outputs]
    shown = {call.name for call in calls if call.name and call.kind not in NO_ROW}
    if not any(call.kind == "Attend" for call in calls):  # of diffusers: nothing stands inside
        inside = {call.name: attention_flops(call) for call in calls if call.kind == "Attention"}
    else:
        inside = {}
    skips, counted = skip_pairs(calls), set()
    for call in calls:
        if call.name not in shown:
            continue
        # A module that runs twice, as a resnet's nonlinearity does, has its parameters once.
        parameters = call.parameters.values() if call.name not in counted else ()
        counted.add(call.name)
        row = Row(
            stage=STAGES.index(stage_of(call.name)),
            name=call.name,
            kind=call.kind,
            tensor=call.outputs[0],
            depth=_depth(call.name, shown),
            params=sum(map(prod, parameters)),
            flops=flops(call) + inside.get(call.name, 0),
            skip=skips.get(call.name, ""),
        )
        rows += [*_received(call, row, skips), row, *_attended(call, row)]
    return rows


def limited(rows: Sequence[Row], depth: int) -> list[Row]:
    """Rows down to a depth; a row at that depth also counts the parameters and FLOPs inside it."""
    kept: list[Row] = []
    for row in rows:
        if row.depth <= depth:
            kept.append(row)
        else:
            params, flops = kept[-1].params + row.params, kept[-1].flops + row.flops
            kept[-1] = replace(kept[-1], params=params, flops=flops)
    return kept


def skip_pairs(calls: list[Call]) -> dict[str, str]:
    """Both ends of every skip: where it leaves, "to ..."; where it is concatenated, "from ..."."""
    left, pairs = list[str](), dict[str, str]()
    for name in (call.name for call in calls):
        if re.fullmatch(r"conv_in|down_blocks\.\d+\.(resnets|downsamplers)\.\d+", name):
            left.append(name)
        elif re.fullmatch(r"down_blocks\.\d+\.attentions\.\d+", name):
            left[-1] = name  # the skip is the transformer's output, not its resnet's
        elif re.fullmatch(r"up_blocks\.\d+\.resnets\.\d+", name):
            source = left.pop()
            pairs |= {source: f"to {name}", f"{name}.input_tensor": f"from {source}"}
    return pairs


def _depth(name: str, shown: set[str]) -> int:
    parts = name.split(".")
    return sum(".".join(parts[:n]) in shown for n in range(1, len(parts) + 1))


def _received(call: Call, row: Row, skips: dict[str, str]) -> list[Row]:
    """The tensors that no module returns, seen where they arrive."""
    tensor = call.inputs[0]
    name = f"{call.name}.{tensor.name}"
    if name in skips:
        kind = "concatenated"
    elif re.search(r"upsamplers\.\d+\.conv$", call.name):
        kind = "interpolated"
    else:
        return []
    tensor = tensor._replace(axes=tuple(axis.removesuffix("_in") for axis in tensor.axes))
    return [Row(row.stage, name, kind, tensor, row.depth, skip=skips.get(name, ""))]


def _attended(call: Call, row: Row) -> list[Row]:
    """q, k and v, and the weights that the fused attention never shows."""
    if call.kind != "Attend":
        return []
    q, k = call.inputs[:2]
    shape = (*q.shape[:3], k.shape[2])
    weights = q._replace(name="weights", axes=("batch", "head", "query", "key"), shape=shape)
    return [
        Row(row.stage, f"{call.name}.{tensor.name}", ATTENDED[tensor.name], tensor, row.depth + 1)
        for tensor in (*call.inputs, weights)
    ]
