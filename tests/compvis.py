"""Single files: the names that CompVis' code gives to the tensors of a pipeline, and sparse files.

Written from the layout of that code, the other way round than diffusers' converters go.
"""

import json
import re
import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection",
}  # fmt: skip
TOP = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "time_embedding.cond_proj": "time_embed.cond_proj", "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0", "conv_out": "out.2",
    "class_embedding.linear_1": "label_emb.0.0", "class_embedding.linear_2": "label_emb.0.2",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
    "class_embedding": "label_emb",
}  # fmt: skip
CLIP = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm": "ln_final", "encoder.layers": "transformer.resblocks",
    "layer_norm1": "ln_1", "layer_norm2": "ln_2", "fc1": "c_fc", "fc2": "c_proj",
    "self_attn": "attn",
}  # fmt: skip


def unet(state: Mapping, layers: int) -> dict:
    """A UNet's tensors, or whatever else stands under diffusers' names."""
    attending = {
        match[1] for name in state if (match := re.match(r"up_blocks\.(\d+)\.attentions", name))
    }
    return {
        f"model.diffusion_model.{_unet_name(name, layers, attending)}": value
        for name, value in state.items()
    }


def _unet_name(name: str, layers: int, attending: set[str]) -> str:
    module, _, last = name.rpartition(".")
    if module in TOP:
        return f"{TOP[module]}.{last}"
    side, *rest = name.split(".")
    if side == "mid_block":
        kind, number, *inside = rest
        place = "middle_block.1" if kind == "attentions" else f"middle_block.{2 * int(number)}"
        return ".".join([place, *_inside(kind, inside)])
    level, kind, number, *inside = rest
    down, per_level = side == "down_blocks", layers + 1
    block = int(level) * per_level + int(number) + down
    if kind == "downsamplers":
        return f"input_blocks.{(int(level) + 1) * per_level}.0.op.{last}"
    if kind == "upsamplers":
        place = 2 if level in attending else 1
        return f"output_blocks.{int(level) * per_level + layers}.{place}.conv.{last}"
    place = f"{'input' if down else 'output'}_blocks.{block}.{int(kind == 'attentions')}"
    return ".".join([place, *_inside(kind, inside)])


def _inside(kind: str, inside: list[str]) -> list[str]:
    return [RESNET.get(part, part) for part in inside] if kind == "resnets" else inside


def vae(state: Mapping[str, Tensor], levels: int) -> dict[str, Tensor]:
    """Its attention's linears are convolutions there."""
    found = {}
    for name, tensor in state.items():
        new = re.sub(r"down_blocks\.(\d+)\.resnets", r"down.\1.block", name)
        new = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", new)
        turn = re.search(r"up_blocks\.(\d+)", new)
        if turn:
            level = levels - 1 - int(turn[1])
            new = new.replace(f"{turn[0]}.resnets", f"up.{level}.block")
            new = new.replace(f"{turn[0]}.upsamplers.0", f"up.{level}.upsample")
        new = re.sub(
            r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", new
        ).replace("conv_shortcut", "nin_shortcut")
        if "mid_block.attentions.0" in new:
            new = new.replace("mid_block.attentions.0", "mid.attn_1").replace("group_norm", "norm")
            new = new.replace("to_out.0", "proj_out").replace(".to_", ".")
            tensor = tensor[:, :, None, None] if tensor.ndim == 2 else tensor
        found[f"first_stage_model.{new.replace('conv_norm_out', 'norm_out')}"] = tensor
    return found


def clip(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """As transformers wrote it when these files were made."""
    names = {name: f"text_model.{name.removeprefix('text_model.')}" for name in state}
    found = {prefix + names[name]: tensor for name, tensor in state.items()}
    length = next(t for n, t in state.items() if "position_embedding" in n).shape[0]
    found[f"{prefix}text_model.embeddings.position_ids"] = torch.arange(
        length, device=next(iter(state.values())).device
    )[None]
    return found


def open_clip(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Query, key and value are one there, and the projection stands the other way."""
    found = {}
    for name, tensor in state.items():
        new = name.removeprefix("text_model.")
        for old, its in CLIP.items():
            new = new.replace(old, its)
        if "q_proj" in new:
            parts = [state[name.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
            new, tensor = new.replace("q_proj.", "in_proj_"), torch.cat(parts)
        elif "k_proj" in new or "v_proj" in new:
            continue
        elif new == "text_projection.weight":
            new, tensor = "text_projection", tensor.T.contiguous()
        found[prefix + new] = tensor
    width = next(t for n, t in found.items() if n.endswith("ln_final.bias")).shape[0]
    device = next(iter(state.values())).device
    found.setdefault(f"{prefix}text_projection", torch.zeros(width, width, device=device))
    found[f"{prefix}logit_scale"] = torch.zeros((), device=device)
    return found


def sparse(file: Path, state: Mapping[str, Tensor], **metadata: str) -> Path:
    """A safetensors file as long as it would be, all zeros: its data takes no room on the disk."""
    entries, at = {}, 0
    for name, tensor in state.items():
        end = at + 2 * tensor.numel()
        entries[name] = dict(dtype="F16", shape=list(tensor.shape), data_offsets=[at, end])
        at = end
    text = json.dumps(entries | ({"__metadata__": metadata} if metadata else {})).encode()
    with open(file, "wb") as opened:
        opened.write(struct.pack("<Q", len(text)) + text)
        opened.truncate(8 + len(text) + at)
    return file
