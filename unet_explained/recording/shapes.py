"""The shape table: every intermediate tensor with its axes, parameters, FLOPs and memory."""

import csv
import io
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..extras import need
from ..model import UNetConfig
from ..writing import write_file
from .axes import Call, Seen
from .rows import STAGES, Row, limited, rows_of
from .skeleton import ShapesOnly, example_inputs, skeleton, trace_config
from .table_html import as_html
from .table_text import as_lines

COLUMNS = ("stage", "name", "class", "axes", "dtype", "params", "flops", "bytes", "skip")


@dataclass(frozen=True, repr=False)
class ShapeTable:
    """Rows in order of execution: text in a terminal, HTML in a notebook.

    inputs: what the model was given. A row's flops count a multiply-add as two, in convolutions,
    linears and attention; its bytes are the tensor's own, in its dtype.
    """

    title: str
    inputs: tuple[Seen, ...]
    rows: tuple[Row, ...]

    @property
    def total_params(self) -> int:
        return sum(row.params for row in self.rows)

    @property
    def total_flops(self) -> int:
        return sum(row.flops for row in self.rows)

    @property
    def given(self) -> str:
        """The sizes and the dtype that all other sizes follow from, in words."""
        inputs = {tensor.name: tensor for tensor in self.inputs}
        sample, prompt = inputs["sample"], inputs.get("encoder_hidden_states")
        batch, *_, height, width = sample.shape
        tokens = f", {prompt.shape[1]} tokens" if prompt else ""
        dtype = str(sample.dtype).removeprefix("torch.")
        return f"batch {batch}, latents {height}x{width}{tokens}, {dtype}"

    def to_pandas(self):
        """A DataFrame with a line for every row: numbers are plain numbers, axes are text."""
        need("pandas")
        import pandas

        return pandas.DataFrame(self._records(), columns=list(COLUMNS))

    def to_csv(self, path: str | Path | None = None) -> str | Path:
        """The same as comma-separated text, under a line of headings; with a path, as that file,
        whose path is returned. OSError for a place that cannot be written."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([COLUMNS, *self._records()])
        return text.getvalue() if path is None else write_file(path, text.getvalue().encode())

    def _records(self) -> Iterator[tuple]:
        for row in self.rows:
            dtype = str(row.tensor.dtype).removeprefix("torch.")
            yield (
                STAGES[row.stage], row.name, row.kind, str(row.tensor), dtype,
                row.params, row.flops, row.bytes, row.skip,
            )  # fmt: skip

    def __str__(self) -> str:
        width = shutil.get_terminal_size().columns
        return "\n".join(line for line, _ in as_lines(self, width))

    __repr__ = __str__

    def __rich_console__(self, console, options):
        from rich.text import Text

        for line, style in as_lines(self, options.max_width):
            yield Text(line, style, no_wrap=True)

    def _repr_html_(self) -> str:
        return as_html(self)


def shape_table(
    what,
    *,
    batch: int = 2,
    height: int | None = None,
    width: int | None = None,
    tokens: int = 77,
    depth: int | None = None,
    stage: int | str | None = None,
) -> ShapeTable:
    """All that passes through a UNet, traced without weights; a model is neither run nor moved.

    what: a preset's name, config.json or its folder, dict, UNetConfig, or a model. height and width
    are the latents', by default the checkpoint's own. depth: how many modules deep to look. stage:
    one of the six, by name or number. Raises ValueError for anything that does not fit.
    """
    numbers = _stages(stage)
    config, dtype = _config_and_dtype(what)
    own_height, own_width = _latents(config)
    height, width = own_height if height is None else height, own_width if width is None else width
    sizes = dict(batch=batch, height=height, width=width, tokens=tokens)
    _check_counts(**sizes, **({} if depth is None else dict(depth=depth)))
    title = str(what) if isinstance(what, str | Path) else "UNet2DConditionModel"
    table = _table(title, trace_config(config, dtype, **sizes))
    rows = table.rows if depth is None else limited(table.rows, depth)
    return replace(table, rows=tuple(row for row in rows if row.stage in numbers))


def table_of_recording(recording) -> ShapeTable:
    """The table of the first forward that a Recording saw; ValueError if it saw none."""
    if not recording.calls:
        raise ValueError(
            "nothing was recorded of its shapes: run the model inside `with record(...)`, or of a "
            "Run read run.replay(0).shapes"
        )
    return _table("recorded forward", recording.calls)


def summary(model):
    """torchinfo's own table of a model, or of whatever shape_table takes, on the meta device.

    Its parameters are right. Its multiply-adds leave out the fused attention, and count a linear
    once a sample where it works once a token: 252 and 465 of Stable Diffusion 1.5's 1607 GFLOP.
    """
    need("torchinfo")
    import torchinfo

    config, dtype = _config_and_dtype(model)
    height, width = _latents(config)
    inputs = example_inputs(config, dtype, batch=2, height=height, width=width, tokens=77)
    with ShapesOnly(dtype):
        return torchinfo.summary(skeleton(config, dtype), input_data=inputs, verbose=0)


def _table(title: str, calls: Sequence[Call]) -> ShapeTable:
    return ShapeTable(title, calls[0].inputs, tuple(rows_of(calls)))


def _config_and_dtype(what) -> tuple[UNetConfig, torch.dtype]:
    """Of a model its own; whatever else describes one is taken to run in float16."""
    if isinstance(what, str | Path | dict | UNetConfig):
        return UNetConfig.load(what), torch.float16
    if not hasattr(what, "config") or hasattr(what, "components"):  # a pipeline has a config too
        raise ValueError(
            f"expected a preset's name, a config or a UNet, got a {type(what).__name__}"
        )
    return UNetConfig.load(what.config), what.dtype


def _latents(config: UNetConfig) -> tuple[int, int]:
    size = config.sample_size or 64
    return size if isinstance(size, tuple) else (size, size)


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise ValueError(f"{name}={count!r}: expected a whole number, 1 or more")


def _stages(stage: int | str | None) -> set[int]:
    """The numbers of the stages asked for."""
    if stage is None:
        return set(range(len(STAGES)))
    for number, name in enumerate(STAGES):
        if str(stage) in (name, str(number)):
            return {number}
    known = ", ".join(f"{number} {name}" for number, name in enumerate(STAGES))
    raise ValueError(f"stage={stage!r}: expected the name or the number of one of {known}")
