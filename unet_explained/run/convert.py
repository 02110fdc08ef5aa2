"""Between this package's UNet and diffusers': the same tensors under the same names."""

import re
from pathlib import Path
from typing import Any

import torch

from ..model import UNet2DConditionModel, UNetConfig
from ..writing import try_folder, written_folder

SHARD = r"-\d{5}-of-\d{5}"


def from_diffusers(unet: Any) -> UNet2DConditionModel:
    """diffusers' UNet2DConditionModel as this package's, which shares its tensors.

    Raises ValueError for a config that is not covered, and for a UNet whose modules were changed
    (LoRA, IP-Adapter, fused projections).
    """
    if not hasattr(unet, "config") or hasattr(unet, "components"):  # a pipeline has one too
        kind = type(unet).__name__
        raise TypeError(
            f"expected diffusers' UNet2DConditionModel (of a pipeline: pipe.unet), got {kind}"
        )
    with torch.device("meta"):
        ours = UNet2DConditionModel(UNetConfig.load(dict(unet.config)))
    given = unet.state_dict()
    if other := sorted(set(ours.state_dict()) ^ set(given)):
        raise ValueError(
            f"this UNet has other parameters than its config says, {len(other)} of them, as "
            f"{other[0]}: undo first what changed it (unload_lora_weights, unload_ip_adapter, "
            "unfuse_qkv_projections)"
        )
    from .in_diffusers import one_of_theirs

    return one_of_theirs(_sharing(ours, unet))


def to_diffusers(unet: UNet2DConditionModel) -> Any:
    """This package's UNet as diffusers', sharing its tensors: for LoRA, FreeU, processors."""
    import diffusers

    if not isinstance(unet, UNet2DConditionModel):
        raise TypeError(
            f"expected this package's UNet2DConditionModel, got {type(unet).__module__}."
            f"{type(unet).__name__}"
        )
    with torch.device("meta"):
        theirs = diffusers.UNet2DConditionModel.from_config(unet.config.to_dict())
    return _sharing(theirs, unet)


def save(unet: UNet2DConditionModel, folder: str | Path, *args: Any, **options: Any) -> None:
    """As diffusers writes it, by diffusers; options as its ModelMixin.save_pretrained.

    Written aside: a folder that is there keeps what else it holds, and takes the new files over
    older ones of their names and shards. Raises OSError for a place that cannot be written.
    """
    folder = try_folder(folder)
    theirs = to_diffusers(unet)
    with written_folder(folder) as new:
        theirs.save_pretrained(new, *args, **options)
        written = [path.name for path in new.iterdir()]
    for path in folder.iterdir():
        if path.name not in written and _outdated(path.name, written):
            path.unlink()


def _outdated(name: str, written: list[str]) -> bool:
    """Whether a file is of a save in shards whose place the files written have taken."""
    weights = {re.sub(SHARD, "", other).removesuffix(".index.json") for other in written}
    whole = re.sub(SHARD, "", name).removesuffix(".index.json")
    return whole != name and whole in weights


def _sharing(new: Any, old: Any) -> Any:
    """A model on the meta device takes another's parameters themselves: trained in one, in both."""
    for name, tensor in [*old.named_parameters(), *old.named_buffers()]:
        where, _, own = name.rpartition(".")
        setattr(new.get_submodule(where), own, tensor)
    return new.train(old.training)
