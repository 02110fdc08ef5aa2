"""python -m benchmarks limits: makes every fault of tests/test_limits_*.py and writes the table."""

import ast
import datetime
import platform
import subprocess
import sys
import tempfile
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "limits.md"
BEGIN, END = "<!-- written by python -m benchmarks limits -->", "<!-- end of the table -->"
# In the order of the document; a family that is not among them comes after these.
FAMILIES = (
    "numbers", "files", "size", "inputs", "records", "world", "text", "properties", "soak",
)  # fmt: skip


def limits(rounds: int) -> str:
    """Runs the tests of all families and writes docs/limits.md's table; rounds do not matter."""
    files = families()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-m", "", *map(str, files)]  # the long ones too
        command.append(f"--junitxml={report}")
        subprocess.run(command, cwd=ROOT, check=False)  # a fault that is not held is a figure, too
        counts = counted(report)
    text = table(files, counts)
    write(text)
    return text


def families() -> list[Path]:
    """The test files, each of one family."""
    found = (ROOT / "tests").glob("test_limits_*.py")
    order = {f"test_limits_{family}": number for number, family in enumerate(FAMILIES)}
    return sorted(found, key=lambda file: (order.get(file.stem, len(order)), file.stem))


def counted(report: Path) -> dict[str, Counter]:
    """By the stem of each file: faults made and held; skipped, where something is not installed."""
    counts: dict[str, Counter] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        count = counts.setdefault(case.get("classname", "").rpartition(".")[2], Counter())
        skipped = case.find("skipped")
        if skipped is not None and skipped.get("type") != "pytest.xfail":
            count["skipped"] += 1
            continue
        count["made"] += 1
        count["held"] += not any(case.find(kind) is not None for kind in ("failure", "error"))
        count["held"] -= skipped is not None  # expected to fail: made, and not held
    return counts


def title(file: Path) -> str:
    """What its docstring begins with, up to a colon or the end of a line."""
    docstring = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
    return docstring.partition("\n")[0].partition(":")[0].rstrip(".")


def table(files: list[Path], counts: dict[str, Counter]) -> str:
    """A line for each family, and what it was measured with."""
    lines = ["| family | faults made | held |", "|---|---|---|"]
    whole: Counter = Counter()
    for file in files:
        count = counts.get(file.stem, Counter())
        whole += count
        name = f"{title(file)} (`tests/{file.name}`)"
        lines.append(f"| {name} | {count['made']} | {count['held']} |")
    lines.append(f"| all | {whole['made']} | {whole['held']} |")
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "diffusers"))
    missing = f"; {whole['skipped']} could not be made here" if whole["skipped"] else ""
    date = datetime.date.today()
    lines.append(f"\n{date}, {versions}, Python {platform.python_version()}{missing}.")
    return "\n".join(lines)


def write(text: str) -> None:
    """Between the document's two marks."""
    document = DOCUMENT.read_text("utf-8")
    before, after = document.split(BEGIN)[0], document.split(END)[1]
    DOCUMENT.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", "utf-8")
