"""How many frames a live view may draw, so that it costs its run little."""

from dataclasses import dataclass
from time import perf_counter

BEHIND = 3  # frames that the page may not have shown yet: while there are more, none is made
SHARE = 0.025  # of the time since the run's beginning that the view may have cost
PATIENCE = 1.0  # seconds after which a page that says nothing is taken for gone


@dataclass
class Pace:
    """Whether a frame may be drawn: so far they cost the run little, and the page keeps up."""

    spent: float = 0.0  # seconds of the run that the view has cost
    sent: int = 0  # frames
    sent_at: float = 0.0  # the last of them
    shown: int | None = None  # frames; None while no page says so

    def allows(self, elapsed: float) -> bool:
        """elapsed: seconds since the run's beginning."""
        behind = self.shown is not None and self.sent - self.shown >= BEHIND
        gone = perf_counter() - self.sent_at > PATIENCE
        return self.spent < SHARE * elapsed and (gone or not behind)
