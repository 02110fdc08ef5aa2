"""A Recording in a folder: tensors as safetensors, all else as JSON with a version."""

import json
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..json_file import AGAIN, read_object
from ..writing import try_folder, written_folder
from .axes import Call, Seen
from .given import Given
from .identity import Origin, Row, Text, Word
from .kept import Options, RecordedRun, RecordedStep, Stats, Total
from .pairs import Pair
from .processors import Processor
from .recording import Recording, _gone

VERSION = 2
STRUCTURE, TENSORS = "recording.json", "tensors.safetensors"
LARGEST = 2**30  # bytes of the JSON; a thousand steps with statistics of all have 30 million


def save(recording: Recording, folder: str | Path) -> Path:
    """Write a recording, finished or not, into a folder of its own; an older one there is replaced.

    It is written aside and renamed: what stood there stays until all is written. Raises
    FileExistsError for a folder that holds something else, another OSError for a place that cannot
    be written, and TypeError, before anything is written, for a forward that was given what is no
    tensor, number or text.
    """
    folder = try_folder(folder, whole=True)
    if folder.exists() and not (folder / STRUCTURE).is_file():
        raise FileExistsError(f"{folder} is there and is no recording: name another folder")
    packing = Packing()
    structure = {"version": VERSION} | packing.recording(recording)
    with written_folder(folder, whole=True) as new:
        save_file(packing.tensors, new / TENSORS)
        (new / STRUCTURE).write_text(json.dumps(structure, allow_nan=False), encoding="utf-8")
    return folder


def load(folder: str | Path) -> Recording:
    """What save() wrote. FileNotFoundError or ValueError for a folder that holds no recording.

    It is data alone: nothing that a folder from elsewhere says is executed.
    """
    folder = Path(folder).expanduser()
    if not (folder / STRUCTURE).is_file():
        raise FileNotFoundError(f"{folder}: no recording there, expected {STRUCTURE}")
    structure = read_object(folder / STRUCTURE, LARGEST)
    if structure.get("version") != VERSION:
        raise ValueError(
            f"{folder}: a recording of version {structure.get('version')}, expected {VERSION}; "
            "read it with the version of this package that wrote it"
        )
    tensors = _tensors(folder / TENSORS)
    try:
        return Unpacking(structure, tensors).recording()
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        said = f"{type(error).__name__}: {error}"[:200]
        raise ValueError(
            f"{folder} is no recording that this package wrote ({said}); save it again"
        ) from error


def _tensors(file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing{AGAIN}")
    try:
        return load_file(file)
    except SafetensorError as error:
        raise ValueError(f"{file} is no whole safetensors file ({error}){AGAIN}") from error


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
                [[self._row(row) for row in total.rows], self.value(total.sums), total.count]
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
        raise TypeError(f"a recording with a {type(value).__name__} in it cannot be saved")

    def _tensor(self, tensor: Tensor) -> str:
        if id(tensor) not in self._names:
            name = str(len(self._names))
            self._names[id(tensor)] = name, tensor
            # A copy: several may be views of one storage, which safetensors refuses.
            self.tensors[name] = tensor.detach().to("cpu", copy=True).contiguous()
        return self._names[id(tensor)][0]


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
        recording = Recording(Options(**options), self.structure["names"], _gone)
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
            {
                number: Total(self._rows(rows), self.value(sums), count)
                for number, (rows, sums, count) in enumerate(run["totals"])
            },
            run["counts"],
        )

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


def _plain(text: Text) -> Text:
    """Without what a subclass adds."""
    second = None if text.second is None else _plain(text.second)
    return Text(text.text, text.tokens, text.places, text.spans, second)


def _short(dtype: torch.dtype) -> str:
    """Its name within torch."""
    return str(dtype).removeprefix("torch.")


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
