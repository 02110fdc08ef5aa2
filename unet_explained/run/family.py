"""Of what family a file of weights is: by the names and shapes in its header, no tensor is read."""

import json
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..json_file import read_json
from ..model import PRESETS, UNetConfig
from .building import empty_unet, shapes_of
from .layout import layout_in, layout_of, size
from .prediction import NOISE, prediction_of
from .weights import Shapes, compare, header, metadata, origin

TABLES = json.loads((Path(__file__).parent / "families.json").read_text())
PREFIX = "model.diffusion_model."  # of a UNet's tensors among those of a whole pipeline
# What tells more than the layout, under CompVis' names and under diffusers'.
NAMES = {
    True: {
        "conv_in": "input_blocks.0.0.weight",
        "conv_out": "out.2.weight",
        "guidance": "time_embed.cond_proj.weight",
        "classes": "label_emb.weight",
        "label": "label_emb.0.0.weight",
    },
    False: {
        "conv_in": "conv_in.weight",
        "conv_out": "conv_out.weight",
        "guidance": "time_embedding.cond_proj.weight",
        "classes": "class_embedding.weight",
        "label": "class_embedding.linear_1.weight",
        "added": "add_embedding.linear_1.weight",
    },
}
SHARD = re.compile(r"-\d{5}-of-\d{5}\.")
# What a UNet takes beside four channels of latents, by how many channels those are together.
TAKES = {5: "with depth", 8: "InstructPix2Pix", 9: "inpainting"}


@dataclass(frozen=True)
class Family:
    """What a header tells.

    unet: the preset that has the layout of its UNet, if one has; config: that preset's, with what
    else the shapes tell; compvis: whether its names are CompVis', a single file's; names: of all
    tensors of the file; prediction: epsilon or v_prediction.
    """

    unet: str | None
    config: UNetConfig
    compvis: bool
    names: frozenset[str]
    prediction: str

    @property
    def title(self) -> str:
        """In words."""
        if self.unet is None:
            return "a UNet by the config.json beside it"
        channels = self.config.in_channels
        usual = PRESETS[self.unet].get("in_channels", 4)
        more = (
            TAKES.get(channels, f"{channels} channels") if channels != usual else "",
            "unCLIP" if self.config.class_embed_type else "",
            "LCM" if self.config.time_cond_proj_dim else "",
        )
        return ", ".join([TABLES["unets"][self.unet]["title"], *filter(None, more)])


def family_of(file: Path) -> Family:
    """Raises ValueError for a file without a UNet, with a damaged one or of an unknown family.

    What no shape tells, the number of heads above all, is as in the known family of that layout; or
    as in the config.json beside a UNet under diffusers' names.
    """
    shapes = header(file)
    if SHARD.search(file.name):
        raise ValueError(f"{file}: this is one shard of several; give the folder that it lies in")
    unet = unet_in(shapes)
    compvis = NAMES[True]["conv_in"] in unet
    if NAMES[compvis]["conv_in"] not in unet:
        raise ValueError(f"{file} holds no UNet. {origin(shapes)}")
    layout = layout_in(unet, compvis)
    known = [name for name in TABLES["unets"] if layout_of(UNetConfig.load(name)) == layout]
    beside = None if compvis else _config_beside(file)
    if not known and beside is None:
        raise ValueError(
            f"{file}: its UNet, of {len(unet)} tensors, is of no family that is known here: "
            f"{layout}. How many heads it has no shape tells: give a folder in diffusers' layout, "
            "with its config.json"
        )
    preset = known[0] if known else None
    table = TABLES["unets"].get(preset, {})
    pipeline = TABLES["pipelines"].get(table.get("pipeline"), {})
    plain = size(unet, NAMES[compvis]["conv_in"], 1) == 4  # the others of SD 2 predict noise
    usual = pipeline.get("prediction_type", NOISE) if plain else NOISE
    prediction = prediction_of(file, metadata(file), shapes.keys(), usual)
    try:
        config = beside or _told(UNetConfig.load(table.get(prediction, preset)), unet, compvis)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    family = Family(preset, config, compvis, frozenset(shapes), prediction)
    _expect_whole(file, unet, family)
    return family


def config_in(found: Any) -> Any:
    """A family's config; whatever else find_config gave comes back."""
    return found.config if isinstance(found, Family) else found


def unet_in(shapes: Shapes) -> Shapes:
    """A UNet's own tensors, without the prefix that they have in a whole pipeline's file."""
    inside = {n.removeprefix(PREFIX): s for n, s in shapes.items() if n.startswith(PREFIX)}
    return inside or shapes


def _config_beside(file: Path) -> UNetConfig | None:
    config = read_json(file.with_name("config.json"))
    ours = str(config.get("_class_name")).endswith("UNet2DConditionModel")
    return UNetConfig.load(config) if ours else None


def _told(config: UNetConfig, unet: Shapes, compvis: bool) -> UNetConfig:
    """A config of the same layout, with what the shapes tell beyond that."""
    names = NAMES[compvis]
    told: dict[str, Any] = {
        "in_channels": size(unet, names["conv_in"], 1),
        "out_channels": size(unet, names["conv_out"], 0),
        "time_cond_proj_dim": size(unet, names["guidance"], 1),
        "num_class_embeds": size(unet, names["classes"], 0),
    }
    if label := size(unet, names["label"], 1) or size(unet, names.get("added", ""), 1):
        told["projection_class_embeddings_input_dim"] = label
        if config.addition_embed_type is None:
            told["class_embed_type"] = "projection"
    return replace(config, **{option: value for option, value in told.items() if value})


def _expect_whole(file: Path, unet: Shapes, family: Family) -> None:
    """That a UNet has the tensors of its config, all of them and no others."""
    wanted = shapes_of(empty_unet(family.config).state_dict())
    if not family.compvis:
        compare(file, unet, wanted, family.title)
        return
    # Other names, one for one: as many tensors of each shape.
    there, needed = Counter(unet.values()), Counter(wanted.values())
    lacks, extra = (needed - there).total(), (there - needed).total()
    if lacks or extra:
        raise ValueError(
            f"{file}: its UNet begins as that of {family.title} does, and lacks {lacks} tensors of "
            f"its shapes and has {extra} of others. Was the file saved whole?"
        )
