"""The way back from packing.py's JSON and tensors to a Recording."""

from typing import Any

import torch
from torch import Tensor

from .axes import Call, Seen
from .filing import no_model
from .given import Given
from .identity import Origin, Row, Text, Word
from .kept import Options, RecordedStep, Stats, Total
from .pairs import Pair
from .processors import Processor
from .recorded_run import RecordedRun
from .recording import Recording


class Unpacking:
    """The way back."""

    def __init__(self, structure: dict, tensors: dict[str, Tensor]) -> None:
        self.structure, self.tensors = structure, tensors
        self.texts = [_text(text) for text in structure["texts"]]

    def recording(self) -> Recording:
        options = self.structure["options"]
        options |= {
            "patterns": tuple(options["patterns"]),
            "device": torch.device(options["device"]),
        }
        recording = Recording(Options(**options), self.structure["names"], no_model)
        recording._config = self.structure["config"]
        dtype = self.structure["dtype"]
        recording.dtype = dtype and _dtype(dtype)
        recording.calls = tuple(self._call(*call) for call in self.structure["calls"])
        recording.failed = self.structure["failed"]
        recording.unproved = tuple(self.structure.get("unproved", ()))  # older ones have it not
        runs = self.structure["runs"]
        recording.runs = tuple(self._run(recording.options, run) for run in runs)
        return recording

    def _run(self, options: Options, run: dict) -> RecordedRun:
        return RecordedRun(
            options,
            None if run["origin"] is None else Origin(**run["origin"]),
            tuple(self._step(**step) for step in run["steps"]),
            {name: (height, width) for name, (height, width) in run["layers"].items()},
            {name: (height, width) for name, (height, width) in run["self_layers"].items()},
            {
                int(number): {name: (height, width) for name, (height, width) in sizes.items()}
                for number, sizes in run["image_layers"].items()
            },
            {number: self._total(*total) for number, total in enumerate(run["totals"])},
            run["counts"],
        )

    def _total(self, rows: list, sums: dict, counts: dict[str, int] | int) -> Total:
        sums = self.value(sums)
        if isinstance(counts, int):  # of all layers, as older ones have it
            counts = dict.fromkeys(sums, counts)
        return Total(self._rows(rows), sums, {name: int(counts[name]) for name in sums})

    def _rows(self, rows: list) -> tuple[Row, ...]:
        return tuple(Row(None if text is None else self.texts[text], *rest) for text, *rest in rows)

    def _step(
        self, timestep, batch, kept, given, processors, autocast, attention, pairs, values, stats,
        extent=None,
    ) -> RecordedStep:  # fmt: skip
        names, numbers = stats[0], self.value(stats[1]).tolist()
        had = tuple(Processor(*one) for one in processors)
        cast = autocast and _dtype(autocast)
        return RecordedStep(
            self.value(timestep),
            self._rows(batch),
            tuple(kept),
            None if given is None else Given.of(self.value(given), had)._replace(autocast=cast),
            self.value(attention),
            {name: Pair(*pair) for name, pair in self.value(pairs).items()},
            self.value(values),
            {name: Stats(*row) for name, row in zip(names, numbers)},
            self.value(extent),
        )

    def _call(self, name: str, kind: str, parameters: dict, *seen: list) -> Call:
        shapes = {key: tuple(shape) for key, shape in parameters.items()}
        inputs, outputs = (
            tuple(Seen(n, tuple(a), tuple(s), _dtype(dtype)) for n, a, s, dtype in tensors)
            for tensors in seen
        )
        return Call(name, kind, shapes, inputs, outputs)

    def value(self, value: Any) -> Any:
        match value:
            case {"tensor": name}:
                return self.tensors[name]
            case {"float": text}:
                return float(text)
            case {"dict": items}:
                return {key: self.value(item) for key, item in items.items()}
            case {"tuple": items}:
                return tuple(self.value(item) for item in items)
            case list():
                return [self.value(item) for item in value]
        return value


def _dtype(name: str) -> torch.dtype:
    """The way back; torch has much else by name."""
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"{name!r} is no dtype")
    return found


def _text(text: dict) -> Text:
    written = [text["text"], *text["tokens"], *(word["text"] for word in text["spans"])]
    if not all(isinstance(part, str) for part in written):
        raise TypeError("a text with what is no text in it")
    spans = (Word(word["text"], tuple(word["tokens"])) for word in text["spans"])
    places = ((first, end) for first, end in text["places"])
    second = None if text["second"] is None else _text(text["second"])
    return Text(text["text"], tuple(text["tokens"]), tuple(places), tuple(spans), second)
