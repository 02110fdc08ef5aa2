"""Which files of a checkpoint are needed, by their names. Imports nothing heavy at first."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, fields
from itertools import chain
from pathlib import Path

from ..json_file import AGAIN
from .kinds import other_kind, other_network, text_encoders
from .settings import FILE

# One file or set of files a component, best first; "{}" is empty or a variant, as ".fp16".
WEIGHT_FILES = (
    "diffusion_pytorch_model{}.safetensors",
    "diffusion_pytorch_model.safetensors.index{}.json",
    "model{}.safetensors",
    "model.safetensors.index{}.json",
    "diffusion_pytorch_model{}.bin",
    "diffusion_pytorch_model.bin.index{}.json",
    "pytorch_model{}.bin",
    "pytorch_model.bin.index{}.json",
)


class Lacking(FileNotFoundError):
    """What is there does not hold what is needed; says what."""


@dataclass(frozen=True)
class Search:
    """Where a checkpoint is looked for and which of its files are taken: diffusers' own names.

    half: the fp16 variant is preferred where there is a choice and `variant` names none.
    """

    subfolder: str | None = None
    variant: str | None = None
    use_safetensors: bool | None = None  # None: safetensors where there are any
    revision: str | None = None
    token: str | bool | None = None  # None: the one that the hub's library knows
    cache_dir: str | Path | None = None
    local_files_only: bool = False
    half: bool = False


# From the names of what there is, and a reader of JSON files among it, the names of what is needed.
Needs = Callable[[Collection[str], Callable[[str], dict], Search], list[str]]


def search_of(half: bool, options: dict) -> Search:
    """A Search from what a user passed by name; TypeError for a name that is none of its own."""
    known = [field.name for field in fields(Search) if field.name != "half"]
    if other := sorted(set(options) - set(known)):
        raise TypeError(
            f"{', '.join(other)}: not an option of loading; those are device, dtype, "
            f"{', '.join(known)}"
        )
    return Search(half=half, **options)


def weights_in(
    names: Collection[str], search: Search, unet: bool = True
) -> tuple[str | None, str | None]:
    """The best of a part's weight files and its variant; None and None if there is none.

    The UNet must have the variant that is asked for; the other parts often lack it.
    """
    usual = ["fp16", None] if search.half else [None, "fp16"]
    asked = [search.variant] if search.variant else []
    kind = {None: "", True: ".safetensors", False: ".bin"}[search.use_safetensors]
    for variant in asked if asked and unet else [*asked, *usual]:
        for pattern in WEIGHT_FILES:
            name = pattern.format(f".{variant}" if variant else "")
            if kind in pattern and name in names:
                return name, variant
    return None, None


def config_files(names, read, search: Search) -> list[str]:
    """A UNet's config."""
    return [_unet_prefix(names) + "config.json"]


def unet_files(names, read, search: Search) -> list[str]:
    """A UNet's config and weights; ValueError for a config that is not covered."""
    config, *weights = _network(_unet_prefix(names), names, read, search)
    if config in names:
        from ..model import UNetConfig

        UNetConfig.load(read(config))  # before the weights are fetched
    return [config, *weights]


def pipeline_files(where: str, names, read, search: Search) -> list[str]:
    """All of a text-to-image pipeline; ValueError for one of another kind, by its small files.

    where: its id, for the lines that run what is of another kind.
    """
    if "model_index.json" not in names:
        raise Lacking("it holds no model_index.json, which says what a pipeline is made of")
    index = read("model_index.json")
    # By the index, not by the names: of what is on its way into a cache parts may still be missing.
    if why := other_kind(index, index, where):
        raise ValueError(why)
    readers = text_encoders(index["_class_name"])
    folders = (*(f"{part.replace('text_encoder', 'tokenizer')}/" for part in readers), "scheduler/")
    settings = [
        name for name in names if name.startswith(folders) and name.endswith((".json", ".txt"))
    ]
    own = [name for name in names if name == FILE]
    networks = [_network(f"{part}/", names, read, search) for part in (*readers, "vae")]
    networks.append(unet_files(names, read, search))
    if why := other_network(read, len(readers), where):
        raise ValueError(why)
    # The large files last: a cache that lacks them was broken off, and shows it.
    return ["model_index.json", *own, *settings, *chain(*networks)]


def _unet_prefix(names: Collection[str]) -> str:
    """A UNet lies in unet/, or at the top."""
    return "unet/" if "unet/config.json" in names else ""


def _network(prefix: str, names, read, search: Search) -> list[str]:
    inside = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
    chosen, _ = weights_in(inside, search, unet=prefix in ("unet/", ""))
    if chosen is None:
        raise Lacking(no_weights(inside, search, prefix or "its top folder"))
    index = prefix + chosen
    shards = shard_names(read(index), index) if chosen.endswith(".json") else ()
    return [prefix + name for name in ("config.json", chosen, *shards)]


def shard_names(index: dict, where: str | Path) -> list[str]:
    """The files beside it that an index of shards names; ValueError for what leads elsewhere."""
    places = index.get("weight_map")
    names = [*places.values()] if isinstance(places, dict) else []
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{where}: expected a weight_map from names of tensors to files{AGAIN}")
    for name in names:
        if name in ("", "..") or name != Path(name).name or "\\" in name:
            raise ValueError(f"{where}: {name[:200]!r} leads outside its folder; do not use it")
    return sorted(set(names))


def no_weights(names: Collection[str], search: Search, folder: str | Path) -> str:
    """What was looked for in a folder, and what of the kind there is."""
    options = {"variant": search.variant, "use_safetensors": search.use_safetensors}
    asked = ", ".join(f"{name}={value!r}" for name, value in options.items() if value is not None)
    there = sorted(name for name in names if name.endswith((".safetensors", ".bin", ".ckpt")))
    return (
        f"{folder} has no diffusion_pytorch_model or model, as .safetensors or .bin"
        f"{f' with {asked}' if asked else ''}; it has {', '.join(there[:4]) or 'no weights'}"
    )


def names_in(folder: Path) -> list[str]:
    """Of all files in a folder and below."""
    return [file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()]
