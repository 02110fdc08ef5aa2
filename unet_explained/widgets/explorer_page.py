"""What the word explorer tells its page: words, layers and steps by name, and maps as bytes."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..recording import Text
from ..recording.identity import ROLES
from ..recording.rows import stage_of
from ..show.colours import colour_of
from .first_word import first_thing
from .subject_maps import Column, WordMaps

MESSAGE = 4 * 10**6  # bytes that one answer may have
HINTS = {
    "start": "the start token, which belongs to no word; its scale is its own",
    "rest": "the end token, the padding after it, and punctuation; its scale is its own",
    "first": "the first token, which often takes the most; its scale is its own",
    "token": "nobody said which word this token is of",
}


def menus(source: WordMaps, first: dict) -> dict:
    """What can be had, by the names the page asks with, and the first choice.

    steps: whether there are maps of single steps; mean: whether of all; self: self-attention;
    foreseen: whether the picture is known as it was at a step.
    """
    subject, layers, half = source.subject, list(source.layers), first["half"]
    steps = subject.read[half]
    each_head = any(source.can(0, step, half) for step in (None, *steps))
    return {
        "texts": {half: _half(source, half) for half in had(source)},
        "layers": [_layer(source, name, each_head) for name in layers],
        "means": means(layers),
        "timesteps": [round(time, 1) for time in subject.timesteps],
        "steps": any(source.can(None, step, half) for step in steps),
        "mean": source.can(None, None, half),
        "self": source.can_look(half),
        "latents": list(subject.size),
        "unfinished": subject.unfinished,
        "foreseen": subject.foreseen is not None,
        "choice": first,
    }


def had(source: WordMaps) -> list[str]:
    """The halves of which there are any maps."""
    return [
        half
        for half, steps in source.subject.read.items()
        if any(source.can(None, step, half) for step in (None, *steps))
    ]


def _half(source: WordMaps, half: str) -> dict[str, Any]:
    """What a half was told, and how many steps have it; of an unknown text no prompt."""
    text, subject = source.subject.texts[half], source.subject
    told = "" if text is None else f": told {f'“{text.text}”' if text.text else 'nothing'}"
    told = ": told the prompt" if half == ROLES[0] and text and text.text else told
    return {
        "label": f"{half}{told}" if subject.told else "nobody said which half this is",
        "prompt": text and text.text,
        "words": _words(source.columns[half], text),
        "first": _first(source.columns[half]),
        "count": len(subject.read[half]),
    }


def _first(columns: tuple[Column, ...]) -> int | None:
    """The column that is shown first: of the first thing that the words name."""
    words = [index for index, column in enumerate(columns) if column.kind == "word"]
    return words[first_thing([columns[index].text for index in words])] if words else None


def _layer(source: WordMaps, name: str, each_head: bool) -> dict[str, Any]:
    """A cross-attention for the menu: by the transformer it stands in, if that says it all.

    heads: 0 if only their mean can be had.
    """
    transformer, _, inner = name.partition(".transformer_blocks.")
    beside = [other for other in source.layers if other.startswith(transformer + ".")]
    label = transformer if len(beside) == 1 else f"{transformer} block {inner.split('.')[0]}"
    return {
        "name": name,
        "label": label,
        "size": list(source.layers[name]),
        "heads": source.heads(name) if each_head else 0,
        "stage": stage_of(name),
        "colour": colour_of(name),
    }


def packed(maps: Float[Tensor, "column height width"]) -> tuple[dict, bytes]:
    """Maps as uint8, each from 0 to its own maximum: {"shape", "tops", "full"} and the bytes.

    tops: the maxima, in weights, None for a map that is not finite; full: (height, width), more
    than the shape's if it was too much.
    """
    full = list(maps.shape[1:])
    while maps.numel() > MESSAGE:
        height, width = maps.shape[1:]
        maps = F.adaptive_avg_pool2d(maps, (-(-height // 2), -(-width // 2)))
    tops = maps.amax(dim=(1, 2))
    whole = maps.flatten(1).isfinite().all(dim=1).tolist()
    shares = (maps / tops.clamp(min=1e-12)[:, None, None]).nan_to_num(0, 0, 0)
    data = (shares * 255).round().clamp(0, 255).to(torch.uint8)
    ends = [top if finite else None for top, finite in zip(tops.tolist(), whole)]
    return {"shape": list(maps.shape), "tops": ends, "full": full}, data.numpy().tobytes()


def choice(
    layer: str = "*", head: int | None = None, step: int | None = None, half: str = ROLES[0]
) -> dict:
    """In the order of names that the page asks in: a saved answer is found by it."""
    return {"layer": layer, "head": head, "step": step, "half": half}


def _words(columns: tuple[Column, ...], prompt: Text | None) -> list[dict]:
    """For the page: each column with what is said of it, and a repeated word with its number."""
    same = [column.text for column in columns if column.kind == "word"]
    words = []
    count: dict[str, int] = {}
    for text, kind, tokens in columns:
        hint = HINTS.get(kind)
        if hint is None and prompt is not None:
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
