"""Files of weights, looked at before they are read: header, place and index. Imports nothing heavy.

What is wrong is said in one line with the file's name, before anything is built or unpickled.
"""

import json
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..json_file import AGAIN, read_object
from .files import Search, no_weights, shard_names, weights_in
from .kinds import check_kind
from .settings import settings
from .sums import listed

Shapes = dict[str, tuple[int, ...]]
WITH_WEIGHTS = ("unet", "text_encoder", "text_encoder_2", "vae")
JSON_FILES = ("model_index.json", "config.json", "*/config.json", "*/*_config.json")

# A pickle can run code when it is read. These lines, by which torch reads tensors alone, run none.
CONVERT = """get the checkpoint's .safetensors file, or write one:
    import torch, safetensors.torch
    state = torch.load({file!r}, map_location="cpu", weights_only=True)
    state = {name: t for name, t in state.get("state_dict", state).items() if hasattr(t, "shape")}
    state = {name: tensor.clone().contiguous() for name, tensor in state.items()}
    safetensors.torch.save_file(state, {to!r})"""
# What a file begins with that is no safetensors file.
BEGINNINGS = (
    (b"version https://git-lfs", "git-lfs's pointer to the file, not the file; run git lfs pull"),
    (b"PK\x03\x04", f"a zip file, as torch.save writes; {CONVERT}"),
    (b"\x80", f"a pickle, as torch.save writes; {CONVERT}"),
    (b"<", "a web page, not the file; is there a licence to accept first, or a token to give?"),
)
# What names of tensors tell of where they come from, and what is to be done with it.
INVERSION = "load_textual_inversion adds to a pipeline, which ux.record takes"
CONTROLNET = "which a pipeline of diffusers' runs; ux.record takes that"
TRANSFORMER = "which has no UNet: there is nothing in it that this package opens"
WHOLE = "give the file or folder of the whole checkpoint"
SINGLE = ("model.diffusion_model.", "these are the names of a single file: give ux.load that file")
ORIGINS = (
    ("joint_blocks.", f"this is Stable Diffusion 3, {TRANSFORMER}"),
    ("double_blocks.", f"this is FLUX or its like, {TRANSFORMER}"),
    ("lora", "this is a LoRA, which diffusers' load_lora_weights puts on top of a pipeline"),
    ("emb_params", f"this is a textual inversion, which diffusers' {INVERSION}"),
    ("controlnet_", f"this is a ControlNet, {CONTROLNET}"),
    ("control_model.", f"this is a ControlNet, {CONTROLNET}"),
    ("text_model.", f"this is a text encoder; {WHOLE}"),
    ("transformer.resblocks.", f"this is a text encoder; {WHOLE}"),
    ("decoder.", f"this is a VAE; {WHOLE}"),
    ("module.", "it was saved inside DataParallel: take 'module.' off the names"),
    ("_orig_mod.", "it was saved inside torch.compile: take '_orig_mod.' off the names"),
)


def look_over(path: Path, search: Search) -> None:
    """Raises ValueError or OSError if a file of a checkpoint, or of its folder, is damaged.

    And ValueError for a folder that holds a pipeline of another kind.
    """
    if path.is_file():
        header(path)
        return
    for pattern in JSON_FILES:
        for file in sorted(path.glob(pattern)):
            _expect_regular(file)
            read_object(file)
    settings(path)
    listed(path)
    check_kind(path)
    for name in WITH_WEIGHTS:
        for file in files_of(path / name, search) if (path / name).is_dir() else ():
            if file.suffix == ".safetensors":
                header(file)


def files_of(folder: Path, search: Search) -> list[Path]:
    """A part's file of weights, or its shards; FileNotFoundError where there are none."""
    names = [file.name for file in folder.iterdir()]
    chosen, _ = weights_in(names, search, unet=folder.name not in WITH_WEIGHTS[1:])
    if chosen is None:
        raise FileNotFoundError(no_weights(names, search, folder))
    file = folder / chosen
    _expect_regular(file)
    files = list(_shards(file)) if file.suffix == ".json" else [file]
    for file in files:
        _expect_regular(file)
    return files


def header(file: Path) -> Shapes:
    """The shape of every tensor of a safetensors file, by name; no tensor is read."""
    with opened(file) as tensors:
        return {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118


def metadata(file: Path) -> dict[str, str]:
    """What a safetensors file's header says in words."""
    with opened(file) as tensors:
        return tensors.metadata() or {}


@contextmanager
def opened(file: Path, framework: str = "np") -> Iterator[Any]:
    """A safetensors file, mapped into memory, of which nothing is read as yet."""
    from safetensors import SafetensorError, safe_open

    _expect_regular(file)
    with open(file, "rb") as first:  # Python's error has the name of a file that may not be read
        start = first.read(64)
    try:
        with safe_open(file, framework) as tensors:
            yield tensors
    except SafetensorError as error:
        raise ValueError(f"{file} {_what_is_wrong(file, start, error)}") from None


def compare(file: Path, found: Shapes, wanted: Shapes, by: str = "config.json") -> None:
    """Raises ValueError if tensors are missing, too many or of other shapes than wanted.

    by: what says what is wanted, in words.
    """
    missing = [name for name in wanted if name not in found]
    extra = [name for name in found if name not in wanted]
    other = [name for name in wanted if name in found and found[name] != wanted[name]]
    wrong = []
    if missing:
        wrong.append(f"lacks {len(missing)} tensors, as {missing[0]}")
    if extra:
        wrong.append(f"has too much: {len(extra)} tensors, as {extra[0][:200]}")
    if other:
        first = f"{other[0]}: {found[other[0]]}, and {wanted[other[0]]} by {by}"
        wrong.append(f"has {len(other)} tensors of other shapes, as {first}")
    if wrong:
        said = _known_origin(extra[:1], (SINGLE, *ORIGINS))
        if not said and len(wrong) == 1 and missing:
            said = "Is the config of this model? Was the file saved whole?"
        said = said or f"Weights and {by} are of two models: take both from one place"
        raise ValueError(f"{file} {'; '.join(wrong)}. {said}")


def origin(names: Collection[str]) -> str:
    """What the names of a file's tensors tell of it, in a sentence."""
    first = f", as {next(iter(names))[:200]}" if names else ""
    return _known_origin(names, ORIGINS) or f"It has {len(names)} tensors{first}"


def _known_origin(names: Collection[str], origins: Iterable[tuple[str, str]]) -> str:
    for part, words in origins:
        if any(part in name for name in names):
            return words[0].upper() + words[1:]
    return ""


def _shards(index: Path) -> Iterator[Path]:
    """The files that an index names, which lie beside it."""
    for name in shard_names(read_object(index), index):
        yield index.parent / name


def _expect_regular(file: Path) -> None:
    """Not a device, a pipe or a folder, nor a link that leads nowhere or in a circle."""
    if file.is_file():
        return
    if file.exists():
        raise ValueError(f"{file}: no regular file, but a folder, a pipe or a device")
    if file.is_symlink():
        raise FileNotFoundError(f"{file}: a link that leads to no file, or in a circle{AGAIN}")
    raise FileNotFoundError(f"{file} is missing{AGAIN}")


def _what_is_wrong(file: Path, start: bytes, error: Exception) -> str:
    """What follows the name of a file that is no whole safetensors file."""
    for beginning, words in BEGINNINGS:
        # The eight bytes of a true header's length can be anything; "{" follows them.
        if start.lstrip().startswith(beginning) and start[8:9] != b"{":
            safe = str(file.with_name(f"{file.stem}.safetensors"))
            return f"is {words}".replace("{file!r}", repr(str(file))).replace("{to!r}", repr(safe))
    size = file.stat().st_size
    promised = _promised(file, size)
    if promised is not None and promised != size:
        what = "was cut off" if size < promised else "is too long"
        return f"{what}: {size} bytes, and {promised} by its header{AGAIN}"
    return f"is empty{AGAIN}" if not size else f"is no safetensors file ({error}){AGAIN}"


def _promised(file: Path, size: int) -> int | None:
    """The length of a file by its header, where that can be read."""
    with open(file, "rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if length > size:
            return 8 + length if length < 2**27 else None
        try:
            entries = json.loads(opened.read(length))
            ends = [e["data_offsets"][1] for name, e in entries.items() if name[:2] != "__"]
            return 8 + length + max(ends)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return None
