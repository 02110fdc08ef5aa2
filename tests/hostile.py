"""Texts that would do harm if anything took them for more than text, and where they are put."""

import json
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

import unet_explained as ux

RUN = "top['postMessage'](1,'*')"  # the canary: a script that runs tells the page around it
SCRIPTS = {
    "script": f"<script>{RUN}</script>",
    "closing": f"</script><script>{RUN}</script>",
    "image": f'<img src=x onerror="{RUN}">',
    "double quote": f'" autofocus tabindex=0 onfocus="{RUN}" x="',
    "single quote": f"' autofocus tabindex=0 onfocus=\"{RUN}\" x='",
    "svg": f"<svg/onload={RUN}>",
    "comment": f"<!--<script> --><img src=x onerror={RUN}>",
    "title": f"</title></style></textarea><img src=x onerror={RUN}>",
    "template": f'`;${{{RUN}}}\u2028";{RUN}//\\',
}
# What mathtext would set, what it would stumble over, and what no font has.
WRITTEN = {
    "maths": "$x^2$",
    "broken maths": r"$\frac{1}{$",
    "dollar": "5 $ and 6 $",
    "backslash": r"\alpha \\ a\b",
    "braces": "{0.__class__} {x} %s %(x)d",
}
CONTROLS = "\x1b]0;taken\x07\x1b[31mred\x9b2J\u202e\b"
STEERING = set("\x1b\x07\x9b\b\u202e")


class Elements(HTMLParser):
    """The elements of a page, the attributes that a script stands in, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.handlers: list[tuple[str, str | None]] = []
        self.scripts: list[dict[str, str | None]] = []
        self.content: list[str] = []  # of each script
        self.text = ""
        self._inside = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self._inside = tag
        self.handlers += [(n, v) for n, v in attributes if n.startswith("on") or n == "srcdoc"]
        if tag == "script":
            self.scripts.append(dict(attributes))
            self.content.append("")

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside == "script":
            self.content[-1] += data
        else:
            self.text += data


def named_record(folder: Path, new: Path, word: str) -> Path:
    """A record whose first word, in its prompt, and whose token and file are that text."""
    shutil.copytree(folder, new)
    file = new / "recording.json"
    structure = json.loads(file.read_text())
    for text in structure["texts"]:
        if not text["spans"]:
            continue
        first, end = text["places"][1]
        shift = len(word) - (end - first)
        text["text"] = text["text"][:first] + word + text["text"][end:]
        text["spans"][0]["text"] = text["tokens"][1] = word
        moved = [[a + shift, b + shift] if b > a else [a, b] for a, b in text["places"][2:]]
        text["places"] = [text["places"][0], [first, first + len(word)], *moved]
    file.write_text(json.dumps(structure))
    return new


def edited_record(folder: Path, new: Path, edit) -> Path:
    """A record whose JSON was changed by hand."""
    shutil.copytree(folder, new)
    file = new / "recording.json"
    structure = json.loads(file.read_text())
    file.write_text(json.dumps(edit(structure) or structure))
    return new


def plain_record(pipe, folder: Path) -> Path:
    """A record of a run, whose text is then changed as one who means harm could."""
    with ux.record(pipe.unet, attention="heads") as recording:
        pipe("a red circle", steps=2)
    return recording.save(folder / "record")


def strings(value) -> Iterator[str]:
    """All text in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from strings([*value, *value.values()])
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)


def config_in(folder, config: dict) -> None:
    Path(folder).mkdir(parents=True)
    Path(folder, "config.json").write_text(json.dumps(config))


def view_of(view: str, pipe, named, text: str):
    """A view of a run, or of a record, of that text."""
    if view == "live":
        live = ux.live(pipe, text, steps=1)
        live.wait()
        return live
    return {"explorer": ux.explore, "umap": ux.umap}[view](named(text))


def add_code(tokenizer: Path) -> None:
    """What says of itself that it wants to run a file of its own."""
    file = tokenizer / "tokenizer_config.json"
    own = {"auto_map": {"AutoTokenizer": ["own.Own", None]}, "tokenizer_class": "Own"}
    file.write_text(json.dumps(json.loads(file.read_text()) | own))
    (tokenizer / "own.py").write_text("import os\nos.mkdir('executed')\nclass Own: pass\n")


def named_in_files(tiny_folder: Path, where: Path) -> None:
    """Pipelines whose class, and whose tensor, is named with what steers a terminal."""
    (where / "class").mkdir()
    (where / "class" / "model_index.json").write_text(json.dumps({"_class_name": CONTROLS}))
    folder = shutil.copytree(tiny_folder, where / "weights")
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    save_file(load_file(file) | {CONTROLS: torch.ones(1)}, file)
