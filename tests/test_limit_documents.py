"""What docs/limits.md, docs/families.md and SECURITY.md name is there."""

import re
from pathlib import Path

import pytest

from benchmarks.limits import BEGIN, END, FAMILIES, counted, families, table, title

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("docs/limits.md", "docs/families.md", "SECURITY.md")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_file_that_is_named_exists(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    files = re.findall(r"\b(?:tests|docs|benchmarks)/[\w/]+\.\w+", text)
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert files
    for path in [*(ROOT / file for file in files), *((ROOT / document).parent / x for x in links)]:
        assert path.is_file(), path


def test_the_table_has_its_place():
    text = (ROOT / "docs/limits.md").read_text(encoding="utf-8")
    assert text.count(BEGIN) == text.count(END) == 1
    assert text.index(BEGIN) < text.index(END)


def test_each_family_has_a_title():
    for file in families():
        assert file.stem.removeprefix("test_limits_") in FAMILIES
        assert re.fullmatch("[A-Z][a-z ,]{3,60}", title(file)), file


def test_faults_are_counted(tmp_path):
    case = '<testcase classname="tests.test_limits_text" name="a">{}</testcase>'
    kinds = ("", "<failure/>", "<error/>", "<skipped/>", '<skipped type="pytest.xfail"/>', "")
    report = tmp_path / "report.xml"
    report.write_text(f"<testsuites>{''.join(map(case.format, kinds))}</testsuites>")
    counts = counted(report)
    assert counts["test_limits_text"] == {"made": 5, "held": 2, "skipped": 1}
    (text,) = [file for file in families() if file.stem == "test_limits_text"]
    assert "| Hostile text (`tests/test_limits_text.py`) | 5 | 2 |" in table([text], counts)
    assert "1 could not be made here" in table([text], counts)
