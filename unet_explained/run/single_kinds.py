"""Which single files ux.load runs; of all others what runs them, said before a tensor is read."""

from dataclasses import replace
from pathlib import Path

from ..model import UNetConfig
from .family import PREFIX, TABLES, Family
from .hub import HUB_IDS
from .kinds import GUIDANCE, TEXT_ENCODERS, lines

VAE = "first_stage_model."
# diffusers' pipelines by how many channels a UNet takes; SDXL's own after it.
CHANNELS = {
    8: ("StableDiffusionInstructPix2PixPipeline", "StableDiffusionXLInstructPix2PixPipeline"),
    9: ("StableDiffusionInpaintPipeline", "StableDiffusionXLInpaintPipeline"),
}
EDM = ("edm_mean", "edm_vpred.sigma_max")  # marks of Playground 2.5 and of its like


def pipeline_in(file: Path, family: Family) -> dict:
    """The table of the pipeline that a single file holds.

    Raises ValueError for what ux.load does not run, with what is missing or the lines that run it.
    """
    if not family.compvis or not _any(family, PREFIX):
        raise ValueError(
            f"{file}: this is a UNet alone ({family.title}). UNet2DConditionModel.from_pretrained "
            "opens it; for pictures ux.load takes a whole checkpoint, file or folder"
        )
    known = TABLES["unets"][family.unet]
    table = TABLES["pipelines"].get(known.get("pipeline"))
    if table is None or not _is_plain(family):
        raise ValueError(f"{file}: {_refusal(file, family)}")
    prefixes = {"vae": VAE} | {name: table[name][1] for name in TEXT_ENCODERS if name in table}
    if missing := [name for name, prefix in prefixes.items() if not _any(family, prefix)]:
        raise ValueError(
            f"{file}: of this {family.title} there is no {', no '.join(missing)}. UNet2DCondition"
            "Model.from_pretrained opens its UNet; for pictures give the whole checkpoint, file or "
            "folder"
        )
    return table


def _any(family: Family, prefix: str) -> bool:
    return any(name.startswith(prefix) for name in family.names)


def _is_plain(family: Family) -> bool:
    """Whether it goes from a prompt and nothing else to four channels, by a usual schedule."""
    config = family.config
    told = config.class_embed_type, config.num_class_embeds, config.time_cond_proj_dim
    usual = not family.names.intersection(EDM)
    return usual and not any(told) and config.in_channels == config.out_channels == 4


def _refusal(file: Path, family: Family) -> str:
    """What a whole checkpoint is that ux.load does not run, and what does run it."""
    why = f"{family.title}, and of single files ux.load runs those of {', '.join(GUIDANCE)}"
    known, channels = TABLES["unets"][family.unet], family.config.in_channels
    name = known.get("diffusers")
    if family.names.intersection(EDM):
        why, name = f"{family.title} by EDM's schedule of noise", "StableDiffusionXLPipeline"
    elif channels in CHANNELS:
        name = CHANNELS[channels][known.get("pipeline") == "sdxl"]
    if name:
        return f"{why}. {lines(name, file, loader=f'{name}.from_single_file')}"
    if published := _published(family.config):
        return f"{why}. {lines('DiffusionPipeline', published, '..., with what it needs')}"
    return f"{why}. UNet2DConditionModel.from_pretrained opens its UNet"


def _published(config: UNetConfig) -> str | None:
    """An id of a folder of the same kind: of some, diffusers reads no single file."""

    def network(config: UNetConfig) -> UNetConfig:
        return replace(config, sample_size=64, upcast_attention=False)

    same = [name for name in HUB_IDS if network(UNetConfig.load(name)) == network(config)]
    return HUB_IDS[same[0]] if same else None
