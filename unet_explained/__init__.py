"""Stable Diffusion's UNet, opened: readable, recorded, explained.

Names are imported when first used, so that `import unet_explained` and the command line's --help
load nothing heavy.
"""

from importlib import import_module

from .version import __version__

_HOME = {
    "PRESETS": ".model",
    "UNet2DConditionModel": ".model",
    "UNetConfig": ".model",
    "attention_weights": ".model",
    "Recording": ".recording",
    "record": ".run.record",
    "ShapeTable": ".recording.shapes",
    "shape_table": ".run.shapes",
    "summary": ".run.shapes",
    "from_diffusers": ".run.convert",
    "to_diffusers": ".run.convert",
    "load": ".run.checkpoints",
    "maps_of": ".run.look",
    "Pipeline": ".run.denoise",
    "Run": ".run.steps",
    "Step": ".run.steps",
    "controls": ".show.controls",
    "explore": ".widgets.explorer",
    "live": ".widgets.live",
    "umap": ".widgets.umap",
    "plot_heatmaps": ".show.heatmaps",
    "check": ".lessons.check",
    "source": ".lessons.source",
    "intervene": ".recording.intervene",
}
__all__ = ["__version__", *_HOME]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name], __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
