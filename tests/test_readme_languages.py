"""Both READMEs say the same: headings, code, links, names, numbers and rows, section by section."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENGLISH, CHINESE = ((ROOT / name).read_text("utf-8") for name in ("README.md", "README.zh-CN.md"))
# What is not code in a block of code: comments, and what is said of a file or a folder.
SAID = r"(?:^|\s{2,})#.*$|(?:(?<=/)|(?<=\.py)) {2,}.*$"
KINDS = {
    "headings": r"^#+(?= )",
    "links": r'(?:\]\(|src=")([^)"]+)',
    "dark pictures": r'srcset="([^"]+)"',
    "names": r"`([^`]+)`",
    "numbers": r"(?<![\w.])\d(?:[\d.,e-]*\d)?",
    "rows of tables": r"^\|",
}


def blocks(text: str) -> list[list[str]]:
    """The blocks of code, line by line, without what is said of it."""
    found = re.findall(r"^```(\w*\n.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [re.sub(SAID, "", block, flags=re.MULTILINE).splitlines() for block in found]


def sections(text: str) -> list[str]:
    """All but the code, and but the line in which each README leads to the other."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^.*\]\(README\S*\.md\).*$", "", prose, count=1, flags=re.MULTILINE)
    return re.split(r"^(?=#+ )", prose, flags=re.MULTILINE)


def test_the_code_is_the_same():
    assert blocks(CHINESE) == blocks(ENGLISH)


@pytest.mark.parametrize("kind", KINDS)
def test_each_section_has_the_same(kind):
    for english, chinese in zip(sections(ENGLISH), sections(CHINESE), strict=True):
        one, other = (
            sorted(re.findall(KINDS[kind], text, re.MULTILINE)) for text in (english, chinese)
        )
        assert other == one
