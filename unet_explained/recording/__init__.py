"""Looking inside: hooks that observe, what they saw, and the tables and maps made of it."""

from .kept import Announcement, Word
from .recorder import announce, record
from .recording import Recording

__all__ = ["Announcement", "Recording", "Word", "announce", "record"]
