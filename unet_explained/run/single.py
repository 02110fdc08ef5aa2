"""A pipeline, or a UNet, from a single file. No network is asked for anything.

Such a file has weights alone: configs and CLIP's vocabulary lie in families.json and clip/ beside
this file. The names of its tensors become diffusers' by diffusers' own converters.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..model import UNet2DConditionModel
from .building import State, expect_floating, filled, no_progress_bars, shapes_of
from .damage import named
from .family import PREFIX, TABLES, Family, family_of
from .kinds import TEXT_ENCODERS, defaults_of
from .single_kinds import VAE, pipeline_in
from .weights import compare, header, opened

CLIP = Path(__file__).parent / "clip"
GUIDANCE = {"time_embed.cond_proj.weight": "time_embedding.cond_proj.weight"}  # LCM's


@dataclass(frozen=True)
class Part:
    """A part of a pipeline beside its UNet: without numbers, and how its tensors are renamed."""

    model: Any
    prefix: str
    convert: Callable[[State], State]


def read_unet(file: Path) -> UNet2DConditionModel:
    """Raises ValueError, before a tensor is read, for what family_of refuses."""
    return _unet(file, family_of(file))


def read_pipeline(file: Path) -> dict[str, Any]:
    """All that a Pipeline is made of.

    Raises ValueError, before a tensor is read, for what ux.load does not run and for parts that
    lack a tensor.
    """
    family = family_of(file)
    table = pipeline_in(file, family)
    parts = {"vae": _vae(table["vae"])}
    parts |= {name: _text_encoder(name, table) for name in TEXT_ENCODERS if name in table}
    _expect_whole(file, family, parts)
    scheduler = TABLES["schedule"] | table["scheduler"] | {"prediction_type": family.prediction}
    if "ztsnr" in family.names:  # an empty tensor of that name: to noise alone at the last step
        scheduler["rescale_betas_zero_snr"] = True

    import diffusers

    return {
        "unet": _unet(file, family),
        "scheduler": getattr(diffusers, scheduler["_class_name"]).from_config(scheduler),
        **{name: _with_weights(file, part) for name, part in parts.items()},
        **{
            name.replace("text_encoder", "tokenizer"): _tokenizer(table[name][0])
            for name in parts
            if name in TEXT_ENCODERS
        },
        **defaults_of({"_class_name": table["class"]}, family.config.to_dict(), scheduler),
    }


def _unet(file: Path, family: Family) -> UNet2DConditionModel:
    prefix = PREFIX if any(name.startswith(PREFIX) for name in family.names) else ""
    state = {name.removeprefix(prefix): tensor for name, tensor in _read(file, prefix).items()}
    if family.compvis:
        from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

        others = {new: state.pop(old) for old, new in GUIDANCE.items() if old in state}
        state = {PREFIX + name: tensor for name, tensor in state.items()}
        with named(file):
            state = others | convert_ldm_unet_checkpoint(state, family.config.to_dict())
    return filled(file, family.config, state, family.title)


def _vae(name: str) -> Part:
    import diffusers
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    config = TABLES["vaes"][name]
    config = TABLES["vaes"].get(config.get("extends"), {}) | config
    with torch.device("meta"):
        model = diffusers.AutoencoderKL.from_config(
            {option: value for option, value in config.items() if option != "extends"}
        )
    return Part(model, VAE, lambda state: convert_ldm_vae_checkpoint(state, model.config))


def _text_encoder(part: str, table: dict[str, Any]) -> Part:
    """OpenAI's CLIP comes under the names of transformers, OpenCLIP under its own."""
    import transformers
    from diffusers.loaders.single_file_utils import (
        convert_ldm_clip_checkpoint,
        convert_open_clip_checkpoint,
    )

    name, prefix = table[part]
    plain = part == TEXT_ENCODERS[0]
    kind = transformers.CLIPTextModel if plain else transformers.CLIPTextModelWithProjection
    config = transformers.CLIPTextConfig(**TABLES["text_encoders"][name]["config"])
    with torch.device("meta"):
        model = kind(config)

    def convert(state: State) -> State:
        if name.startswith("open"):
            state = convert_open_clip_checkpoint(model, state, prefix)
        else:
            state = convert_ldm_clip_checkpoint(state)
        return _by_names_of(model, state)

    return Part(model, prefix, convert)


def _by_names_of(model: nn.Module, state: State) -> State:
    """transformers' own names differ by its version: with text_model. before them or without."""
    own, part = set(model.state_dict()), "text_model."
    shorter = {name: name.removeprefix(part) for name in state}
    return {
        next((new for new in (name, short, part + short) if new in own), name): state[name]
        for name, short in shorter.items()
        if not name.endswith("position_ids")  # a row of numbers that older versions saved too
    }


def _expect_whole(file: Path, family: Family, parts: dict[str, Part]) -> None:
    """That each part has its tensors; all by the header."""
    shapes = header(file)
    for part in parts.values():
        inside = {name: shape for name, shape in shapes.items() if name.startswith(part.prefix)}
        state = {name: torch.empty(shape, device="meta") for name, shape in inside.items()}
        with named(file):
            state = part.convert(state)
        wanted = shapes_of(part.model.state_dict())
        compare(file, shapes_of(state), wanted, f"{type(part.model).__name__} of {family.title}")


def _with_weights(file: Path, part: Part) -> Any:
    state = part.convert(_read(file, part.prefix))
    expect_floating(file, state)
    if part.prefix == VAE:
        part.model.load_state_dict(state, assign=True)
        return part.model
    kind, config = type(part.model), part.model.config
    with no_progress_bars():
        return kind.from_pretrained(None, config=config, state_dict=state, dtype=torch.float32)


def _tokenizer(name: str) -> Any:
    """CLIP's; what it pads with differs."""
    import transformers

    pad = TABLES["text_encoders"][name]["pad_token"]
    return transformers.CLIPTokenizer.from_pretrained(CLIP, pad_token=pad, model_max_length=77)


def _read(file: Path, prefix: str) -> State:
    """The tensors whose names begin so."""
    with opened(file, "pt") as tensors:
        names = [name for name in tensors.keys() if name.startswith(prefix)]  # noqa: SIM118
        return {name: tensors.get_tensor(name) for name in names}
