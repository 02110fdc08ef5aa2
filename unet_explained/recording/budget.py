"""How many bytes a recording may keep: foreseen from the first forward of each run."""

import re

UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


class BudgetError(MemoryError):
    """A recording would keep more than its budget; the message names what to drop."""


class Budget:
    """Bytes by kind of record, counted when a forward foresees them and settled when it ends."""

    def __init__(self, limit: str | int, advice: dict[str, str]):
        self.limit, self.advice = to_bytes(limit), advice  # advice: what to drop, by kind
        self.settled = dict.fromkeys(advice, 0)
        self.begin()

    def begin(self) -> None:
        """A forward begins; what one that never ended had foreseen is forgotten."""
        self.foreseen = dict(self.settled)

    def fits(self, kind: str, size: int) -> bool:
        """Count bytes; whether all that is foreseen so far fits, so that these may be kept."""
        self.foreseen[kind] += size
        return sum(self.foreseen.values()) <= self.limit

    def end(self) -> None:
        """Settle. Raises BudgetError, now that all is counted, for more than the limit."""
        total = sum(self.foreseen.values())
        if total > self.limit:
            raise BudgetError(self._message(total))
        self.settled = self.foreseen

    def _message(self, total: int) -> str:
        kinds = sorted(self.foreseen, key=self.foreseen.__getitem__, reverse=True)
        parts = [f"{kind} {text(self.foreseen[kind])}" for kind in kinds if self.foreseen[kind]]
        return (
            f"this would keep {text(total)}, {text(total - self.limit)} over the budget of "
            f"{text(self.limit)}: {', '.join(parts)}. {self.advice[kinds[0]]}, run fewer steps, or "
            f'pass budget="{text(total, up=True)}"'
        )


def to_bytes(size: str | int) -> int:
    """2_000_000_000 from "2GB" or from itself. Raises ValueError for anything else."""
    if isinstance(size, int):
        return size
    found = re.fullmatch(r"([\d.]+) ?([KMGT]?B)", str(size).strip().upper())
    if not found:
        raise ValueError(f'budget={size!r}: expected bytes, or a text like "500MB" or "2GB"')
    return int(float(found[1]) * UNITS[found[2]])


def text(size: int, up: bool = False) -> str:
    """Bytes for a reader, in the largest unit that gives a number above 1."""
    unit = max((unit for unit in UNITS if UNITS[unit] <= size), key=UNITS.__getitem__, default="B")
    return f"{size / UNITS[unit] + (0.05 if up else 0):.1f} {unit}"
