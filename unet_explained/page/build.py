"""A page on which the bundled model runs: one file, or a folder for any static host."""

import gzip
import re
from base64 import b85encode
from html import escape
from pathlib import Path
from typing import Any

from ..extras import need
from ..json_file import as_json
from ..run.checkpoints import load
from ..run.denoise import Pipeline
from ..widgets.modules import joined
from ..writing import try_file, try_folder, write_file, written_folder
from .runtime import LICENCE, find_runtime, notices, runtime

HERE = Path(__file__).parent
PROMPT, SEED = "a red house left of a green tree and a yellow butterfly on top", 0
SIZE = 30 * 10**6  # bytes that one file has at the most
STYLES = "widget", "live", "explorer", "umap"


def build(path: str | Path, told=lambda words: None) -> Path:
    """Writes FILE.html, or a folder (any other name), and returns it; told hears what is done.

    Two builds of the same version are equal, byte for byte. Raises, before any work, ImportError
    for a missing extra, OSError for a place that cannot be written and where the runtime cannot be
    fetched.
    """
    need("onnx", "onnxscript", "onnxruntime", extra="page")
    need("anywidget", "matplotlib")
    path = try_file(path, SIZE) if _is_file(path) else try_folder(path, least=SIZE)
    find_runtime()
    told("running the model once ...")
    return write(path, *made(load(device="cpu", dtype="float32"), told))


def _is_file(path: str | Path) -> bool:
    return Path(path).suffix.lower() in (".html", ".htm")


def write(path: Path, page: dict[str, Any], parts: dict[str, bytes]) -> Path:
    """What made() gives, as one file, or as a folder."""
    if _is_file(path):
        return write_file(path, _document(page, parts, None).encode())
    files = {name: f"{name}.bin" for name in parts}
    with written_folder(path) as new:
        for name, part in parts.items():
            (new / files[name]).write_bytes(part)
        (new / "index.html").write_text(_document(page, parts, files), encoding="utf-8")
        (new / "isolated.js").write_text(_script("isolated"), encoding="utf-8")
    return path


def made(pipe: Pipeline, told) -> tuple[dict[str, Any], dict[str, bytes]]:
    """What the page knows at first sight, as JSON, and the parts that are unpacked, each a gzip."""
    from .export import exported
    from .facts import facts_of
    from .saved import saved_run

    saved, kept = saved_run(pipe, PROMPT, SEED)
    facts = facts_of(pipe, saved)
    told("exporting its networks, which takes about a minute ...")
    seen = {"kept": kept, "map": as_json(saved.pop("map")).encode(), "notices": notices()}
    networks = {name: halves(part) for name, part in exported(pipe, facts["parts"]).items()}
    parts = {**seen, **runtime(), **networks}
    return saved | {"facts": facts}, {name: packed(part) for name, part in parts.items()}


def halves(content: bytes) -> bytes:
    """The even bytes, then the odd ones: one byte of a float16 says more of the next number's than
    of its own other one, so that a gzip of weights is a twentieth smaller."""
    return content[::2] + content[1::2]


def packed(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def _document(page: dict, parts: dict[str, bytes], files: dict[str, str] | None) -> str:
    """files: where the parts are; None: in the document itself."""
    page = page | {"sizes": {name: len(part) for name, part in parts.items()}, "files": files}
    inside = parts if files is None else {}
    template = (HERE / "page.html").read_text(encoding="utf-8")
    fields = {
        "title": "Stable Diffusion's UNet, running in this page",
        "licence": escape(LICENCE.read_text(encoding="utf-8")),
        "numbers": f"{page['facts']['numbers'] / 10**6:.1f} million",
        "style": "\n".join([*map(_style, STYLES), (HERE / "page.css").read_text(encoding="utf-8")]),
        "picture": page["live"]["state"]["picture"]["bytes"],
        "prompt": escape(page["run"]["prompt"]),
        "saved": as_json(page).replace("<", "\\u003c"),
        "script": joined("site", HERE),
        "worker": _script("engine_worker"),
        "parts": "\n".join(
            f'<script type="text/plain" id="part-{name}">{as_text(part)}</script>'
            for name, part in inside.items()
        ),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: fields[found[1]], template)


def as_text(part: bytes) -> str:
    """In base 85: a fourth larger, where base64 is a third. "<" could begin markup: "," is it."""
    return b85encode(part).decode().replace("<", ",")


def _script(name: str) -> str:
    return (HERE / f"{name}.js").read_text(encoding="utf-8")


def _style(name: str) -> str:
    return (HERE.parent / "widgets" / f"{name}.css").read_text(encoding="utf-8")
