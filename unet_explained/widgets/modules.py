"""Scripts that import each other, as the one script that a widget or a page takes."""

import re
from graphlib import TopologicalSorter
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
IMPORT = re.compile(r'^import \{([^}]*)\} from "(\.\.?/[\w/]+)\.js";\n', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:async )?(?:function\*?|const|class) (\w+))", re.MULTILINE)


def joined(name: str, folder: Path = FOLDER) -> str:
    """NAME.js after all that it imports, each in a scope of its own and once; its exports stay.

    A scope goes by its file's name, which no other of the scripts has.
    """
    first = folder / f"{name}.js"
    sources, needs, ahead = {}, {}, [first]
    while ahead:
        each = ahead.pop()
        if each not in sources:
            sources[each] = each.read_text(encoding="utf-8")
            others = (each.parent / f"{found[1]}.js" for found in IMPORT.findall(sources[each]))
            needs[each] = [other.resolve() for other in others]
            ahead += needs[each]
    order = [each for each in TopologicalSorter(needs).static_order() if each != first]
    return "\n".join([*(_scope(each.stem, sources[each]) for each in order), _own(sources[first])])


def _own(source: str) -> str:
    """A script whose imports are taken from the scopes before it."""
    return IMPORT.sub(
        lambda found: f"const {{{found[1]}}} = {found[2].rpartition('/')[2]}_js;\n", source
    )


def _scope(name: str, source: str) -> str:
    """A module as a function that is called at once, and what it gives."""
    gives = ", ".join(EXPORT.findall(source))
    inner = EXPORT.sub("", _own(source))
    return f"const {name}_js = (() => {{\n{inner}return {{ {gives} }};\n}})();"
