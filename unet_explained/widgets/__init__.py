"""The live views: Python that answers, scripts that draw."""

from ..extras import need

need("anywidget")
