"""The word explorer: a run's picture, and over it the map of the word that is pointed at."""

import json
from collections.abc import Callable
from functools import cached_property

import numpy as np
from matplotlib import colormaps
from traitlets import Bytes, Dict

from ..recording import Recording
from ..run.denoise import Run
from ..show.colours import ATTENTION
from ..show.plots import heatmap_grid
from ..show.png import image_png, thumbnail
from .explorer_maps import HALVES, WordMaps
from .explorer_page import choice, menus, packed, texts_of
from .widget import Asked, View

SIDE = 1024  # pixels of the picture that is sent
FILE = 4 * 10**6  # bytes of maps in an HTML file, where they take a third more


def explore(run: Run, recording: Recording | None = None) -> "Explorer":
    """A live view of which pixels look at which word, at any layer, head, step and half of a run.

    recording: `with ux.record(pipe.unet) as recording: run = pipe(...)`, for the means over all
    steps at once. Without it the first view is of one step; others are replayed when asked for.
    TypeError for what is no run; ValueError for a recording that is not of this run.
    """
    if not isinstance(run, Run):
        raise TypeError(
            f"explore: expected a Run, which pipe(...) returns, got {type(run).__name__}: "
            'write explore(pipe("a red circle"))'
        )
    return Explorer(run, recording, 0 if recording is None else _number(run, recording))


class Explorer(View):
    """What `explore` returns. Where no kernel runs, a notebook shows the first view's maps.

    A file written by to_html() holds the first step's layers and heads, the mean of the layers at
    every step that was seen or recorded, and what was looked at, up to about 6 MB.
    """

    name = "explorer"
    parts = ("picture", "menus")
    about = Dict().tag(sync=True)  # the words of each half, layers, timesteps, the first choice
    picture = Bytes().tag(sync=True)  # PNG
    first = Dict().tag(sync=True)  # the answer to the first choice, as answer() gives it
    maps = Bytes().tag(sync=True)  # and its bytes
    colours = Bytes().tag(sync=True)  # red, green and blue of the 256 steps of the colour map

    def __init__(self, run: Run, recording: Recording | None = None, number: int = 0) -> None:
        self._run = run
        texts = texts_of(run)
        self._source = WordMaps(run, texts, recording, number)
        self._shown = 2 * (len(run.forwards) - 1) // 3  # of one step, the one that shows most
        self._asked_before: dict[str, None] = {}
        self._first = choice()
        if self._source.missing(None, None, HALVES[0]):
            self._first["step"] = self._shown
        # The first maps come first: what layers there are is known from a forward alone.
        first, data = packed(self._source.maps(*self._first.values()))
        super().__init__(
            title=f"Which pixels look at which word: {run.prompt.text}",
            about=menus(run, self._source, texts, self._first),
            picture=image_png(thumbnail(run.image, SIDE)),
            first=first,
            maps=data,
            colours=(colormaps[ATTENTION](np.arange(256), bytes=True)[:, :3]).tobytes(),
        )

    def still(self) -> bytes:
        """A PNG of the first view: the picture, and a map for each word."""
        return self._still

    @cached_property
    def _still(self) -> bytes:
        maps = self._source.maps(*self._first.values()).numpy()
        columns = self._source.columns[HALVES[0]]
        shown = [i for i, column in enumerate(columns) if column.kind == "word"] or [
            *range(len(maps))
        ]
        figure = heatmap_grid(
            np.asarray(self._run.image),
            [columns[i].text for i in shown],
            [maps[i] for i in shown],
            title=self._run.prompt.text,
        )
        return figure._repr_png_()

    def answer(self, asked: dict) -> tuple[dict, list[bytes]]:
        """{"maps": {layer, head, step, half}}: a map for each column of the half, quantised.

        {"maps": ...} of steps that are not there yet answers {"missing": [...]}; {"replay": step}
        makes one of them. {"self": {row, column, layer, step, half}}: where a latent pixel looks.
        """
        answers: dict[str, Callable] = dict(maps=self._maps, replay=self._replay, self=self._self)
        kind = next((kind for kind in answers if kind in asked), None)
        if kind is None:
            raise Asked(f"expected one of {', '.join(answers)}, got {', '.join(asked)}")
        try:
            content, data = answers[kind](asked[kind])
        except (IndexError, ValueError) as error:
            raise Asked(str(error)) from error
        if data:
            self._asked_before[json.dumps(asked)] = None
        return content, data

    def _maps(self, where: dict) -> tuple[dict, list[bytes]]:
        head, step, half = where["head"], where["step"], self._half(where)
        missing = self._source.missing(head, step, half)
        if step is None and missing:
            return {"missing": missing}, []
        content, data = packed(self._source.maps(where["layer"], head, step, half))
        return content, [data]

    def _replay(self, step: int) -> tuple[dict, list[bytes]]:
        self._source.replay(step)
        return {"kept": step}, []

    def _self(self, where: dict) -> tuple[dict, list[bytes]]:
        height, width = self.about["latents"]
        row, column = where["row"], where["column"]
        if not (0 <= row < height and 0 <= column < width):
            raise Asked(f"pixel ({row}, {column}) is outside the latents' {height} x {width}")
        place = row, column, where["layer"], where["step"], self._half(where)
        found, step = self._source.self_map(*place, first=self._shown)
        content, data = packed(found[None])
        return content | {"step": step}, [data]

    def _half(self, where: dict) -> str:
        if where["half"] not in self._source.columns:
            raise Asked(f"this run has no {where['half']} half: its guidance was off")
        return where["half"]

    def baked(self) -> list[dict]:
        """What was looked at; then means of the layers, then layers, then heads, while they fit."""
        questions, left = [], FILE
        for text in dict.fromkeys([*self._asked_before, *map(json.dumps, self._worth_baking())]):
            asked = json.loads(text)
            size = self._size(asked)
            if size <= left:
                questions.append(asked)
                left -= size
        return questions

    def _worth_baking(self) -> list[dict]:
        source, step = self._source, self._first["step"]
        steps = [None, *range(len(self._run.forwards))]
        worth = [
            {"maps": choice(step=which, half=half)}
            for half in source.columns
            for which in steps
            if not source.missing(None, which, half)
        ]
        places = [*(mean["name"] for mean in self.about["means"]), *source.layers]
        worth += [{"maps": choice(layer, step=step)} for layer in places]
        if source.missing(0, step, HALVES[0]):
            return worth
        heads = ((layer, head) for layer in source.layers for head in range(source.heads(layer)))
        return worth + [{"maps": choice(layer, head, step)} for layer, head in heads]

    def _size(self, asked: dict) -> int:
        """Of an answer, in bytes; of self-attention an upper bound."""
        where = next(iter(asked.values()))
        height, width = self._source.layers.get(where["layer"], self.about["latents"])
        columns = len(self._source.columns[where["half"]]) if "maps" in asked else 1
        return columns * height * width


def _number(run: Run, recording: Recording) -> int:
    """Which of the recorded runs is this one. TypeError and ValueError say what is wrong."""
    if not isinstance(recording, Recording):
        raise TypeError(
            f"explore: expected as recording what record() gives, got {type(recording).__name__}"
        )
    if not (recording.options.attention or recording.options.self_attention):
        raise ValueError("explore: this recording kept no attention: leave it out")
    origins = [recorded.origin for recorded in recording.runs]
    if run.identity.origin not in origins:
        trouble = "it holds no forward of this run"
    elif len(recording.runs[origins.index(run.identity.origin)].steps) != len(run.forwards):
        trouble = "it holds some of this run's steps only"
    else:
        return origins.index(run.identity.origin)
    raise ValueError(
        f"explore: {trouble}: record the whole of it, `with record(pipe.unet) as rec: run = "
        "pipe(...)`, or leave the recording out (steps are then replayed)"
    )
