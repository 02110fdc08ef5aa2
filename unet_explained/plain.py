"""Text from anywhere as plain text: what would steer a terminal is written out."""

import unicodedata

# Controls, lone surrogates and ends of lines; and what turns the direction of writing.
CATEGORIES = {"Cc", "Cs", "Zl", "Zp"}
TURNS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def plain(text: str) -> str:
    r"""The same text on one line: an escape becomes \x1b, the end of a line \n."""
    return text if text.isprintable() else "".join(map(_plain, text))


def plain_lines(text: str) -> str:
    """The same, line by line."""
    return "\n".join(map(plain, text.split("\n")))


def say(text: str, file=None) -> None:
    """Prints what may hold text from anywhere: none of it steers the terminal."""
    print(plain_lines(text), file=file, flush=True)


def _plain(character: str) -> str:
    steers = unicodedata.category(character) in CATEGORIES
    if steers or unicodedata.bidirectional(character) in TURNS:
        return character.encode("unicode_escape").decode("ascii")
    return character
