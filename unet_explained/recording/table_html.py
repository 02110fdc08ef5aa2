"""A ShapeTable for a notebook: HTML without scripts or network, readable in light and dark."""

from html import escape

from .rows import Row
from .table_text import NOTE, axes_of, batch_of, labels, short, stages, sums, total

# Tables of more rows than this, and of several stages, start with the stages closed.
OPEN = 100

# Colours are the notebook's own, and greys that show on white and on black. The class stands twice
# where JupyterLab's own rule for tables would win otherwise.
STYLE = """
.unet-shapes { overflow-x: auto; }
.unet-shapes > * { min-width: 760px; }
.unet-shapes summary { cursor: pointer; padding: .3em 0; border-top: 1px solid #8886; }
.unet-shapes summary span { float: right; opacity: .7; }
.unet-shapes table { width: 100%; table-layout: fixed; border-collapse: collapse; }
.unet-shapes table, .unet-shapes tr { background: none; color: inherit; font-size: 12px; }
.unet-shapes tbody tr:hover { background: #8883; }
.unet-shapes :is(th, td) { padding: .1em .4em; white-space: nowrap; }
.unet-shapes.unet-shapes table :is(th, td) { text-align: left; }
.unet-shapes.unet-shapes table :is(th, td):nth-child(n + 3) { width: 4.8em; text-align: right; }
.unet-shapes th:nth-child(1) { width: 22em; }
.unet-shapes th, .unet-shapes small { opacity: .7; font-weight: normal; }
.unet-shapes small { display: block; }
"""


def as_html(table) -> str:
    """One table for each stage, under a heading that opens and closes it.

    The class is in the hint over a row's name, the batch in the heading: as on a narrow terminal.
    """
    many = len(table.rows) > OPEN and len({row.stage for row in table.rows}) > 1
    opened = "" if many else " open"
    batch = batch_of(table)
    headings = ("name", f"axes besides {batch}", "params", "FLOPs", "bytes")
    parts = [f"<style>{STYLE}</style><b>{escape(f'{table.title}: {table.given}')}</b>"]
    for heading, rows in stages(table.rows):
        lines = "".join(_line(row, label, batch) for row, label in zip(rows, labels(rows)))
        parts.append(
            f"<details{opened}><summary>{heading}<span>{_counts(rows)}</span></summary>"
            f"<table><thead>{_tr('th', headings)}</thead><tbody>{lines}</tbody></table></details>"
        )
    parts.append(f"<p><b>{escape(total(table))}</b><small>{escape(NOTE)}</small></p>")
    return f'<div class="unet-shapes">{"".join(parts)}</div>'


def _counts(rows: list[Row]) -> str:
    params, flops = sums(rows)
    counts = (params and f"{params} parameters", flops and f"{flops}FLOP")
    return " · ".join(count for count in counts if count)


def _line(row: Row, label: str, batch: str) -> str:
    hint, indent = escape(f"{row.name}: {row.kind}"), row.depth - 1
    name = f'<div title="{hint}" style="padding-left:{indent}em">{escape(label)}'
    name += f"<small>skip {escape(row.skip)}</small></div>" if row.skip else "</div>"
    numbers = short(row.params), short(row.flops), short(row.bytes, "B")
    return _tr("td", (name, escape(axes_of(row, batch)), *numbers))


def _tr(tag: str, cells: tuple[str, ...]) -> str:
    return "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in cells) + "</tr>"
