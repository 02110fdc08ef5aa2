"""ONNX Runtime for browsers, from the npm registry: pinned, checked, kept for the next build."""

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from base64 import b64encode
from importlib.metadata import distribution
from pathlib import Path

from ..writing import write_file

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
INTEGRITY = (
    "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZ"
    "ClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
)  # What a page needs of 145 MB: the script, what starts the module's threads, and the module.
FILES = {
    "ort": "ort.wasm.min.mjs",
    "glue": "ort-wasm-simd-threaded.mjs",
    "wasm": "ort-wasm-simd-threaded.wasm",
}
LICENCE = Path(__file__).parent / "onnxruntime.LICENSE"


def runtime() -> dict[str, bytes]:
    """Its files, by FILES' names. Raises OSError or ValueError as find_runtime does."""
    with tarfile.open(fileobj=io.BytesIO(find_runtime().read_bytes())) as packed:
        return {name: _member(packed, f"package/dist/{file}") for name, file in FILES.items()}


def notices() -> bytes:
    """The licences of the runtime and of what is linked into it, as text.

    The npm package has none; the wheel, which is built from the same sources, has both.
    """
    wheel = distribution("onnxruntime")
    linked = Path(str(wheel.locate_file("onnxruntime/ThirdPartyNotices.txt")))
    heading = f"What is linked into ONNX Runtime, as its Python package {wheel.version} lists it:"
    return f"{LICENCE.read_text('utf-8')}\n{heading}\n\n{linked.read_text('utf-8')}".encode()


def find_runtime() -> Path:
    """The package as npm packs it, in the cache; fetched by `npm pack`, so from npm's own registry.

    Raises OSError where npm is missing or fetches nothing, ValueError for what is another file.
    """
    kept = _cache() / f"{PACKAGE}-{VERSION}.tgz"
    if kept.is_file() and _integrity(kept.read_bytes()) == INTEGRITY:
        return kept
    content = _fetched(kept)
    if (found := _integrity(content)) != INTEGRITY:
        raise ValueError(
            f"{PACKAGE} {VERSION} is not what it was when this was written: expected {INTEGRITY}, "
            f"got {found}; ask npm for its public registry, and build again"
        )
    return write_file(kept, content)


def _fetched(kept: Path) -> bytes:
    npm = shutil.which("npm")
    by_hand = f"or put {kept.name} there by hand: {kept.parent}"
    if npm is None:
        raise OSError(
            f"building a page needs npm once, to fetch {PACKAGE} {VERSION}: install Node, {by_hand}"
        )
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--silent", "--pack-destination", folder]
        done = subprocess.run(command, capture_output=True, text=True)
        file = Path(folder) / kept.name
        if not file.is_file():
            said = " ".join((done.stderr or done.stdout).split())[:300]
            raise OSError(f"npm fetched no {PACKAGE} {VERSION} ({said}): go online once, {by_hand}")
        return file.read_bytes()


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "unet_explained"


def _integrity(content: bytes) -> str:
    return f"sha512-{b64encode(hashlib.sha512(content).digest()).decode()}"


def _member(packed: tarfile.TarFile, name: str) -> bytes:
    file = packed.extractfile(name)
    assert file is not None  # of a package whose sum is right
    return file.read()
