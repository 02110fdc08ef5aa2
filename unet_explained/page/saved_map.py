"""What the map of the U on a page knows without an engine."""

from typing import Any

from ..recording import Recording
from ..run.denoise import Run
from ..show.colours import ATTENTION, SIGNED, table
from ..widgets.umap import COUNTS, UMap, umap
from ..widgets.umap_source import source_of


def saved_map(run: Run, recording: Recording, parts: list[str]) -> dict[str, Any]:
    """JSON; recording: of the run, with stats; parts: the modules whose activity a page knows.

    states: by the rows of a batch, which runs with guidance and those without differ in.
    """
    view = umap(recording, image=run.image)
    counts = recording.runs[0].counts
    alone = umap(run.pipeline, **{name: counts[name] for name in COUNTS} | {"batch": 1})
    return {
        "esm": view._esm,
        "states": {counts["batch"]: view.state_of_page(), 1: alone.state_of_page()},
        "sources": {kind: source_of(kind) for kind in view.drawing["hints"]},
        "activity": [_activity(view, step, parts) for step in range(len(view.timesteps))],
        "colours": {"signed": table(SIGNED), "attention": table(ATTENTION)},
    }


def _activity(view: UMap, step: int, parts: list[str]) -> dict[str, float | None]:
    active = view.activity(step)
    return {name: active[name] for name in parts}
