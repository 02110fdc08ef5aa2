"""Where hostile text is seen: figures, a notebook that nbconvert exports, a browser, JupyterLab."""

import re
from pathlib import Path

import nbformat
import numpy as np
import torch
from hostile import SCRIPTS, config_in, named_record, view_of
from lab import Browser
from torch import nn

import unet_explained as ux
from unet_explained.lessons.check import check
from unet_explained.show import attention, bars, features, heatmaps, runs
from unet_explained.show.controls import controls

IMAGE, MAP = np.zeros((32, 32, 3), np.uint8), np.random.default_rng(0).random((8, 8))
FIGURES = {
    "heatmap_grid": lambda t: heatmaps.heatmap_grid(IMAGE, [t, "b"], [MAP, MAP], title=t),
    "map_grid": lambda t: heatmaps.map_grid(IMAGE, [MAP, MAP], [t, "b"], title=t),
    "spreads": lambda t: features.spreads({t: MAP}, "red", t),
    "token_bars": lambda t: bars.token_bars([t, "b"], [0.1, 0.2, 0.3], t),
    "layer_bars": lambda t: bars.layer_bars([t, "b"], [1.0, 2.0], t, "label"),
    "stage_bars": lambda t: bars.stage_bars({t: {"down": 1.0, "up": 2.0}}, t, "unit"),
    "step_view": lambda t: runs.step_view(MAP[:4, None] * MAP[0], IMAGE, [0.1, 0.5], 0, t),
    "weight_matrix": lambda t: attention.weight_matrix(MAP, [t, "b"], 0, (4, 2)),
    "pixel_view": lambda t: attention.pixel_view(IMAGE, (1, 1), MAP, [t, "b"], [0.5, 0.5]),
    "maps_over": lambda t: heatmaps.maps_over(IMAGE, [MAP], [t]),
    "change_bars": lambda t: bars.change_bars({t: 0.5, "b": 0.1}, "red", title=t),
    "feature_grid": lambda t: features.feature_grid([MAP], [t], title=t),
    "pictures_row": lambda t: runs.pictures_row([IMAGE], [t], title=t),
    "walk_view": lambda t: features.walk_view({t: MAP}),
    "activation_curve": lambda t: features.activation_curve(MAP, np.abs, t),
}


def nbconverted(pipe, texts: list[str], config: dict, folder: Path) -> str:
    """A notebook whose outputs have these texts in them, as `nbconvert --to html` makes it."""
    from IPython.core.formatters import DisplayFormatter
    from ipywidgets.embed import embed_data
    from nbconvert import HTMLExporter

    run = pipe("".join(texts), steps=1)
    views = [ux.explore(run), ux.umap(run), view_of("live", pipe, None, "".join(texts))]
    shown = [
        *views,
        *(part for text in texts for part in (table(text, config, folder), told(text))),
    ]
    outputs = [nbformat.v4.new_output("stream", text="".join(texts)), errored("".join(texts))]
    for thing in shown:
        data, metadata = DisplayFormatter().format(thing)
        outputs.append(nbformat.v4.new_output("display_data", data, metadata=metadata))
    state = embed_data(views=views)["manager_state"]
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell("pass", outputs=outputs)],
        metadata={"widgets": {"application/vnd.jupyter.widget-state+json": state}},
    )
    html, _ = HTMLExporter().from_notebook_node(notebook)
    return html


def table(text: str, config: dict, folder: Path):
    config_in(f"{folder}/{text}", config)
    return ux.shape_table(f"{folder}/{text}", depth=1)


def told(text: str):
    """A verdict on an answer that raises an error with this text."""

    def answer(x):
        raise ValueError(text)

    return check(answer, nn.SiLU(), torch.ones(1))


def moved(text: str):
    """Controls whose drawing raised that error."""
    draw = FIGURES["pictures_row"]

    def drawn(n):
        if n == 2:
            raise ValueError(text)
        return draw("x")

    view = controls(drawn, n=[1, 2])
    view.choose(n=2)
    return view


def errored(text: str):
    return nbformat.v4.new_output("error", ename="ValueError", evalue=text, traceback=[text])


# Of each frame, what is in it and what of it is seen.
PAGES = {
    **{f"explorer, {kind}": ("explorer", text) for kind, text in SCRIPTS.items()},
    **{f"umap, {kind}": ("umap", SCRIPTS[kind]) for kind in ("script", "image", "template")},
    **{f"live, {kind}": ("live", "Start") for kind in ("script", "image")},
    "tables": ("tables", SCRIPTS["image"]),
    "nbconvert": ("nbconvert", SCRIPTS["image"]),
}


def opened(chromium, pipe, record: Path, config: dict, folder: Path):
    """The names of the frames in which a script ran, and the text of each without spaces."""
    pages = {
        name: _page(name, pipe, record, config, folder / str(i)) for i, name in enumerate(PAGES)
    }
    (folder / "canary.html").write_text(f"<body>{SCRIPTS['image']}")
    pages["the canary"] = folder / "canary.html"
    frames = "".join(
        f"<iframe name='{name}' src='{path}'></iframe>" for name, path in pages.items()
    )
    index = folder / "index.html"
    index.write_text(f"<meta charset=utf-8><script>{HEAR}</script>{frames}")
    page = Browser(chromium).page
    page.set_default_timeout(120_000)
    page.goto(index.as_uri())
    shown = {}
    for name in PAGES:
        frame = page.frame(name=name)
        frame.wait_for_function(f"() => ({SEEN})().length > 3")
        shown[name] = re.sub(r"\s", "", frame.evaluate(SEEN))
    page.wait_for_timeout(500)
    return page.evaluate("ran"), shown


HEAR = """
window.ran = [];
addEventListener("message", ({ source }) => {
  const frames = [...document.querySelectorAll("iframe")];
  ran.push(frames.find((frame) => frame.contentWindow === source)?.name ?? "a frame in a frame");
});
"""
SEEN = '() => (document.querySelector("main#view") ?? document.body).textContent'


def _page(name: str, pipe, record: Path, config: dict, folder: Path) -> Path:
    view, _ = PAGES[name]
    folder.mkdir()
    path = folder / "page.html"
    if view == "nbconvert":
        path.write_text(nbconverted(pipe, [*SCRIPTS.values()], config, folder), encoding="utf-8")
    elif view == "tables":
        parts = [p for t in SCRIPTS.values() for p in (table(t, config, folder), told(t))]
        page = "".join(part._repr_html_() for part in parts)
        path.write_text(f"<meta charset=utf-8><body>{page}", encoding="utf-8")
    else:
        text = SCRIPTS[name.partition(", ")[2]]

        def named(text):
            return ux.Recording.load(named_record(record, folder / "record", text))

        view_of(view, pipe, named, text).to_html(path)
    return path


def cells(model: Path, text: str) -> list[str]:
    """Of a notebook that shows every view, a table and an error with that text."""
    return [
        "import torch, unet_explained as ux\n"
        "from unet_explained.lessons.check import check\n"
        f"pipe, text = ux.load({str(model)!r}, device='cpu'), {text!r}\n"
        "run = pipe(text, steps=1)\n"
        "ux.explore(run)",
        "ux.umap(run)",
        "view = ux.live(pipe, text, steps=1)\nview",
        "view.wait()\n"
        "unet = pipe.unet\n"
        "unet.conv_act = torch.nn.Sequential()\n"
        "name = text.replace('.', '')\n"
        "unet.conv_act.add_module(name, type(name, (torch.nn.SiLU,), {})())\n"
        "with ux.record(unet) as recording:\n"
        "    pipe(text, steps=1)\n"
        "recording.shapes",
        "def answer(x):\n    raise ValueError(text)\ncheck(answer, torch.nn.SiLU(), torch.ones(1))",
        "raise ValueError(text)",
    ]
