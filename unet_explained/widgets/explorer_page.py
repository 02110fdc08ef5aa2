"""What the word explorer tells its page: words, layers and steps by name, and maps as bytes."""

import warnings
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..recording.rows import stage_of
from ..run.denoise import Run
from ..run.text import Prompt, read_prompt
from ..show.colours import colour_of
from .explorer_maps import HALVES, Column, WordMaps

MESSAGE = 4 * 10**6  # bytes that one answer may have
HINTS = {
    "start": "the start token, which belongs to no word; its scale is its own",
    "rest": "the end token, the padding after it, and punctuation; its scale is its own",
}


def menus(run: Run, source: WordMaps, texts: dict[str, Prompt], first: dict) -> dict:
    """What can be chosen, by the names the page asks with, and the first choice."""
    layers = list(source.layers)
    return {
        "texts": {
            half: {"prompt": prompt.text, "words": _words(source.columns[half], prompt)}
            for half, prompt in texts.items()
        },
        "layers": [_layer(source, name) for name in layers],
        "means": means(layers),
        "timesteps": [round(time, 1) for time in run.timesteps],
        "latents": list(run.latents.shape[-2:]),
        "choice": first,
    }


def _layer(source: WordMaps, name: str) -> dict[str, Any]:
    """A cross-attention for the menu: by the transformer it stands in, if that says it all."""
    transformer, _, inner = name.partition(".transformer_blocks.")
    beside = [other for other in source.layers if other.startswith(transformer + ".")]
    label = transformer if len(beside) == 1 else f"{transformer} block {inner.split('.')[0]}"
    return {
        "name": name,
        "label": label,
        "size": list(source.layers[name]),
        "heads": source.heads(name),
        "stage": stage_of(name),
        "colour": colour_of(name),
    }


def packed(maps: Float[Tensor, "column height width"]) -> tuple[dict, bytes]:
    """Maps as uint8, each from 0 to its own maximum: {"shape", "tops", "full"} and the bytes.

    tops: the maxima, in weights; full: (height, width), more than the shape's if it was too much.
    """
    full = list(maps.shape[1:])
    while maps.numel() > MESSAGE:
        height, width = maps.shape[1:]
        maps = F.adaptive_avg_pool2d(maps, (-(-height // 2), -(-width // 2)))
    tops = maps.amax(dim=(1, 2))
    shares = maps / tops.clamp(min=1e-12)[:, None, None]
    data = (shares * 255).round().clamp(0, 255).to(torch.uint8)
    return {"shape": list(maps.shape), "tops": tops.tolist(), "full": full}, data.numpy().tobytes()


def choice(
    layer: str = "*", head: int | None = None, step: int | None = None, half: str = HALVES[0]
) -> dict:
    """In the order of names that the page asks in: a saved answer is found by it."""
    return {"layer": layer, "head": head, "step": step, "half": half}


def texts_of(run: Run) -> dict[str, Prompt]:
    """The prompt of each half of the batch; without guidance there is one."""
    if len(run.forwards[0].sample) == 1:
        return {HALVES[0]: run.prompt}
    with warnings.catch_warnings():  # of a prompt that is too long, the run warned
        warnings.simplefilter("ignore")
        negative = read_prompt(run.negative_prompt, run.pipeline.tokenizer)
    return dict(zip(HALVES, (run.prompt, negative)))


def _words(columns: tuple[Column, ...], prompt: Prompt) -> list[dict]:
    """For the page: each column with what is said of it, and a repeated word with its number."""
    same = [column.text for column in columns if column.kind == "word"]
    words = []
    count: dict[str, int] = {}
    for text, kind, tokens in columns:
        hint = HINTS.get(kind)
        if hint is None:
            parts = [prompt.tokens[i].replace("</w>", "") for i in tokens]
            hint = f"token {tokens[0]}" if len(tokens) == 1 else f"tokens {' + '.join(parts)}"
        number = 0
        if kind == "word" and same.count(text) > 1:
            number = count[text] = count.get(text, 0) + 1
        words.append({"text": text, "kind": kind, "hint": hint, "number": number})
    return words


def means(layers: list[str]) -> list[dict]:
    """The groups of layers whose mean can be chosen: all, and those of a stage."""
    means = [{"name": "*", "label": f"all {len(layers)} layers, their mean"}]
    for stage, pattern in {"down": "down_blocks*", "mid": "mid_block*", "up": "up_blocks*"}.items():
        count = sum(stage_of(layer) == stage for layer in layers)
        if 1 < count < len(layers):
            means.append({"name": pattern, "label": f"{stage}: {count} layers, their mean"})
    return means
