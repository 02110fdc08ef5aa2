"""Numbers that a person passes, checked before any work. Imports nothing heavy."""

from numbers import Real
from operator import index
from typing import Any

MOST = 1000  # of guidance: pictures fall apart from 30 or so on
SEEDS = -(2**63), 2**64 - 1  # what torch takes


def whole_number(name: str, value: Any) -> int:
    """An int, also of numpy. TypeError for anything else, True and 1.0 among it."""
    try:
        if isinstance(value, bool):
            raise TypeError
        return index(value)
    except TypeError:
        raise TypeError(f"{name}: expected a whole number, got {value!r}") from None


def steps_of(value: Any) -> int:
    """TypeError or ValueError for what is no number of steps."""
    steps = whole_number("steps", value)
    if steps < 1:
        raise ValueError(f"steps: expected 1 or more, got {value!r}")
    return steps


def seed_of(value: Any) -> int:
    """TypeError or ValueError for what is no seed."""
    seed = whole_number("seed", value)
    if not SEEDS[0] <= seed <= SEEDS[1]:
        raise ValueError(f"seed: expected a whole number of 64 bits, got {value!r}")
    return seed


def guidance_of(value: Any, name: str = "guidance") -> Any:
    """The same, if it is a scale of guidance. TypeError or ValueError if not."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}: expected a number, got {value!r}")
    if not 0 <= float(value) <= MOST:  # false for NaN too
        raise ValueError(
            f"{name}: expected a number from 0 to {MOST}, got {value}; 1 is without guidance, "
            "7.5 is usual"
        )
    return value
