"""`python -m unet_explained page`: writes the page, and says where it opens."""

from pathlib import Path

from ..plain import say


def page(options) -> None:
    """Errors as build's."""
    from ..page.build import build

    made = build(options.path, say)
    size = sum(file.stat().st_size for file in _files(made)) / 10**6
    opens = "open it in a browser" if made.is_file() else "put it on any static host"
    say(f"wrote {made} ({size:.1f} MB): {opens}")


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else [file for file in path.iterdir() if file.is_file()]
