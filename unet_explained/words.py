"""Words for messages: a value in short, and the names closest to one that is not there."""

from collections.abc import Iterable
from difflib import get_close_matches
from reprlib import Repr

_brief = Repr()
_brief.maxtuple = _brief.maxlist = 16
_brief.maxstring = _brief.maxother = _brief.maxlong = 80


def brief(value) -> str:
    """A value as a message shows it, however long or deep it is."""
    text = _brief.repr(value)
    return text if len(text) <= 400 else f"{text[:400]}..."


def nearest(name: str, names: Iterable[str], cutoff: float = 0.6) -> list[str]:
    """At most three names that look like one that is not there, in any case, the likest first."""
    spelt = {each.lower(): each for each in names}
    found = get_close_matches(name[:200].lower(), spelt, n=3, cutoff=cutoff)
    return [spelt[each] for each in found]


def closest(name: str, names: Iterable[str]) -> str:
    """The end of an error message: names that look like one that is not there."""
    near = nearest(name.strip("*"), names, 0.51)
    return f"; the closest: {', '.join(near)}" if near else ""
