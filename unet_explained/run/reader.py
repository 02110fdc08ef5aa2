"""What each row of a pipeline's forwards is given: found again by content, not by rules of order.

Rows of encoder_hidden_states are bit copies of what the text encoders returned: each row is looked
for among it, position by position.
"""

import copy
import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import local
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..recording import Identity, Text
from ..recording.hooks import Hooks
from .calls import Call, Watching
from .readings import DTYPES, Chunk, Found, Readings
from .rows import belongs, rows_of
from .text import NOTHING, beside, read_prompt, text_of

BETWEEN = "torch.", "accelerate.", "diffusers.", "unet_explained."  # a loop and its UNet


class PipelineReader:
    """Reads a diffusers pipeline, or whatever has text encoders, tokenizers and a UNet."""

    def __init__(self, pipe) -> None:
        self.pipe = pipe
        self.encoders = _encoders(pipe)
        self.readings = Readings(self.encoders, self._heard)
        self.named: dict[str, Text] = {}  # by content
        self.written: dict[str, None] = {}  # what may have been read, as it was written
        self._thread = local()
        self._call: ContextVar[Call | None] = ContextVar("call", default=None)

    def watching(self) -> list[Hooks | Watching]:
        """What is open as long as a recorder is, whose alone it is: it ends with its owner."""
        return [
            Hooks(self.readings.place),
            Watching(self.pipe, self._running, self._encoding),
        ]

    def identity(self, sample: Tensor, context: Tensor | None) -> Identity | None:
        """Of a forward, by the rows it is given; nothing is waited for while they stay the same.

        What is written into a tensor of inference_mode is not counted: these are read each time.
        """
        if not isinstance(context, Tensor) or context.ndim != 3 or len(context) != len(sample):
            return None
        call, itself = self._call.get(), self._calls_itself()
        call = call if itself is not None else None
        key = call, itself, len(self.named), 0 if context.is_inference() else context._version
        seen = getattr(self._thread, "seen", None)
        if not seen or context.is_inference() or seen[0]() is not context or seen[1] != key:
            texts, contents = self._texts(call, context)
            rows = rows_of(call, texts, contents, self._latents(sample), context)
            own = call and (itself or belongs(call, rows))
            rows = call.placed(rows) if call and itself else rows
            identity = Identity(call.origin if call and own else None, rows)
            self._thread.seen = seen = ref(context), key, identity
        if call and call.origin.forwards is None:
            call.origin.forwards = self._forwards()
        return seen[2]

    def read(self, embeddings: Tensor, text: str) -> tuple[Text, set[str]]:
        """A text as the tokenizers read it, and what rows of these embeddings may look like."""
        found = [read_prompt(text, tokenizer) for _, tokenizer in self.encoders]
        length = found[0].ids.shape[1] if found else 0
        if embeddings.ndim != 3 or embeddings.shape[1] != length:
            raise ValueError(
                f"expected embeddings (row, {length}, channel), as the tokenizer has places, got "
                f"{tuple(embeddings.shape)}: make others inside `with`, where they are read, or "
                "pass token=, a position"
            )
        named = beside(
            [text_of(one.ids[0], t, [(text, text)]) for one, (_, t) in zip(found, self.encoders)]
        )
        contents = {content_of(row.to(dtype)) for row in embeddings for dtype in DTYPES}
        self.named |= dict.fromkeys(contents, named)
        return named, contents

    @contextmanager
    def _running(self, call: Call) -> Iterator[None]:
        """Around one call of the pipeline, in its thread."""
        self._encoding(call.strings)
        token = self._call.set(call)
        try:
            yield
            call.origin.finished = True
        finally:
            self._call.reset(token)
            call.origin.ended = True

    def _calls_itself(self) -> bool | None:
        """Whether this pipeline's own loop makes the forward, or code that it calls, as a callback;
        None if another pipeline does: a callback may call one, with the same UNet and prompt."""
        frame, itself = sys._getframe(1), True
        while frame:
            pipe = frame.f_code.co_name == "__call__" and frame.f_locals.get("self")
            if hasattr(pipe, "components") and hasattr(pipe, "unet"):
                return itself if pipe is self.pipe else None
            itself = itself and frame.f_globals.get("__name__", "").startswith(BETWEEN)
            frame = frame.f_back  # type: ignore[assignment]
        return False

    def _encoding(self, strings: list[str]) -> None:
        for string in strings:
            self.written.pop(string, None)  # the newest stands last
            self.written[string] = None

    def _heard(self, encoder: int, ids: Int[Tensor, "token"]) -> None:
        """What a call encodes before its first forward is its own, however it was written."""
        call = self._call.get()
        if call and call.origin.forwards is None:
            call.read.add(self._text_of(call, encoder, ids).tokens)

    def _forwards(self) -> int | None:
        """How many the call will make: what is said of timesteps once they are set."""
        known = getattr(self.pipe, "num_timesteps", None)
        times = getattr(getattr(self.pipe, "scheduler", None), "timesteps", None)
        return known or (None if times is None else len(times))

    def _latents(self, sample: Tensor) -> Tensor:
        """Without the channels of what a pipeline puts beside them."""
        config = getattr(self.pipe.unet, "config", None)
        return sample[:, : getattr(config, "out_channels", None)]

    def _texts(
        self, call: Call | None, context: Tensor
    ) -> tuple[list[Text | None], list[str | None]]:
        """Of each row its text, and what tells its content apart if no encoder made it."""
        texts, contents = list[Text | None](), list[str | None]()
        for found, row in zip(self.readings.find(context), context):
            text = NOTHING if found.zeros else self._text(call, found)
            content = content_of(row) if text is None else None
            texts.append(self.named.get(content) if content else text)
            contents.append(content)
        return texts, contents

    def _text(self, call: Call | None, found: Found) -> Text | None:
        parts = [
            _joined([self._text_of(call, *chunk.reading[:2]) for chunk in chunks], chunks)
            for chunks in found.parts
        ]
        return beside(parts) if parts else None

    def _text_of(self, call: Call | None, encoder: int, ids: Int[Tensor, "token"]) -> Text:
        """As it was written in this call, or else last."""
        convert = getattr(self.pipe, "maybe_convert_prompt", lambda text, tokenizer: text)
        written = dict.fromkeys([*(call.strings if call else ()), *reversed([*self.written])])
        with own_copy(self.encoders[encoder][1]) as own:
            return text_of(ids, own, ((text, convert(text, own)) for text in written))


# A fast tokenizer refuses two threads at once, and the pipeline's may be at work: so it is a copy
# that reads, lent to one at a time, because to make it takes as long as a forward or more.
_COPIES: WeakKeyDictionary[Any, list] = WeakKeyDictionary()


@contextmanager
def own_copy(tokenizer) -> Iterator[Any]:
    """A tokenizer that nobody else uses, of the same words: a textual inversion may come and go.

    Without a lock, which an interrupt could leave locked: a copy that one lost is made again.
    """
    free = _COPIES.setdefault(tokenizer, [])
    try:
        own = free.pop()
    except IndexError:
        own = copy.deepcopy(tokenizer)
    if own.get_added_vocab() != tokenizer.get_added_vocab():
        own = copy.deepcopy(tokenizer)
    yield own
    free.append(own)


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


def _joined(texts: list[Text], chunks: list[Chunk]) -> Text:
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
