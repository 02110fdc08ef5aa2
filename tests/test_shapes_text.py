"""How the shape table reads: in terminals of two widths, in a notebook, and as data."""

import csv
import io
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser

import pandas
import pytest
from rich.console import Console

from unet_explained.recording.shapes import COLUMNS, shape_table
from unet_explained.recording.table_text import as_lines, short

table_of = cache(shape_table)


@pytest.fixture
def sd15():
    return table_of("sd15")


@pytest.mark.parametrize("preset", ["sd15", "sdxl", "refiner", "x4", "unclip-h"])
@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_wider_than_the_terminal(preset, width):
    lines = [line for line, _ in as_lines(table_of(preset), width)]
    assert max(map(len, lines)) <= width
    assert not any(line.endswith(" ") for line in lines)
    # Nothing but a few names of inputs has to be shortened.
    assert sum("…" in line for line in lines) <= 3


def test_the_wide_table_adds_the_class_and_the_batch(sd15):
    narrow, wide = ("\n".join(line for line, _ in as_lines(sd15, width)) for width in (80, 120))
    assert "CrossAttnDownBlock2D" in wide
    assert "CrossAttnDownBlock2D" not in narrow
    assert "batch=2 head=8 query=4096 key=77" in wide
    assert "head=8 query=4096 key=77" in narrow
    assert "axes besides batch=2" in narrow


def test_text_names_what_was_assumed_and_the_totals(sd15, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = str(sd15)
    assert text.startswith("sd15: batch 2, latents 64x64, 77 tokens, float16\n")
    end = " ".join(text.splitlines()[-6:])
    assert "859,520,964 parameters, 1,606.5 GFLOP a forward at batch 2, latents 64x64" in end
    assert "└ skip to up_blocks.3.resnets.2" in text
    assert "└ skip from conv_in" in text
    for stage in ("1 time", "2 pre-process", "3 down", "4 mid", "5 up", "6 post-process"):
        assert f"\n{stage} " in text
    assert repr(sd15) == text


def test_a_small_total_is_not_zero():
    text = " ".join(str(shape_table("sd15", stage="time")).split())
    assert "2,050,560 parameters, 8.2 MFLOP a forward" in text


@pytest.mark.parametrize("columns", [1, 10])
def test_a_terminal_without_a_width_gets_words_and_no_column_of_letters(sd15, columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    title, *_ = str(sd15).splitlines()
    assert title == "sd15: batch 2, latents 64x64, 77 tokens,"


def test_rich_prints_the_same_lines_with_styles(sd15):
    console = Console(width=80, file=io.StringIO(), force_terminal=True)
    console.print(sd15)
    assert "\x1b[1m" in console.file.getvalue()
    plain = Console(width=80, file=io.StringIO())
    plain.print(sd15)
    expected = [line for line, _ in as_lines(sd15, 80)]
    assert plain.file.getvalue().splitlines() == expected


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, ""), (640, "640"), (1280, "1.3k"), (102_400, "102k"), (859_520_964, "860M")],
)
def test_numbers_are_short(number, text):
    assert short(number) == text


class Balance(HTMLParser):
    """Collects tags that were not closed in order, and every tag's name."""

    def __init__(self, text):
        super().__init__()
        self.open, self.seen = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.seen.add(tag)
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_html_stands_alone(sd15):
    html = sd15._repr_html_()
    parsed = Balance(html)
    assert parsed.open == []
    assert parsed.seen.isdisjoint({"script", "link", "img", "iframe"})
    assert "http" not in html
    assert html.count("<details>") == 7
    assert "<details open>" in shape_table("sd15", depth=1)._repr_html_()
    assert "skip to up_blocks.3.resnets.2" in html


def test_html_says_the_batch_once_and_the_class_over_the_name(sd15):
    html = sd15._repr_html_()
    assert html.count("<th>axes besides batch=2</th>") == 7
    assert "batch=2 " not in html
    assert "<td>ResnetBlock2D" not in html
    assert 'title="down_blocks.0.resnets.0: ResnetBlock2D"' in html


def test_html_escapes(sd15):
    html = replace(sd15, title="<b>&")._repr_html_()
    assert "&lt;b&gt;&amp;: batch 2" in html


def test_csv_and_pandas_hold_every_row(sd15, tmp_path):
    frame = sd15.to_pandas()
    assert list(frame.columns) == list(COLUMNS)
    assert len(frame) == len(sd15.rows)
    assert frame["flops"].sum() == sd15.total_flops
    assert frame["params"].sum() == sd15.total_params

    read = pandas.read_csv(io.StringIO(sd15.to_csv()), keep_default_na=False)
    pandas.testing.assert_frame_equal(read, frame, check_dtype=False)
    first = next(csv.DictReader(io.StringIO(sd15.to_csv())))
    assert first["axes"] == "batch=2 channel_in=4 height=64 width=64"
    file = sd15.to_csv(tmp_path / "new" / "table.csv")
    assert file.read_bytes() == sd15.to_csv().encode()
