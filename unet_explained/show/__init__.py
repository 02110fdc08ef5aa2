"""Pictures: arrays in, Figure out; controls over a picture."""

from ..extras import need

need("matplotlib", "ipywidgets")
