"""The map of the U: every module to point at, open and colour, for any configuration."""

import math
from pathlib import Path
from typing import Any

from traitlets import Dict, Enum, Int, List, TraitError, Unicode, validate

from ..model import UNetConfig
from ..recording.shapes import ShapeTable
from ..run.family import config_in
from ..run.files import Search
from ..run.hub import find_config
from ..run.shapes import shape_table
from ..show.diagram import draw_u
from ..show.geometry import geometry_of
from ..words import closest
from .subject import Subject
from .subject_maps import WordMaps
from .subjects import SubjectView, subjects_of
from .umap_modules import attentions_of, axes_of, hints_of, insides_of, modules_of
from .umap_pictures import (
    activity_of,
    answers_of,
    as_maps,
    feature_tiles,
    has_activity,
    output_of,
    place_tiles,
    through,
    word_tiles,
)
from .umap_source import source_of
from .widget import Asked

COLOURS = ("stage", "flops", "params", "activity")
COUNTS = ("batch", "height", "width", "tokens")
CHANNELS = 11  # feature maps at once: with the one of all channels they fill three rows of four


def umap(
    what: Any,
    *,
    image: Any = None,
    picture: int | None = None,
    run: int | None = None,
    unet: Any = None,
    **counts: int,
) -> "UMap":
    """A map of the U to point at, open and colour; of a run, with its activity, features and maps.

    what: a Run, a Recording (image, picture, run, unet as for explore; of several pictures the view
    has a menu), a pipeline, a UNet, or what shape_table takes: a preset's name, a config, a
    .safetensors file, a hub id.
    counts: batch, height and width of the latents, tokens; a run has its own.
    The view's `selected` is the name of the module that is open, "" for none; `colour` is one of
    stage, flops, params, activity; `step` is the forward of the run that is looked at.
    Raises TypeError and ValueError for what it cannot draw.
    """
    if unknown := set(counts) - set(COUNTS):
        raise TypeError(
            f"umap() takes {', '.join(COUNTS)} as counts, not {', '.join(sorted(unknown))}"
        )
    chosen = dict(image=image, picture=picture, run=run, unet=unet)
    if found := subjects_of(what, **chosen):
        if counts:
            raise TypeError(f"a run has its own {', '.join(counts)}: leave them out")
        if found[0][0].recording.config is None:
            raise ValueError("this record does not know what its model was built from")
        return UMap(*found)
    if given := [f"{name}=" for name, value in chosen.items() if value is not None]:
        raise TypeError(f"only a Recording has a choice of {', '.join(given)}: leave it out")
    model = getattr(what, "unet", what)
    if not (isinstance(model, str | Path | dict | UNetConfig) or hasattr(model, "config")):
        kind = type(what).__name__
        raise TypeError(
            "expected a Run, a Recording, a pipeline, a UNet, a preset's name, a config, a hub "
            f"id, got {kind}: make a run with run = ux.load()(prompt)"
        )
    return UMap([], 0, *_traced(model, counts))


class UMap(SubjectView):
    """What `umap` returns: drawing and modules are its data, the other traits its state."""

    name = "umap"
    holds = ("_subjects", "_source")
    given = Unicode().tag(sync=True)
    drawing = Dict().tag(sync=True)
    modules = Dict().tag(sync=True)
    timesteps: List = List().tag(sync=True)  # of the run's forwards; empty without a run
    answers = Dict().tag(sync=True)  # what of the run can be had: answers_of
    selected = Unicode().tag(sync=True)
    colour = Enum(COLOURS, "stage").tag(sync=True)
    step = Int(0).tag(sync=True)

    def __init__(self, subjects: list[Subject], chosen: int = 0, *traced: Any) -> None:
        """traced: the table of shapes and the config of what has no run."""
        self._traced = traced
        super().__init__(subjects, chosen)

    def turned(self, chosen: int) -> dict[str, Any]:
        subject = self._subjects[chosen] if self._subjects else None
        if subject:
            self._traced = _traced(subject.recording, subject.run.counts)
        (table, config), self._source = self._traced, WordMaps(subject) if subject else None
        self._activity: dict[int, dict[str, float | None]] = {}
        self._seen: tuple = ((), None)  # the last features: whose, and the array
        self._png = b""
        modules = modules_of(table, config)
        about = dict(hints=hints_of(modules), insides=insides_of(config))
        about |= dict(totals=dict(params=table.total_params, flops=table.total_flops))
        state = dict(
            title=_title(subject) if subject else table.title,
            given=" · ".join(filter(None, [table.given, subject.unfinished if subject else ""])),
            drawing=geometry_of(table) | about,
            modules=modules,
            timesteps=subject.timesteps if subject else [],
            answers=answers_of(self._source) if self._source else {},
        )
        if subject:
            last = len(subject.timesteps) - 1
            state["step"] = min(self.step, last) if self.timesteps else subject.telling
        return state

    def still(self) -> bytes:
        """The U in one picture, as PNG."""
        self._png = self._png or draw_u(self._traced[0])._repr_png_()
        return self._png

    def baked(self) -> list[dict]:
        """The source of every class; a run's activity at every step, and the forward of one."""
        sources = [{"source": kind} for kind in self.drawing["hints"]]
        subject = self._source and self._source.subject
        steps = [n for n in range(len(self.timesteps)) if subject and has_activity(subject, n)]
        shown = [{"through": self.step}] if self.answers.get("through") else []
        return sources + [{"activity": step} for step in steps] + shown

    def answer(self, asked: dict) -> tuple[dict, list[bytes]]:
        """{"source": class}, {"activity": step}, {"features" or "attention": module, "step": n},
        {"through": step}: of each module that is drawn a picture of what it gave; {"subject": n}:
        the view is of another one now."""
        try:
            return self._answer(asked)
        except (IndexError, ValueError) as error:
            raise Asked(str(error)) from error

    def _answer(self, asked: dict) -> tuple[dict, list[bytes]]:
        match asked:
            case {"source": str(kind)} if kind in self.drawing["hints"]:
                return source_of(kind), []
            case {"subject": chosen}:
                return self.turn(chosen)
            case {"activity": step}:
                return self.activity(self._checked(step)), []
            case {"through": step}:
                return self._through(self._checked(step))
            case {"features": name, "step": step, "first": int(first)}:
                return self._features(self._module(name), self._checked(step), max(first, 0))
            case {"attention": name, "step": step}:
                return self._attention(self._module(name), self._checked(step))
        raise Asked(f"the map of the U has no answer to {asked}")

    def activity(self, step: int) -> dict[str, float | None]:
        """How active each module was at a step, the first time that it ran; None: not finite."""
        if step not in self._activity:
            self._activity[step] = {
                name: float(f"{value:.4g}") if math.isfinite(value) else None
                for name, value in activity_of(self._needed.subject, step).items()
                if name in self.modules
            }
        return self._activity[step]

    def _through(self, step: int) -> tuple[dict, list[bytes]]:
        shapes = {box["name"]: axes_of(self.modules, box["name"]) for box in self.drawing["boxes"]}
        names, files = through(self._needed.subject, step, shapes)
        return dict(names=names), files

    def _features(self, name: str, step: int, first: int) -> tuple[dict, list[bytes]]:
        axes, size = axes_of(self.modules, name)
        seen, features = self._seen
        if seen != (name, step):
            output = output_of(self._needed.subject, step, name)
            features = as_maps(output, axes, size)
            self._seen = (name, step), features
        texts, files = feature_tiles(features, first, CHANNELS)
        return dict(texts=texts, count=len(features), next=first + CHANNELS), files

    def _attention(self, name: str, step: int) -> tuple[dict, list[bytes]]:
        inside = attentions_of(self.modules, name)
        if not inside:
            raise Asked("There is no attention in it.")
        cross = [n for n in inside if self.modules[n]["cross"]]
        if not cross:
            texts, files = place_tiles(self._needed, step, inside[0])
            return dict(texts=texts, kind="self", layers=inside), files
        layer = cross[0] if len(cross) == 1 else f"{name}.*attn*"
        texts, files = word_tiles(self._needed, step, layer)
        kind = "cross" if self._needed.subject.text else "tokens"
        return dict(texts=texts, kind=kind, layers=cross), files

    def _module(self, name: str) -> str:
        if name not in self.modules:
            raise Asked(f"no module {name!r}{closest(str(name), self.modules)}")
        return name

    def _checked(self, step: int) -> int:
        last = len(self._needed.subject.timesteps) - 1
        if not (isinstance(step, int) and 0 <= step <= last):
            raise Asked(f"step {step}: this run has steps 0 to {last}")
        return step

    @property
    def _needed(self) -> WordMaps:
        if self._source is None:
            raise Asked("This needs a run: ux.umap(run).")
        return self._source

    @validate("selected")
    def _is_module(self, proposal: dict) -> str:
        name = proposal["value"]
        if name and name not in self.modules:
            raise TraitError(f"selected: no module {name!r}{closest(name, self.modules)}")
        return name

    @validate("colour")
    def _has_colour(self, proposal: dict) -> str:
        if proposal["value"] == "activity" and not self.answers.get("activity"):
            why = "was not recorded" if self._source else "needs a run: ux.umap(run)"
            raise TraitError(f"colour: activity {why}")
        return proposal["value"]

    @validate("step")
    def _is_step(self, proposal: dict) -> int:
        last = max(len(self.timesteps) - 1, 0)
        if not 0 <= proposal["value"] <= last:
            raise TraitError(f"step: expected 0 to {last}, got {proposal['value']}")
        return proposal["value"]


def _traced(what: Any, counts: dict[str, Any]) -> tuple[ShapeTable, UNetConfig]:
    """The table of shapes, and the config it was made from."""
    config = config_in(find_config(getattr(what, "config", what), Search()))
    return shape_table(what, **counts), UNetConfig.load(config)


def _title(subject: Subject) -> str:
    return f"“{subject.text.text}”" if subject.text else "a recorded run"
