"""SHA256SUMS: a folder's list of its files' sums, which tells of a file that came damaged."""

import hashlib
import re
from pathlib import Path

from ..json_file import AGAIN

SUMS = "SHA256SUMS"
LINE = re.compile(r"(?P<sum>[0-9a-f]{64}) [ *](?P<name>[^/\\].*)")


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
    if not sums.is_file():
        return {}
    found = {}
    for number, line in enumerate(sums.read_text(errors="replace").splitlines(), 1):
        match = LINE.fullmatch(line)
        if match is None or ".." in Path(match["name"]).parts:
            raise ValueError(
                f"{sums}, line {number}: expected a sha256 sum, two spaces and the name of a file "
                f"in this folder, got {line[:80]!r}{AGAIN}"
            )
        found[match["name"]] = match["sum"]
    return found


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
