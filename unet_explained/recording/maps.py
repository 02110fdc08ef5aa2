"""From what a run kept to maps: of words, tokens and images, and the weights themselves."""

import math
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from ..numbers import whole_number
from ..words import brief, closest
from .heatmaps import average, head_mean, word_map
from .identity import Text
from .kept import image_key
from .pairs import Size
from .patterns import Layers, matching, pick
from .recorded_run import RecordedRun

METHODS = ("mean", "daam")
LISTED = 40  # words of a prompt that a message names
LOWEST = 8  # DAAM leaves out layers so many times smaller than the largest


class Maps:
    """The maps of one run. layers: its attentions that are known to be right."""

    def __init__(self, run: RecordedRun, failed: dict[str, str]) -> None:
        self.run, self.failed = run, failed
        self.layers = self._right(run.layers)
        self.self_layers = self._right(run.self_layers)

    def map(
        self, word: str | None, occurrence, token, layer, head, step, half, picture, method, image
    ) -> Float[Tensor, "height width"]:
        """As Recording.attention."""
        if method not in METHODS:
            raise ValueError(f"method={method!r}: expected one of {METHODS}")
        if (word is None) == (token is None):
            raise ValueError("pass a word, or token=, its position among the prompt's tokens")
        if image is not None and word is not None:
            raise ValueError("the tokens of an image prompt are no words: pass token=")
        if word is None:
            texts: dict[Any, int] = {None: 1}  # a position, whatever is there
            found: dict[Any, list] = {None: [(whole_number("token", token),)]}
        else:
            if not isinstance(word, str):
                raise TypeError(f"word: expected text, got a {type(word).__name__}: {brief(word)}")
            picture = self._with_word(word, half, picture) if picture is None else picture
            texts = self.run.given_texts(half, picture, step)
            found = _find(texts, word, occurrence)
        self.run.having(self.run.steps, half, picture)  # or says why there is nothing of it
        sizes = self._chosen(layer, image)
        if method == "daam":
            sizes = _of_daam(sizes)
        combine, per_layer = (_as_daam, _sum) if method == "daam" else (average, _mean)
        maps, forwards = [], sum(texts[text] for text in found)
        for text, occurrences in found.items():  # nearly always one
            by_layer = []
            for name, size in sizes.items():
                key = name if image is None else image_key(name, image)
                where = dict(step=step, head=head, half=half, picture=picture, text=text)
                kept = _having(token, self.run.weights(key, **where))
                by_layer.append(per_layer(kept, occurrences, size))
            maps.append(combine(by_layer) * (1 if method == "daam" else texts[text] / forwards))
        return torch.stack(maps).sum(dim=0)

    def weights(self, layer: str, step, head, half, picture, image) -> Float[Tensor, "query key"]:
        """As Recording.weights."""
        name = _only([*self._chosen(layer, image)], "cross-attention")
        key = name if image is None else image_key(name, image)
        kept = self.run.weights(key, step=step, head=head, half=half, picture=picture)
        whole = torch.stack([one.float() for one in kept])
        return rearrange(whole, "... query key -> (...) query key").mean(dim=0)

    def self_attention(
        self, layer: str, step, pixel, head, half, picture
    ) -> Float[Tensor, "height width"] | Float[Tensor, "height width height width"]:
        """As Recording.self_attention."""
        if not self.run.options.self_attention:
            raise ValueError("no self-attention was kept: pass self_attention=True to record()")
        self._fail(layer, self.self_layers)
        name = _only(matching(layer, self.self_layers, "self-attention"), "self-attention")
        size = self.self_layers[name]
        queries = slice(None) if pixel is None else [_index(pixel, size)]
        rows = []
        steps = [one for one in self.run.at(step) if name in one.pairs]
        if not steps:
            raise ValueError(f"{name} was not called in {'any step' if step is None else 'it'}")
        for one, row in self.run.having(steps, half, picture):
            pair, batch = one.pairs[name], [row]
            q, k = pair.q[batch], pair.k[batch]
            if head is not None:
                q, k = (pick(part[0], head, "head")[None, None] for part in (q, k))
            mask = None if pair.mask is None else pair.mask[batch]
            rows.append(head_mean(q[:, :, queries], k, mask)[0])
        mean = torch.stack(rows).mean(dim=0)
        shape = dict(zip(("height", "width"), size))
        maps = rearrange(mean, "query (height width) -> query height width", **shape)
        whole = "(height width) row column -> height width row column"
        return maps[0] if pixel is not None else rearrange(maps, whole, **shape)

    def _right(self, layers: dict[str, Size]) -> dict[str, Size]:
        """Without those that failed, in whichever call."""
        return {n: size for n, size in layers.items() if n.partition("#")[0] not in self.failed}

    def _chosen(self, layer: Layers, image: int | None) -> dict[str, Size]:
        """The layers that globs fit, or all for None; those that saw an image prompt."""
        sizes = self.layers
        if image is not None:
            if image not in [*self.run.image_layers]:  # of which a list may not be a key
                known = ", ".join(map(str, sorted(self.run.image_layers))) or "none"
                which = f"image prompt {brief(image)}"
                raise IndexError(f"{which} is not among those recorded: {known}")
            sizes = {n: s for n, s in self.run.image_layers[image].items() if n in self.layers}
        asked: Any = "*" if layer is None else layer
        globs = asked if isinstance(asked, list | tuple) else [asked]
        if not globs:
            raise ValueError(f"layer: expected one or more, got {layer}")
        found = set[str]()
        for glob in globs:
            self._fail(glob, sizes)
            found |= {*matching(glob, sizes, "cross-attention")}
        return {name: size for name, size in sizes.items() if name in found}

    def _fail(self, glob: str, sizes: Iterable[str]) -> None:
        """Says why there is no map of what a glob fits, if none of it is known to be right."""
        if not isinstance(glob, str) or any(fnmatchcase(name, glob) for name in sizes):
            return
        if why := [why for name, why in self.failed.items() if fnmatchcase(name, glob)]:
            others = f", nor of {len(why) - 1} others: see rec.unknown" * (len(why) > 1)
            raise ValueError(f"there is no map of {why[0]}{others}")

    def _with_word(self, word: str, half: str, picture: int | None) -> int | None:
        """Where nobody said which row is the prompt's, the only one whose text has the word."""
        rows = self.run.steps[0].rows
        if any(row.role or row.picture is not None for row in rows):
            return picture
        having = [i for i, row in enumerate(rows) if row.text and row.text.find(word)]
        return having[0] if len(having) == 1 else picture


def _find(
    texts: Iterable[Text], word: str, occurrence: int | None
) -> dict[Text, list[tuple[int, ...]]]:
    """Of each text that has the word the tokens of its occurrences, or of one of them."""
    found = {text: tokens for text in texts if (tokens := text.find(word))}
    if not found:
        each = [part for text in texts for part in (text, text.second) if part]
        words = [word for part in each for word in part.words]
        wanted = word.strip().casefold()
        if cut := [part for part in each if wanted and wanted in part.cut_off.casefold()]:
            read = len(cut[0].tokens)
            raise ValueError(f"{brief(word)} is cut off: the text encoder read {read} tokens")
        listed = ", ".join(words[:LISTED]) + ", ..." * (len(words) > LISTED)
        raise ValueError(f"{brief(word)} is not in the prompt: {listed}{closest(word, words)}")
    if occurrence is None:
        return found
    pick(max(found.values(), key=len), occurrence, "occurrence")  # or says how many there are
    return {
        text: [tokens[occurrence]] for text, tokens in found.items()
        if -len(tokens) <= occurrence < len(tokens)
    }  # fmt: skip


def _having(token: int | None, kept: Iterable[Tensor]) -> Iterator[Tensor]:
    """The same weights. IndexError for a token that one of them has not."""
    for weights in kept:
        if token is not None:
            pick(range(weights.shape[-1]), token, "token")
        yield weights


def _mean(
    kept: Iterable[Tensor], occurrences: Sequence[Sequence[int]], size: Size
) -> Float[Tensor, "height width"]:
    """A word's map, the mean over steps and heads."""
    steps = torch.stack([word_map(one, occurrences, size) for one in kept])
    return rearrange(steps, "... height width -> (...) height width").mean(dim=0)


def _of_daam(sizes: dict[str, Size]) -> dict[str, Size]:
    """Without the mid block and the layers of the lowest level."""
    height, width = max(sizes.values(), key=math.prod)
    lowest = height // LOWEST, width // LOWEST
    kept = {n: s for n, s in sizes.items() if not fnmatchcase(n, "mid_block*") and s != lowest}
    if not kept:
        raise ValueError(f"DAAM has no map of {', '.join(sizes)}: it leaves out the lowest level")
    return kept


def _sum(
    kept: Iterable[Tensor], occurrences: Sequence[Sequence[int]], size: Size
) -> Float[Tensor, "head token height width"]:
    """Each token's map on its own, summed over steps."""
    tokens = [token for occurrence in occurrences for token in occurrence]
    total = torch.stack([one[..., tokens].float() for one in kept]).sum(dim=0)
    total = total if total.ndim == 3 else total[None]
    pattern = "head (height width) token -> head token height width"
    return rearrange(total, pattern, height=size[0], width=size[1])


def _as_daam(maps: Sequence[Float[Tensor, "head token _ _"]]) -> Float[Tensor, "height width"]:
    """Tang et al. 2023: heads of all layers alike, bicubic to the largest size, clamped at 0, and
    only then the mean of a word's tokens."""
    size = max((heads.shape[-2:] for heads in maps), key=math.prod)
    resized = [F.interpolate(heads, size, mode="bicubic").clamp(min=0) for heads in maps]
    return torch.cat(resized).mean(dim=(0, 1))


def _only(names: list[str], what: str) -> str:
    if len(names) > 1:
        some = ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
        raise ValueError(f"choose one of the {what}s, {len(names)} of which fit: {some}")
    return names[0]


def _index(pixel: tuple[int, int], size: Size) -> int:
    """The place of (row, column) in reading order."""
    height, width = size
    try:
        row, column = (whole_number("pixel", side) for side in pixel)
    except (TypeError, ValueError):
        expected = "(row, column), two whole numbers"
        raise TypeError(f"pixel: expected {expected}, got {brief(pixel)}") from None
    if not (0 <= row < height and 0 <= column < width):
        raise IndexError(f"pixel {pixel} is outside the layer's {height} x {width}")
    return row * width + column
