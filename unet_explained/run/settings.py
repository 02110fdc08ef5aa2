"""unet_explained.json: what a folder in diffusers' layout says beyond it. Imports nothing heavy."""

import math
from pathlib import Path
from typing import Any

from ..json_file import read_json

FILE = "unet_explained.json"
GROUPS = "things", "colours", "grounds", "sizes", "places", "relations", "others"  # of Palette


def settings(folder: Path) -> dict[str, Any]:
    """The file's values by name; ValueError for one that does not fit. A folder may lack it."""
    found = read_json(folder / FILE)
    for name, value in found.items():
        if name not in KNOWN:
            raise ValueError(
                f"{folder / FILE}: {name[:80]!r} is none of its names; those are {', '.join(KNOWN)}"
            )
        fits, expected = KNOWN[name]
        if not fits(value):
            raise ValueError(
                f"{folder / FILE}: {name} is {repr(value)[:80]}, expected {expected}; take it out, "
                "and the checkpoint's own is used"
            )
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_palette(value: Any) -> bool:
    groups = value.items() if isinstance(value, dict) else [("", None)]
    return all(
        name in GROUPS and isinstance(words, list) and all(isinstance(w, str) for w in words)
        for name, words in groups
    )


def _is_colours(value: Any) -> bool:
    rows = value if isinstance(value, list) else []
    return len(rows) > 1 and all(
        isinstance(row, list) and len(row) == 3 and all(map(_is_number, row)) for row in rows
    )


KNOWN = {
    "guidance": (lambda value: _is_number(value) and value >= 0, "a number, 0 or more"),
    "palette": (_is_palette, f"lists of words by {', '.join(GROUPS)}"),
    "latent_rgb": (_is_colours, "rows of red, green and blue: a latent channel each, and none"),
}
