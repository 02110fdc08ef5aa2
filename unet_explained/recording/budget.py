"""How many bytes a recording may keep: foreseen from the first forward of each run."""

import re
from dataclasses import dataclass
from threading import Lock

UNITS = {unit: 1000**power for power, unit in enumerate(("B", "KB", "MB", "GB", "TB", "PB", "EB"))}


class BudgetError(MemoryError):
    """A recording would keep more than its budget; the message names what to drop.

    needed: bytes that it would keep.
    """

    def __init__(self, message: str, needed: int = 0) -> None:
        super().__init__(message)
        self.needed = needed


class Budget:
    """Bytes by kind of record, foreseen while a forward runs and settled when it ends.

    What a forward foresees is its own: several may be under way, and some never end.
    """

    def __init__(self, limit: str | int, advice: dict[str, str], room: int | None = None):
        """advice: what to drop, by kind; room: bytes that there are where it is kept."""
        self.advice, asked = advice, to_bytes(limit)
        self.limit = asked if room is None else min(asked, room)
        self.cut = self.limit < asked
        self.settled = dict.fromkeys(advice, 0)
        self._lock = Lock()

    @property
    def left(self) -> int:
        """Bytes that nothing settled has taken."""
        return self.limit - sum(self.settled.values())

    def foresee(self) -> "Foreseen":
        """For a forward that begins."""
        return Foreseen(self.left, dict.fromkeys(self.settled, 0), dict.fromkeys(self.settled, 0))

    def settle(self, foreseen: "Foreseen") -> None:
        """A forward ended. Raises BudgetError, now that all is counted, for more than the limit."""
        with self._lock:
            total = {kind: size + foreseen.sizes[kind] for kind, size in self.settled.items()}
            if (needed := sum(total.values())) > self.limit:
                raise BudgetError(self._message(total), needed)
            self.settled = total

    def give_back(self, each: dict[str, int], forwards: int) -> None:
        """Of forwards that were settled with the first one and will not come."""
        with self._lock:
            for kind, size in each.items():
                self.settled[kind] -= forwards * size

    def _message(self, sizes: dict[str, int]) -> str:
        total = sum(sizes.values())
        kinds = sorted(sizes, key=sizes.__getitem__, reverse=True)
        parts = [f"{kind} {text(sizes[kind])}" for kind in kinds if sizes[kind]]
        over = "the memory there is for it," if self.cut else "the budget of"
        said = (
            f"this would keep {text(total)}, {text(total - self.limit)} over {over} "
            f"{text(self.limit)}: {', '.join(parts)}. {self.advice[kinds[0]]}"
        )
        if self.cut:
            return f"{said}, or run fewer steps"
        return f'{said}, run fewer steps, or pass budget="{text(total, up=True)}"'


@dataclass
class Foreseen:
    """What one forward would keep."""

    left: int
    sizes: dict[str, int]  # by kind
    each: dict[str, int]  # of these what every further forward of its run takes

    def fits(self, kind: str, size: int, forwards: int = 1) -> bool:
        """Count bytes of so many forwards; whether all that is foreseen so far may be kept."""
        self.sizes[kind] += size * forwards
        self.each[kind] += size * (forwards > 1)
        self.left -= size * forwards
        return self.left >= 0


def to_bytes(size: str | int) -> int:
    """2_000_000_000 from "2GB" or from itself. Raises ValueError for anything else."""
    if isinstance(size, int) and not isinstance(size, bool) and size >= 0:
        return size
    found = re.fullmatch(r"(\d*\.?\d+) ?([KMGTPE]?B)", str(size).strip().upper())
    if not found:
        raise ValueError(f'budget={size!r}: expected bytes, or a text like "500MB" or "2GB"')
    return int(float(found[1]) * UNITS[found[2]])


def text(size: int, up: bool = False) -> str:
    """Bytes for a reader, in the largest unit that gives a number above 1."""
    unit = max((unit for unit in UNITS if UNITS[unit] <= size), key=UNITS.__getitem__, default="B")
    return f"{size / UNITS[unit] + (0.05 if up else 0):.1f} {unit}"
