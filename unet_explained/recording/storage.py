"""A Recording in a folder: tensors as safetensors, all else as JSON with a version."""

import json
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..json_file import AGAIN, read_object
from ..writing import try_folder, written_folder
from .packing import Packing
from .recording import Recording
from .unpacking import Unpacking

VERSION = 2
STRUCTURE, TENSORS = "recording.json", "tensors.safetensors"
LARGEST = 2**30  # bytes of the JSON; a thousand steps with statistics of all have 30 million


def save(recording: Recording, folder: str | Path) -> Path:
    """Write a recording, finished or not, into a folder of its own; an older one there is replaced.

    It is written aside and renamed: what stood there stays until all is written. Raises
    FileExistsError for a folder that holds something else, another OSError for a place that cannot
    be written, and TypeError, before anything is written, for a forward that was given what is no
    tensor, number or text.
    """
    folder = try_folder(folder, whole=True)
    if folder.exists() and not (folder / STRUCTURE).is_file():
        raise FileExistsError(f"{folder} is there and is no recording: name another folder")
    packing = Packing()
    structure = {"version": VERSION} | packing.recording(recording)
    with written_folder(folder, whole=True) as new:
        save_file(packing.tensors, new / TENSORS)
        (new / STRUCTURE).write_text(json.dumps(structure, allow_nan=False), encoding="utf-8")
    return folder


def load(folder: str | Path) -> Recording:
    """What save() wrote. FileNotFoundError or ValueError for a folder that holds no recording.

    It is data alone: nothing that a folder from elsewhere says is executed.
    """
    folder = Path(folder).expanduser()
    if not (folder / STRUCTURE).is_file():
        raise FileNotFoundError(f"{folder}: no recording there, expected {STRUCTURE}")
    structure = read_object(folder / STRUCTURE, LARGEST)
    if structure.get("version") != VERSION:
        raise ValueError(
            f"{folder}: a recording of version {structure.get('version')}, expected {VERSION}; "
            "read it with the version of this package that wrote it"
        )
    tensors = _tensors(folder / TENSORS)
    try:
        return Unpacking(structure, tensors).recording()
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        said = f"{type(error).__name__}: {error}"[:200]
        raise ValueError(
            f"{folder} is no recording that this package wrote ({said}); save it again"
        ) from error


def _tensors(file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing{AGAIN}")
    try:
        return load_file(file)
    except SafetensorError as error:
        raise ValueError(f"{file} is no whole safetensors file ({error}){AGAIN}") from error
