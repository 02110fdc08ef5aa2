"""Reading a JSON file that a person, a tool or a broken download wrote; and JSON that any browser
reads. Imports nothing heavy."""

import json
from math import isfinite
from pathlib import Path
from typing import Any

LARGEST = 64 * 2**20  # bytes; an index of the largest checkpoints has one or two million
MERGE_MARKS = ("<<<<<<<", "=======", ">>>>>>>")


def read_object(path: Path, largest: int = LARGEST) -> dict:
    """The object, {...}, that a file holds. ValueError names the file and, if it can, the line."""
    size = path.stat().st_size
    if size > largest:
        raise ValueError(f"{path}: {size} bytes are no config; is it a file of weights?")
    try:
        text = path.read_bytes().decode("utf-8-sig")  # some editors put a mark in front
        value = json.loads(text)
    except UnicodeDecodeError:
        raise ValueError(f"{path}: expected JSON, got bytes that are no text{AGAIN}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}{_what_is_wrong(text, error)}") from None
    if not isinstance(value, dict):
        kind = "null" if value is None else f"a {type(value).__name__}"
        raise ValueError(f"{path}, line 1: expected a JSON object, {{...}}, got {kind}{AGAIN}")
    return value


def read_json(path: Path) -> dict:
    """The same, or an empty dict where there is no such file."""
    return read_object(path) if path.is_file() else {}


def finite(value: Any) -> Any:
    """The same in containers of its own, with None for NaN and the infinities, which JSON lacks."""
    match value:
        case dict():
            return {key: finite(item) for key, item in value.items()}
        case list() | tuple():
            return [finite(item) for item in value]
        case float() if not isfinite(value):
            return None
    return value


def as_json(value: Any, **options: Any) -> str:
    """For pages and messages; options as for json.dumps."""
    return json.dumps(finite(value), allow_nan=False, **options)


AGAIN = "; copy or download the file again"


def _what_is_wrong(text: str, error: Exception) -> str:
    """What follows the name of a file that is no JSON."""
    if not text.strip():
        return f", line 1: the file is empty{AGAIN}"
    if text.startswith("version https://git-lfs"):
        return ", line 1: this is git-lfs's pointer to the file, not the file; run git lfs pull"
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith(MERGE_MARKS):
            return f", line {number}: a merge conflict's mark ({line[:7]}); resolve the conflict"
    if isinstance(error, json.JSONDecodeError):
        return f", line {error.lineno}: not JSON ({error.msg}, column {error.colno}){AGAIN}"
    return f": JSON nested too deep, or with a number too long{AGAIN}"
