"""Tables of shapes by whatever names a network; of a hub id the config alone is fetched."""

from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

from ..recording import shapes
from ..recording.shapes import ShapeTable
from .family import Family, config_in
from .files import Search
from .hub import find_config


def shape_table(
    what: Any,
    *,
    subfolder: str | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    **sizes,
) -> ShapeTable:
    """All that passes through a UNet, traced without weights; a model is neither run nor moved.

    what: a preset's name, config.json or its folder, a .safetensors file, of which the header alone
    is read, a hub id (to which the other options belong), a dict, UNetConfig, a UNet or a pipeline.
    sizes: batch=2, height and width of the latents (by default the checkpoint's own), tokens=77,
    depth (how many modules deep to look), stage (one of the six, by name or number).
    Raises ValueError for anything that does not fit, FileNotFoundError for an id that is not found.
    """
    search = Search(
        subfolder=subfolder, revision=revision, token=token, cache_dir=cache_dir,
        local_files_only=local_files_only,
    )  # fmt: skip
    what = getattr(what, "unet", what)
    found = find_config(what, search)
    table = shapes.shape_table(config_in(found), **sizes)
    title = f"{what}, {found.title}" if isinstance(found, Family) else str(what)
    return table if found is what else replace(table, title=title)


@wraps(shapes.summary)
def summary(model: Any):
    return shapes.summary(config_in(find_config(getattr(model, "unet", model), Search())))
