"""What the core does without, asked for by name where it is needed."""

from importlib.util import find_spec


def need(*packages: str, extra: str = "lab") -> None:
    """Raise ImportError, saying what to install, unless these packages of the extra are there."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise ImportError(
            f"this needs {', '.join(missing)}, without which the core is installed: "
            f"pip install 'unet-explained[{extra}]' (in a clone: pip install -e '.[{extra}]')",
            name=missing[0],
        )
