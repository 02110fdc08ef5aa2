"""What the page's scripts know of the pipeline: its words, its noise levels, its layers."""

import json
from typing import Any

from torch import nn

from ..run.denoise import Pipeline
from ..widgets.explorer_page import HINTS
from ..widgets.first_word import LINKS
from ..widgets.live_frames import drawn
from .export import sizes_of


def facts_of(pipe: Pipeline, saved: dict[str, Any]) -> dict[str, Any]:
    """JSON; saved: of saved_run, whose views know the layers.

    ValueError for a pipeline whose sampling loop the scripts do not have.
    """
    _expect_loop(pipe)
    assert pipe.latent_rgb is not None  # the bundled model has them
    assert pipe.palette is not None
    side, width = sizes_of(pipe)
    drawing, layers = drawn(pipe.unet.config)
    return {
        "tokenizer": tokenizer_of(pipe.tokenizer),
        "tokens": pipe.tokenizer.model_max_length,
        "width": width,
        "latents": [pipe.vae.config.latent_channels, side, side],
        "alphas": [float(f"{alpha:.9g}") for alpha in pipe.scheduler.alphas_cumprod.tolist()],
        "latent_rgb": pipe.latent_rgb.tolist(),
        "guidance": pipe.guidance,
        "numbers": sum(_count(part) for part in (pipe.text_encoder, pipe.unet, pipe.vae.decoder)),
        "palette": pipe.palette.groups,
        "parts": [box["name"] for box in drawing["boxes"]],
        "drawn": list(layers),
        "layers": [
            {"name": layer["name"], "size": layer["size"]}
            for layer in saved["explorer"]["state"]["about"]["layers"]
        ],
        "hints": HINTS,
        "links": LINKS.split(),
    }


def _expect_loop(pipe: Pipeline) -> None:
    scheduler = pipe.scheduler
    expected = {
        "prediction_type": "v_prediction", "timestep_spacing": "trailing", "clip_sample": False,
        "thresholding": False, "set_alpha_to_one": True, "num_train_timesteps": 1000,
    }  # fmt: skip
    found = {name: scheduler.config.get(name) for name in expected}
    kind = type(scheduler).__name__
    if kind != "DDIMScheduler" or found != expected:
        raise ValueError(f"a page samples by DDIMScheduler, {expected}; got {kind}, {found}")


def _count(part: nn.Module) -> int:
    return sum(parameter.numel() for parameter in part.parameters())


def tokenizer_of(tokenizer) -> dict[str, Any]:
    """Its vocabulary and merges, which its own JSON holds."""
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    merges = [pair if isinstance(pair, list) else pair.split(" ") for pair in model["merges"]]
    vocab = tokenizer.get_vocab()
    length = tokenizer.model_max_length
    return {"vocab": dict(sorted(vocab.items())), "merges": merges, "length": length}
