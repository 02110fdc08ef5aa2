"""A ShapeTable as lines for a terminal.

Laid out here and not by rich.Table, which takes three times as long as the tracing.
"""

from collections.abc import Iterator
from itertools import groupby
from textwrap import wrap

from ..plain import plain
from .rows import STAGES, Row

NOTE = (
    "A row is a module's output, with its parts below it. A multiply-add is two FLOPs; norms, "
    "activations and sums are not counted. Attention weights are never stored by the fused kernel."
)
LEAST = 40
HEADING, ASIDE = "bold", "dim"  # styles, where rich prints the lines


def as_lines(table, width: int) -> Iterator[tuple[str, str]]:
    """Lines of at most `width` characters, each with its style.

    Where there is room they also show the class and the batch axis; rows need some 72. A terminal
    that says it is narrower than LEAST, as one without a size may, is not believed.
    """
    width = max(width, LEAST)
    lines = list(_cells(table, wide=True))
    if sum(_widths(lines)) > width:
        lines = list(_cells(table, wide=False))
    name, *others = _widths(lines)
    name = min(name, max(width - sum(others), 16))

    for line in wrap(plain(f"{table.title}: {table.given}"), width):
        yield line, HEADING
    for cells, style, skip in lines:
        if style == HEADING:
            yield "", style
        yield _line(cells, [name, *others]), style
        if skip:
            yield f"{_indent(cells[0])}└ skip {plain(skip)}", ASIDE
    for line in wrap(total(table), width):
        yield line, HEADING
    for line in wrap(NOTE, width):
        yield line, ASIDE


def total(table) -> str:
    """Of the rows that the table has, and what they were counted for."""
    size, unit = (1e9, "GFLOP") if table.total_flops >= 1e8 else (1e6, "MFLOP")
    numbers = f"{table.total_params:,} parameters, {table.total_flops / size:,.1f} {unit}"
    return f"{numbers} a forward at {table.given}"


def labels(rows) -> Iterator[str]:
    """The rows' names without the part that the row around them has already said."""
    inside = {0: ""}
    for row in rows:
        yield row.name.removeprefix(f"{inside[row.depth - 1]}.")
        inside[row.depth] = row.name


def stages(rows) -> Iterator[tuple[str, list[Row]]]:
    """The rows of each stage under its heading."""
    for stage, group in groupby(rows, key=lambda row: row.stage):
        yield f"{stage} {STAGES[stage]}" if stage else STAGES[0], list(group)


def short(number: int, unit: str = "") -> str:
    """1234567 as 1.2M, 12345678 as 12.3M, 123456789 as 123M; nothing for 0."""
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            digits = 1 if number < 100 * size else 0
            return f"{number / size:.{digits}f}{letter}{unit}"
    return f"{number}{unit}" if number else ""


def _cells(table, wide: bool) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """Each line as its cells, its style, and the other end of its skip."""
    batch = batch_of(table)

    def line(name, kind, axes, *numbers):
        return (name, kind, axes, *numbers) if wide else (name, axes, *numbers)

    axes = "axes" if wide else f"axes besides {batch}"
    yield line("name", "class", axes, "params", "FLOPs", "bytes"), ASIDE, ""
    for heading, rows in stages(table.rows):
        yield line(heading, "", "", *sums(rows), ""), HEADING, ""
        for row, label in zip(rows, labels(rows)):
            name = (2 if wide else 1) * row.depth * " " + plain(label)
            axes = axes_of(row, "" if wide else batch)
            numbers = short(row.params), short(row.flops), short(row.bytes, "B")
            yield line(name, plain(row.kind), axes, *numbers), "", row.skip
    yield line("all", "", "", *sums(table.rows), ""), HEADING, ""


def batch_of(table) -> str:
    """The first axis of nearly all rows."""
    return f"batch={table.inputs[0].shape[0]}"


def axes_of(row: Row, besides: str) -> str:
    """The axes in words, without the batch that they share with all."""
    return (str(row.tensor) or "one number").removeprefix(f"{besides} ")


def sums(rows) -> tuple[str, str]:
    return short(sum(row.params for row in rows)), short(sum(row.flops for row in rows))


def _widths(lines) -> list[int]:
    """Of the columns, with the space between them."""
    columns = zip(*(cells for cells, *_ in lines))
    return [1 + max(map(len, column)) for column in columns]


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    words, numbers = slice(None, -3), slice(-3, None)
    texts = [
        _shortened(text, width - 1).ljust(width) for text, width in zip(cells[words], widths[words])
    ]
    figures = [text.rjust(width) for text, width in zip(cells[numbers], widths[numbers])]
    return "".join(texts + figures).rstrip()


def _shortened(text: str, width: int) -> str:
    """The middle goes: the end of a name tells it apart."""
    if len(text) <= width:
        return text
    end = (width - 1) // 2
    return f"{text[: width - 1 - end]}…{text[-end:]}"


def _indent(name: str) -> str:
    return " " * (len(name) - len(name.lstrip()))
