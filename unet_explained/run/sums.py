"""SHA256SUMS: a folder's list of its files' sums, which tells of a file that came damaged."""

import hashlib
from pathlib import Path

SUMS = "SHA256SUMS"


def verify(folder: Path) -> None:
    """Raises ValueError if a listed file is missing or changed; a folder may lack the list."""
    for name, expected in listed(folder).items():
        if not (folder / name).is_file():
            raise ValueError(f"{folder / name} is missing: {SUMS} lists it")
        if (found := sha256(folder / name)) != expected:
            raise ValueError(f"{folder / name} is damaged: sha256 {found}, expected {expected}")


def listed(folder: Path) -> dict[str, str]:
    """The sum of each file by its name, as the folder's list has them."""
    sums = folder / SUMS
    lines = sums.read_text().splitlines() if sums.is_file() else []
    return {name: expected for expected, name in (line.split(maxsplit=1) for line in lines)}


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
