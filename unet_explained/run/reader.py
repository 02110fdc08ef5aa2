"""What each row of a pipeline's forwards is given: found again by content, not by rules of order.

Rows of encoder_hidden_states are bit copies of what the text encoders returned: so what these read
and returned is kept, and each row is looked for among it, position by position.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from threading import local
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..recording import Identity, Text
from ..recording.hooks import Hooks
from ..recording.nested import tensors
from .calls import Call, Watching
from .rows import rows_of
from .text import read_prompt, text_of

NOTHING = Text("", (), (), ())  # of a row of zeros, SDXL's for no negative prompt
STATES = 4  # the last hidden states that an encoder returned: pipelines take one of these
DTYPES = torch.float32, torch.float16, torch.bfloat16


class Reading(NamedTuple):
    """One state of a text encoder, and what it had read."""

    encoder: int
    ids: Int[Tensor, "text token"]
    states: Float[Tensor, "text token channel"]


class Match(NamedTuple):
    """How many positions of a chunk of a row are those of a text that was read."""

    channel: int  # where the encoder's channels begin in the row's
    width: int
    place: int  # where the chunk begins
    length: int
    encoder: int
    ids: Int[Tensor, "token"]


class PipelineReader:
    """Reads a diffusers pipeline, or whatever has text encoders, tokenizers and a UNet."""

    def __init__(self, pipe) -> None:
        self.pipe = pipe
        self.encoders = _encoders(pipe)
        self.readings: dict[tuple, Reading] = {}  # by encoder, ids and which state it is
        self.named: dict[str, Text] = {}  # by content
        self.written: dict[str, None] = {}  # what may have been read, as it was written
        self._thread = local()
        self._call: ContextVar[Call | None] = ContextVar("call", default=None)
        self._hooks = Hooks(self._place)
        self._watching = Watching(pipe, self._running, self._encoding)

    def __enter__(self) -> "PipelineReader":
        self._hooks.__enter__()
        self._watching.__enter__()
        return self

    def close(self) -> None:
        self._watching.close()
        self._hooks.close()
        self._thread = local()

    def identity(self, sample: Tensor, context: Tensor | None) -> Identity | None:
        """Of a forward, by the rows it is given; nothing is waited for while they stay the same."""
        if not isinstance(context, Tensor) or context.ndim != 3 or len(context) != len(sample):
            return None
        call = self._call.get()
        seen = getattr(self._thread, "seen", None)
        if not seen or seen[0] is not context or seen[1:3] != (_version(context), call):
            rows = self._rows(call, sample, context)
            ours = call and _is_of(call, [row.text for row in rows])
            identity = Identity(call.origin if call and ours else None, rows)
            self._thread.seen = seen = context, _version(context), call, identity
        if call and call.origin.forwards is None:
            call.origin.forwards = self._forwards()
        return seen[3]

    def read(self, embeddings: Tensor, text: str) -> tuple[Text, set[str]]:
        """A text as the tokenizers read it, and what rows of these embeddings may look like."""
        found = [read_prompt(text, tokenizer) for _, tokenizer in self.encoders]
        length = found[0].ids.shape[1] if found else 0
        if embeddings.ndim != 3 or embeddings.shape[1] != length:
            raise ValueError(
                f"expected embeddings (row, {length}, channel), as the tokenizer has places, got "
                f"{tuple(embeddings.shape)}: of others token= is answered"
            )
        named = _beside(
            [text_of(one.ids[0], t, [(text, text)]) for one, (_, t) in zip(found, self.encoders)]
        )
        contents = {content_of(row.to(dtype)) for row in embeddings for dtype in DTYPES}
        self.named |= dict.fromkeys(contents, named)
        return named, contents

    def _place(self, hooks: Hooks) -> None:
        for number, (encoder, _) in enumerate(self.encoders):
            hooks.before(encoder, self._reads)
            hooks.after(encoder, partial(self._has_read, number))
            for name, module in encoder.named_modules():
                # Of an earlier state, for clip_skip, a pipeline asks this norm itself.
                if name.endswith("final_layer_norm") and ".layers." not in name:
                    hooks.after(module, partial(self._normed, number))

    def _reads(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        ids = kwargs.get("input_ids", args[0] if args else None)
        self._thread.ids = ids.detach().cpu() if isinstance(ids, Tensor) else None

    def _has_read(self, number: int, module: nn.Module, args: tuple, output) -> None:
        if (ids := getattr(self._thread, "ids", None)) is not None:
            found = [t for t in tensors(output) if t.ndim == 3 and t.shape[:2] == ids.shape]
            for place, states in enumerate([*found[:1], *found[-STATES:]]):
                self._keep(place, Reading(number, ids, states.detach().clone()))

    def _normed(self, number: int, module: nn.Module, args: tuple, output: Tensor) -> None:
        ids = getattr(self._thread, "ids", None)
        if ids is not None and output.shape[:2] == ids.shape:
            self._keep("norm", Reading(number, ids, output.detach().clone()))

    def _keep(self, which: int | str, reading: Reading) -> None:
        key = reading.encoder, which, tuple(map(tuple, reading.ids.tolist()))
        self.readings.pop(key, None)  # the newest stands last
        self.readings[key] = reading

    @contextmanager
    def _running(self, call: Call) -> Iterator[None]:
        """Around one call of the pipeline, in its thread."""
        self._encoding(call.strings)
        token = self._call.set(call)
        try:
            yield
        finally:
            self._call.reset(token)
        call.origin.finished = True

    def _encoding(self, strings: list[str]) -> None:
        self.written |= dict.fromkeys(strings)

    def _forwards(self) -> int | None:
        """How many the call will make: what is said of timesteps once they are set."""
        known = getattr(self.pipe, "num_timesteps", None)
        times = getattr(getattr(self.pipe, "scheduler", None), "timesteps", None)
        return known or (None if times is None else len(times))

    def _rows(self, call: Call | None, sample: Tensor, context: Tensor):
        texts = self._texts(context)
        contents = [content_of(row) if text is None else None for row, text in zip(context, texts)]
        texts = [
            self.named.get(content) if content else text for text, content in zip(texts, contents)
        ]
        channels = self.pipe.unet.config.out_channels
        return rows_of(call, texts, contents, sample[:, :channels], context)

    def _texts(self, context: Tensor) -> list[Text | None]:
        """Of each row; None where its channels are not all those of texts that were read."""
        matches, counts = self._matches(context)
        zero = (context == 0).flatten(1).all(dim=1)
        found = torch.stack([zero.long(), *counts]).T.tolist()  # the one time that is waited for
        return [
            NOTHING if is_zero else self._text(context, matches, numbers)
            for is_zero, *numbers in found
        ]

    def _matches(self, context: Tensor) -> tuple[list[Match], list[Int[Tensor, "row"]]]:
        """Every text that was read, at every place where it may stand in a row."""
        matches, counts = list[Match](), list[Tensor]()
        _, places, channels = context.shape
        for reading in [*self.readings.values()]:  # other threads may be read to meanwhile
            _, length, width = reading.states.shape
            states = reading.states.to(context)
            for channel in {0, channels - width} if width <= channels else ():
                for place in range(0, places - length + 1, length):
                    part = context[:, place : place + length, channel : channel + width]
                    same = (part[:, None] == states).all(dim=3).sum(dim=2)
                    counts += same.T
                    matches += [
                        Match(channel, width, place, length, reading.encoder, ids)
                        for ids in reading.ids
                    ]
        return matches, counts

    def _text(self, context: Tensor, matches: list[Match], counts: list[int]) -> Text | None:
        """Of one row, whose channels come from one encoder or from two, chunk after chunk."""
        _, places, channels = context.shape
        parts = dict.fromkeys((match.channel, match.width) for match in matches)
        for cover in [[part] for part in parts if part == (0, channels)] + [
            [one, other] for one in parts for other in parts
            if one[0] == 0 and other == (one[1], channels - one[1])
        ]:  # fmt: skip
            found = (self._in_part(part, places, matches, counts) for part in cover)
            texts = [text for text in found if text is not None]
            if len(texts) == len(cover):
                return _beside(texts)
        return None

    def _in_part(self, part, places: int, matches: list[Match], counts: list[int]) -> Text | None:
        chunks, place = list[Match](), 0
        while place < places:
            here = [
                (count, match) for count, match in zip(counts, matches)
                if (match.channel, match.width, match.place) == (*part, place)
            ]  # fmt: skip
            best = max((count for count, _ in here), default=0)
            top = [match for count, match in here if count == best]
            alike = {tuple(match.ids.tolist()) for match in top}
            # Texts that begin alike share positions; a blend of two has these, and no others.
            if not top or 2 * best <= top[0].length or len(alike) > 1:
                return None
            chunks.append(top[0])
            place += top[0].length
        return _joined([self._text_of(match) for match in chunks], chunks)

    def _text_of(self, match: Match) -> Text:
        tokenizer = self.encoders[match.encoder][1]
        convert = getattr(self.pipe, "maybe_convert_prompt", lambda text, tokenizer: text)
        texts = ((text, convert(text, tokenizer)) for text in reversed([*self.written]))
        return text_of(match.ids, tokenizer, texts)


def content_of(row: Float[Tensor, "token channel"]) -> str:
    """What tells embeddings apart: equal for bit copies alone."""
    data = row.detach().contiguous().cpu().view(torch.uint8).numpy().tobytes()
    return hashlib.sha256(data).hexdigest()


def _encoders(pipe) -> list[tuple[nn.Module, Any]]:
    """Each text encoder with its tokenizer, in the order of their names."""
    found = []
    for name, part in sorted(pipe.components.items()):
        tokenizer = pipe.components.get(name.replace("text_encoder", "tokenizer"))
        if name.startswith("text_encoder") and isinstance(part, nn.Module) and tokenizer:
            found.append((part, tokenizer))
    return found


def _beside(texts: list[Text]) -> Text:
    """What two encoders read: one text, or the first, and the second at the same places."""
    first, *rest = texts
    if not rest or _said(rest[0]) == _said(first):
        return first
    return Text(first.text, first.tokens, first.places, first.spans, rest[0])


def _said(text: Text) -> tuple:
    return text.text, text.places


def _joined(texts: list[Text], chunks: list[Match]) -> Text:
    """Chunks of a long prompt as one text: tokens stand where their chunk does."""
    if len(texts) == 1:
        return texts[0]
    whole = Text("", (), (), ())
    for text, chunk in zip(texts, chunks):
        at, start = len(whole.text) + bool(whole.text), chunk.place
        fill = start - len(whole.tokens)  # the padding of the chunk before
        tokens = (*whole.tokens, *[""] * fill, *text.tokens)
        places = (*whole.places, *[(at, at)] * fill, *((a + at, b + at) for a, b in text.places))
        moved = (w.__class__(w.text, tuple(t + start for t in w.tokens)) for w in text.spans)
        whole = Text(f"{whole.text} {text.text}".strip(), tokens, places, (*whole.spans, *moved))
    return whole


def _is_of(call: Call, texts: list[Text | None]) -> bool:
    """Whether a forward may be the call's own: inside it others may run, of texts of their own."""
    known = [text.text for text in texts if text and text.text]
    return not known or any(text in call.strings for text in known)


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version
