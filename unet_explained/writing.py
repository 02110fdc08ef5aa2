"""Files and folders written aside and moved into place when they are whole; else said why not.

Nothing else of this package writes a file. Imports nothing heavy.
"""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

MINE = "name a folder that you may write into"
ROOM = "make room there, or name another place"
AS_USED = os.access in os.supports_effective_ids
ADVICE = {
    errno.EACCES: MINE,
    errno.EPERM: MINE,
    errno.EROFS: MINE,
    errno.ENOSPC: ROOM,
    errno.EDQUOT: ROOM,
    errno.EFBIG: ROOM,
    errno.ENAMETOOLONG: "name a shorter one",
}


def try_file(path: str | Path, least: int = 1) -> Path:
    """What write_file would write to. OSError, before any work, if these bytes would not go there.

    Nothing is left behind, and what stands there stays as it is.
    """
    path = Path(path).expanduser()
    with _named(path):
        _check_file(path)
        if not _is_device(path):
            with _aside(_real(path).parent) as new:
                _fill(new, bytes(least))
    return path


def write_file(path: str | Path, content: bytes) -> Path:
    """A file of this content, or in the place of the one that is there; its folders are made.

    Written aside and renamed: a link stays a link, a device is written into. Raises OSError, with
    the path and the next step; then what stood there is as it was.
    """
    path = Path(path).expanduser()
    with _named(path):
        _check_file(path)
        if _is_device(path):
            path.write_bytes(content)
            return path
        real = _real(path)
        with _aside(real.parent) as new:
            _fill(new, content)
            if real.exists():
                shutil.copymode(real, new)
            new.replace(real)
    return path


def try_folder(
    folder: str | Path, files: tuple[str, ...] = (), least: int = 1, whole: bool = False
) -> Path:
    """The same for written_folder: whether a file of these bytes could be made in it.

    files: names in it that are going to be written, over what is there.
    """
    folder = Path(folder).expanduser()
    with _named(folder):
        _check_folder(folder)
        for name in files:
            _check_file(folder / name)
        with _aside(_beside(folder, whole)) as new:
            _fill(new, bytes(least))
    return folder


@contextmanager
def written_folder(folder: str | Path, whole: bool = False) -> Iterator[Path]:
    """An empty folder; as the `with` ends well, what was put into it is moved to `folder`.

    One that is there is replaced if `whole`; else it takes the new files, over those of their
    names. Raises OSError, with the path and the next step; then what stood there is as it was.
    """
    folder = Path(folder).expanduser()
    with _named(folder):
        _check_folder(folder)
        real, merged = _real(folder), folder.exists() and not whole
        with _aside(_beside(folder, whole)) as aside:
            new = aside / (real.name or "new")  # a writer may tell by its folder's name
            new.mkdir(parents=True)
            yield new
            _fill(aside / "usual", b"")
            for file in filter(Path.is_file, new.rglob("*")):
                shutil.copymode(aside / "usual", file)  # some writers keep others from reading it
                _settle(file)
            if merged:
                _merge(new, real)
            else:
                _exchange(new, real, aside / "old")


def _is_device(path: Path) -> bool:
    return path.exists() and not path.is_file()


def _real(path: Path) -> Path:
    """What a link leads to, if something is there."""
    return Path(os.path.realpath(path)) if path.exists() else path


def _beside(folder: Path, whole: bool) -> Path:
    """Where a folder is built: in the one that takes it, or where its name will stand."""
    return folder if folder.exists() and not whole else _real(folder).parent


def _check_file(path: Path) -> None:
    """Whether a file may stand there, as far as that is seen without writing."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, expected a file: name one in it")
    if path.exists() and not os.access(path, os.W_OK, effective_ids=AS_USED):
        raise PermissionError(f"{path} is write-protected: name another file")
    _check_way(path)


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file, expected a folder: name another place")
    _check_way(folder)


def _check_way(path: Path) -> None:
    there = next(folder for folder in path.absolute().parents if folder.exists())
    if not there.is_dir():
        raise NotADirectoryError(f"{path}: {there} is a file, no folder: name another place")


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """What the system refuses is said with the path and what to do next."""
    try:
        yield
    except Exception as error:
        number = _number_of(error)
        if number is None:
            raise
        advice = ADVICE.get(number, "name another place")
        # OSError makes itself the subclass for a number; with a filename its words are not plain.
        kind = type(OSError(number, ""))
        said = kind(f"{path} cannot be written ({os.strerror(number)}): {advice}")
        said.errno = number
        raise said from error


def _number_of(error: Exception) -> int | None:
    """The system's number of an error; safetensors has it in words alone."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else None


@contextmanager
def _aside(folder: Path) -> Iterator[Path]:
    """A name that nothing has, in a folder made if need be. At the end what has it goes, and so do
    the folders that were made and are empty."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    new = folder / f".{token_hex(4)}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield new
    finally:
        if new.is_dir():
            shutil.rmtree(new, ignore_errors=True)
        else:
            with suppress(OSError):
                new.unlink()
        for path in made:
            with suppress(OSError):
                path.rmdir()


def _fill(new: Path, content: bytes) -> None:
    new.write_bytes(content)
    _settle(new)


def _settle(file: Path) -> None:
    """Onto the disk: some are full only then."""
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())


def _merge(new: Path, folder: Path) -> None:
    files = sorted(new.iterdir())
    for file in files:
        _check_file(folder / file.name)
    for file in files:
        file.replace(folder / file.name)


def _exchange(new: Path, folder: Path, old: Path) -> None:
    try:
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    except BaseException:
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise
