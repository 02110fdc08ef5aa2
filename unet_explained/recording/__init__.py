"""Looking inside: hooks that observe, what they saw, and the tables and maps made of it."""

from .identity import Identity, Origin, Row, Text, Word, identified
from .recording import Recording
from .watch import record

__all__ = ["Identity", "Origin", "Recording", "Row", "Text", "Word", "identified", "record"]
