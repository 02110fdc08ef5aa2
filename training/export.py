"""Writes the pipeline as a folder in diffusers' layout."""

import json
import shutil
from pathlib import Path
from random import Random

from diffusers import AutoencoderKL, __version__
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTextModel

from unet_explained.bundled.captions import PALETTE
from unet_explained.run.sums import SUMS, sha256
from unet_explained.writing import written_folder

from .autoencoder import latent_rgb
from .models import UNET_CONFIG, build_scheduler
from .tokenizer import build_tokenizer

INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": __version__,
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def export(
    folder: Path,
    text_encoder: CLIPTextModel,
    unet: nn.Module,
    vae: AutoencoderKL,
    guidance: float,
) -> None:
    """Replaces `folder`, all at once, by the pipeline; its model card, if it has one, is kept."""
    with written_folder(folder, whole=True) as new:
        _write_json(new / "model_index.json", INDEX)
        own = {
            "guidance": guidance,
            "palette": PALETTE,
            "latent_rgb": latent_rgb(vae, Random(0)),
        }
        _write_json(new / "unet_explained.json", own)
        _save_tokenizer(new / "tokenizer")
        text_encoder.save_pretrained(new / "text_encoder")  # float32: see the model card
        build_scheduler().save_pretrained(new / "scheduler")
        # from_config forgets a value that was a default when the autoencoder was built: name it.
        scale = vae.config.scaling_factor
        copy = AutoencoderKL.from_config(vae.config, scaling_factor=scale)
        _copy_half(vae, copy).save_pretrained(new / "vae")
        (new / "unet").mkdir()
        _write_json(new / "unet" / "config.json", UNET_CONFIG)
        half = {name: weight.half().contiguous() for name, weight in unet.state_dict().items()}
        save_file(half, new / "unet" / "diffusion_pytorch_model.safetensors", {"format": "pt"})
        if (folder / "README.md").exists():
            shutil.copy(folder / "README.md", new)
        seal(new)


def _copy_half(module: nn.Module, copy: nn.Module) -> nn.Module:
    copy.load_state_dict(module.state_dict())
    return copy.half()


def _save_tokenizer(folder: Path) -> None:
    """As tokenizer.json, and as the vocab.json and merges.txt that older transformers read."""
    build_tokenizer().save_pretrained(folder)  # a used one would save how it last padded
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    _write_json(folder / "vocab.json", model["vocab"])
    merges = "\n".join(" ".join(pair) for pair in model["merges"])
    (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}\n")


def seal(folder: Path) -> None:
    """Writes the sums of all files but the model card, which may be edited."""
    lines = [f"{sha256(folder / name)}  {name}\n" for name in sealed(folder)]
    (folder / SUMS).write_text("".join(lines))


def sealed(folder: Path) -> list[str]:
    """The names of all files that have a sum: they are the pipeline."""
    names = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )
    return [name for name in names if name not in (SUMS, "README.md")]


def _write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")
