"""A Recording as JSON, and beside it its tensors by names."""

from dataclasses import asdict
from math import isfinite
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

from .axes import Call, Seen
from .identity import Row, Text
from .kept import RecordedStep
from .recorded_run import RecordedRun
from .recording import Recording


class Packing:
    """A recording as JSON, in which tensors and texts that several share stand once."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._texts: list[Text] = []
        self._names: dict[int, tuple[str, Tensor]] = {}  # held, so that an id stays theirs

    def recording(self, recording: Recording) -> dict:
        runs = [self._run(run) for run in recording.runs]
        options = asdict(recording.options) | {"device": str(recording.options.device)}
        return {
            "options": options,
            "config": recording.config,
            "dtype": recording.dtype and _short(recording.dtype),
            "names": list(recording.names),
            "calls": [self._call(call) for call in recording.calls],
            "runs": runs,
            "failed": recording.failed,
            "unproved": recording.unproved,
            "texts": [asdict(text) for text in self._texts],
        }

    def _run(self, run: RecordedRun) -> dict:
        return {
            "origin": None if run.origin is None else vars(run.origin),
            "layers": run.layers,
            "self_layers": run.self_layers,
            "image_layers": run.image_layers,
            "totals": [
                [[self._row(row) for row in total.rows], self.value(total.sums), total.counts]
                for total in run.totals.values()
            ],
            "steps": [self._step(step) for step in run.steps],
            "counts": run.counts,
        }

    def _step(self, step: RecordedStep) -> dict:
        given = None if step.given is None else step.given.by_name
        processors = step.given.processors if step.given else ()
        cast = step.given.autocast if step.given else None
        stats = torch.tensor([*step.stats.values()], dtype=torch.float64)
        return {
            "timestep": self.value(step.timestep),
            "batch": [self._row(row) for row in step.batch],
            "kept": step.kept,
            "given": self.value(given),
            "processors": [[one.kind, one.scale] for one in processors],
            "autocast": cast and _short(cast),
            "attention": self.value(step.attention),
            "pairs": self.value(step.pairs),
            "values": self.value(step.values),
            "stats": [list(step.stats), self.value(stats)],
            "extent": self.value(step.extent),
        }

    def _row(self, row: Row) -> list:
        if row.text is None:
            return list(row)
        text = _plain(row.text)
        if text not in self._texts:
            self._texts.append(text)
        return [self._texts.index(text), *row[1:]]

    def _call(self, call: Call) -> list:
        def seen(tensors: tuple[Seen, ...]) -> list:
            return [[t.name, t.axes, t.shape, _short(t.dtype)] for t in tensors]

        return [call.name, call.kind, call.parameters, seen(call.inputs), seen(call.outputs)]

    def value(self, value: Any) -> Any:
        """Containers marked by their kind, tensors by their names in the file."""
        match value:
            case Tensor():
                return {"tensor": self._tensor(value)}
            case dict():
                return {"dict": {key: self.value(item) for key, item in value.items()}}
            case tuple():
                return {"tuple": [self.value(item) for item in value]}
            case list():
                return [self.value(item) for item in value]
            case float() if not isfinite(value):
                return {"float": str(value)}  # JSON has no NaN
            case None | bool() | int() | float() | str():
                return value
            case Integral():  # numpy's, of which its float64 alone is a float
                return int(value)
            case Real():
                return self.value(float(value))
        raise TypeError(f"a recording with a {type(value).__name__} in it cannot be saved")

    def _tensor(self, tensor: Tensor) -> str:
        if id(tensor) not in self._names:
            name = str(len(self._names))
            self._names[id(tensor)] = name, tensor
            # A copy: several may be views of one storage, which safetensors refuses.
            self.tensors[name] = tensor.detach().to("cpu", copy=True).contiguous()
        return self._names[id(tensor)][0]


def _plain(text: Text) -> Text:
    """Without what a subclass adds."""
    second = None if text.second is None else _plain(text.second)
    return Text(text.text, text.tokens, text.places, text.spans, second)


def _short(dtype: torch.dtype) -> str:
    """Its name within torch."""
    return str(dtype).removeprefix("torch.")
