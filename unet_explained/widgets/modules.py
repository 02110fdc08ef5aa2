"""Scripts that import each other, as the one script that a widget or a page takes."""

import re
from graphlib import TopologicalSorter
from pathlib import Path

FOLDER = Path(__file__).parent
IMPORT = re.compile(r'^import \{([^}]*)\} from "\./(\w+)\.js";\n', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:async )?(?:function|const|class) (\w+))", re.MULTILINE)


def joined(name: str) -> str:
    """NAME.js after all that it imports, each in a scope of its own and once; its exports stay."""
    sources, ahead = {}, [name]
    while ahead:
        each = ahead.pop()
        if each not in sources:
            sources[each] = (FOLDER / f"{each}.js").read_text(encoding="utf-8")
            ahead += [found[1] for found in IMPORT.findall(sources[each])]
    needs = {each: [found[1] for found in IMPORT.findall(sources[each])] for each in sources}
    order = [each for each in TopologicalSorter(needs).static_order() if each != name]
    return "\n".join([*(_scope(each, sources[each]) for each in order), _own(sources[name])])


def _own(source: str) -> str:
    """A script whose imports are taken from the scopes before it."""
    return IMPORT.sub(lambda found: f"const {{{found[1]}}} = {found[2]}_js;\n", source)


def _scope(name: str, source: str) -> str:
    """A module as a function that is called at once, and what it gives."""
    gives = ", ".join(EXPORT.findall(source))
    inner = EXPORT.sub("", _own(source))
    return f"const {name}_js = (() => {{\n{inner}return {{ {gives} }};\n}})();"
