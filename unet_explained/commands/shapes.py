"""`shapes`: a table of all that passes through a network."""

from ..plain import say
from ..writing import try_file


def shapes(options) -> None:
    """The shape table of a preset, a config, a file of weights or a hub id, as text or CSV."""
    from ..run.files import Search
    from ..run.hub import find_config

    # What cannot be had, or written, is said before anything heavy loads.
    if options.csv:
        try_file(options.csv)
    find_config(options.what, Search())
    from ..run.shapes import shape_table

    names = ("batch", "height", "width", "tokens", "depth", "stage")
    asked = {name: getattr(options, name) for name in names}
    table = shape_table(options.what, **{n: v for n, v in asked.items() if v is not None})
    if options.csv:
        table.to_csv(options.csv)
        say(f"wrote {options.csv}")
    else:
        print(table)
