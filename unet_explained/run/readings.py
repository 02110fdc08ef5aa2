"""What text encoders read and returned, and which rows of a UNet's text hold copies of it.

Of each position a print is kept, a number made of all its channels' bits: so thousands of texts
take little room, and a row is looked up instead of compared with each of them.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from threading import local
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from ..recording.hooks import Hooks
from ..recording.nested import tensors
from .text import used

DTYPES = torch.float32, torch.float16, torch.bfloat16  # in which a copy may have been cast
BITS = {4: torch.int32, 2: torch.int16}  # by the bytes of a number
STATES = 4  # the last hidden states that an encoder returned: pipelines take one of these


class Reading(NamedTuple):
    """One text in one state of an encoder."""

    encoder: int
    ids: Int[Tensor, "token"]
    prints: Int[Tensor, "dtype token"]


class Chunk(NamedTuple):
    """Where in a row a text begins that was read."""

    place: int
    reading: Reading


class Found(NamedTuple):
    """What a row is made of."""

    zeros: bool
    parts: list[list[Chunk]]  # of its channels: one encoder's, or two's; none if it is not known


class Readings:
    """Filled by hooks as encoders run; `heard(encoder, ids)` is told of each text."""

    def __init__(
        self, encoders: Sequence[tuple[nn.Module, Any]], heard: Callable[[int, Tensor], None]
    ) -> None:
        self.encoders, self.heard = encoders, heard
        # By width, length, where the end token is, which has seen the whole text, and its print:
        # texts that begin alike share all positions before the first that differs.
        self.kept: dict[tuple[int, int, int, int], Reading] = {}
        self._shapes: dict[tuple[int, int, int], None] = {}  # the first three of these
        self._thread = local()

    def place(self, hooks: Hooks) -> None:
        for number, (encoder, _) in enumerate(self.encoders):
            hooks.before(encoder, self._reads)
            hooks.after(encoder, partial(self._has_read, number))
            for name, module in encoder.named_modules():
                # Of an earlier state, for clip_skip, a pipeline asks this norm itself.
                if name.endswith("final_layer_norm") and ".layers." not in name:
                    hooks.after(module, partial(self._normed, number))

    def find(self, context: Float[Tensor, "row token channel"]) -> list[Found]:
        """What each row is made of; the device is waited for once."""
        channels = context.shape[2]
        widths = {width for width, *_ in list(self._shapes) if width <= channels}
        parts = sorted({(0, channels), *((c, w) for w in widths for c in (0, channels - w))})
        each = [prints(context[..., start : start + width]) for start, width in parts]
        rows = torch.stack(each, dim=1).cpu()
        return [self._found(dict(zip(parts, row)), channels) for row in rows]

    def _found(self, row: dict[tuple[int, int], Tensor], channels: int) -> Found:
        zeros = not row[0, channels].any()
        for width in (width for start, width in row if start == 0):
            rest = (width, channels - width)
            parts = [(0, width)] if width == channels else [(0, width), rest]
            if all(part in row for part in parts):
                found = [self._chunks(part[1], row[part]) for part in parts]
                if all(found):
                    return Found(zeros, found)
        return Found(zeros, [])

    def _chunks(self, width: int, row: Int[Tensor, "dtype token"]) -> list[Chunk]:
        """The texts that stand one after the other in a part of a row's channels; [] if not all."""
        chunks, place = list[Chunk](), 0
        while place < row.shape[1]:
            reading = self._at(width, row[:, place:])
            if reading is None:
                return []
            chunks.append(Chunk(place, reading))
            place += len(reading.ids)
        return chunks

    def _at(self, width: int, row: Int[Tensor, "dtype token"]) -> Reading | None:
        """The text that has its end token and most of its positions here: some may be weighted."""
        for wide, length, end in list(self._shapes):
            if wide != width or length > row.shape[1]:
                continue
            for dtype, number in enumerate(row[:, end].tolist()):
                reading = self.kept.get((width, length, end, number))
                if reading:
                    same = row[dtype, :length] == reading.prints[dtype]
                    if 2 * int(same.sum()) > length:
                        return reading
        return None

    def _reads(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        ids = kwargs.get("input_ids", args[0] if args else None)
        self._thread.ids = ids.detach() if isinstance(ids, Tensor) and ids.ndim == 2 else None

    def _has_read(self, number: int, module: nn.Module, args: tuple, output) -> None:
        ids, self._thread.ids = getattr(self._thread, "ids", None), None
        if ids is None:
            return
        found = [t for t in tensors(output) if t.ndim == 3 and t.shape[:2] == ids.shape]
        read = self._thread.__dict__.setdefault("read", WeakTensorKeyDictionary())
        for states in found:
            read[states] = ids
        self._keep(number, ids, [*found[:1], *found[1:][-STATES:]])

    def _normed(self, number: int, module: nn.Module, args: tuple, output: Tensor) -> None:
        """Of what is known to be some text's state: the norm may be given anything."""
        read = getattr(self._thread, "read", None)
        if read and args and (ids := read.get(args[0])) is not None:
            self._keep(number, ids, [output])

    @torch.no_grad()
    def _keep(self, encoder: int, ids: Int[Tensor, "text token"], found: list[Tensor]) -> None:
        tokenizer = self.encoders[encoder][1]
        ids, made = ids.cpu(), [(states.shape[2], prints(states).cpu()) for states in found]
        for number, text in enumerate(ids):
            length, end = len(text), used(text, tokenizer) - 1
            for width, own in made:
                reading = Reading(encoder, text, own[number])
                self._shapes[width, length, end] = None
                for last in reading.prints[:, end].tolist():
                    self.kept[width, length, end, last] = reading
            self.heard(encoder, text)


def prints(states: Float[Tensor, "row token channel"]) -> Int[Tensor, "row dtype token"]:
    """A number for each position, cast as each of DTYPES: equal where all channels' bits are."""
    factors = _factors(states.shape[-1], states.device)
    found = []
    for dtype in DTYPES:
        numbers = states.detach().to(dtype) + 0  # of -0 and 0 alike
        bits = numbers.view(BITS[dtype.itemsize]).long()
        found.append((bits * factors).sum(dim=-1))  # modulo 2 ** 64
    return torch.stack(found, dim=1)


@cache
def _factors(width: int, device: torch.device) -> Int[Tensor, "channel"]:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(-(2**62), 2**62, (width,), generator=generator).to(device)
