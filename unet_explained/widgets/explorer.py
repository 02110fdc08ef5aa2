"""The word explorer: a picture, and over it the map of the word that is pointed at."""

import json
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from traitlets import Bytes, Dict

from ..recording.patterns import pick
from ..show.colours import look
from ..show.heatmaps import heatmap_grid
from ..show.png import image_png, thumbnail
from .explorer_page import choice, menus, packed
from .subject_maps import WordMaps
from .subjects import SubjectView, subjects_of
from .widget import Asked, View

SIDE = 1024  # pixels of the picture that is sent
STILL = 20  # tokens in the still picture where nobody said which are words
FILE = 4 * 10**6  # bytes of maps in an HTML file, where they take a third more
PICTURES = 8  # of several, in an HTML file


def explore(
    what: Any,
    recording: Any = None,
    *,
    image: Any = None,
    picture: int | None = None,
    run: int | None = None,
    unet: Any = None,
) -> "Explorer":
    """A live view of which pixels look at which word, at any layer, head, step and half.

    what: a Run, or a Recording of any pipeline, live or loaded; then image is the picture that it
    became, or a list of those of all its runs, one after the other. Of several the view has a menu;
    picture and run, as for Recording.attention, say which comes first. unet is the model to run it
    again on, if the one that was recorded is gone.
    A Run's map of one step lies on the picture that the model foresaw at that step; a record of
    another pipeline has the finished picture alone.
    recording: of the Run, `with ux.record(pipe.unet) as recording: run = pipe(...)`, for the means
    over all steps at once. What was not recorded is replayed when asked for, if it can be.
    TypeError for what is neither; ValueError or IndexError for what does not fit, or holds no map.
    """
    found = subjects_of(what, recording, image=image, picture=picture, run=run, unet=unet)
    if found is None:
        raise TypeError(
            "explore: expected a Run, which pipe(...) returns, or a Recording, got "
            f'{type(what).__name__}: write explore(pipe("a red circle"))'
        )
    return Explorer(*found)


class Explorer(SubjectView):
    """What `explore` returns. Where no kernel runs, a notebook shows the first view's maps.

    A file written by to_html() holds the first step's layers and heads, the mean of the layers at
    every step that was seen or recorded, and what was looked at, up to about 6 MB; of several
    pictures the first eight, and the one that is shown.
    """

    name = "explorer"
    holds = ("_subjects", "_subject", "_source")
    about = Dict().tag(sync=True)  # the words of each half, layers, timesteps, the first choice
    picture = Bytes().tag(sync=True)  # PNG
    first = Dict().tag(sync=True)  # the answer to the first choice, as answer() gives it
    maps = Bytes().tag(sync=True)  # and its bytes
    look = Dict().tag(sync=True)  # how a map is laid over the picture

    def turned(self, chosen: int) -> dict[str, Any]:
        subject = self._subjects[chosen]
        source, first = WordMaps(subject), choice(half=subject.first)
        # Of one step, the one that shows most, or the nearest that there is.
        best = subject.telling
        steps = [n for n in subject.read[subject.first] if source.can(None, n, subject.first)]
        shown = min(steps, key=lambda step: abs(step - best), default=best)
        if source.missing(None, None, subject.first):
            first["step"] = shown
            if not steps:
                raise ValueError(
                    "explore: no map was recorded, and none can be computed: "
                    f'{subject.why_no_replay(best)}; record(..., attention="mean") keeps maps'
                )
        # The first maps come first: what layers there are is known from a forward alone.
        content, data = packed(source.maps(*first.values()))
        told, image = subject.text, subject.image
        state = dict(
            title=f"Which pixels look at which {f'word: {told.text}' if told else 'token'}",
            about=menus(source, first),
            look=look(),
            picture=image_png(thumbnail(image, SIDE)) if image else b"",
            first=content,
            maps=data,
        )
        self._subject, self._source, self._first, self._shown = subject, source, first, shown
        self._asked_before: dict[str, None] = {}
        self.__dict__.pop("_still", None)
        return state

    def still(self) -> bytes:
        """A PNG of the first view: the picture, and a map for each word."""
        return self._still

    @cached_property
    def _still(self) -> bytes:
        subject, maps = self._subject, self._source.maps(*self._first.values()).numpy()
        columns = self._source.columns[subject.first]
        shown = [i for i, column in enumerate(columns) if column.kind == "word"]
        shown = shown or [*range(len(maps))][:STILL]
        figure = heatmap_grid(
            None if subject.image is None else np.asarray(subject.image),
            [columns[i].text for i in shown],
            [maps[i] for i in shown],
            title=subject.text.text if subject.text else "",
            same_scale=subject.text is not None,
        )
        return figure._repr_png_()

    def answer(self, asked: dict) -> tuple[dict, list[bytes]]:
        """{"maps": {layer, head, step, half}}: a map for each column of the half, quantised.

        {"maps": ...} of steps that are not there yet answers {"missing": [...]}; {"replay": step}
        makes one of them. {"self": {row, column, layer, step, half}}: where a latent pixel looks.
        {"picture": step}: as it was foreseen then. {"subject": n}: the view is of another one now.
        """
        answers: dict[str, Callable] = dict(
            maps=self._maps,
            replay=self._replay,
            self=self._self,
            picture=self._foreseen,
            subject=self.turn,
        )
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
        head, step = where["head"], where["step"]
        half = self._subject.half(where["half"], step)
        missing = self._source.missing(head, step, half)
        if step is None and missing:
            return {"missing": missing}, []
        content, data = packed(self._source.maps(where["layer"], head, step, half))
        return content, [data]

    def _replay(self, step: int) -> tuple[dict, list[bytes]]:
        self._source.replay(step)
        return {"kept": step}, []

    def _foreseen(self, step: int) -> tuple[dict, list[bytes]]:
        seen = self._looks(pick(range(len(self._subject.timesteps)), step, "step"))
        if seen is None:
            raise Asked("the picture as it was at this step is not known")
        return {"size": list(seen.shape[:2])}, [seen.tobytes()]

    def _looks(self, step: int | None) -> np.ndarray | None:
        """The picture as it was foreseen at a step; None where nobody knows."""
        look = self._subject.foreseen
        return look(step) if look and step is not None else None

    def _self(self, where: dict) -> tuple[dict, list[bytes]]:
        height, width = self.about["latents"]
        row, column = where["row"], where["column"]
        if not (0 <= row < height and 0 <= column < width):
            raise Asked(f"pixel ({row}, {column}) is outside the latents' {height} x {width}")
        half = self._subject.half(where["half"], where["step"])
        place = row, column, where["layer"], where["step"], half
        found, step = self._source.self_map(*place, first=self._shown)
        content, data = packed(found[None])
        return content | {"step": step}, [data]

    def saved(self) -> dict:
        shown = range(min(len(self._subjects), PICTURES))
        others = {n: Explorer(self._subjects, n) for n in shown if n != self.subject}
        return super().saved() | {"others": {n: View.saved(one) for n, one in others.items()}}

    def baked(self) -> list[dict]:
        """What was looked at; then means of the layers with the pictures of their steps, then
        layers, then heads, while they fit."""
        questions, left = [], FILE // min(len(self._subjects), PICTURES)
        for text in dict.fromkeys([*self._asked_before, *map(json.dumps, self._worth_baking())]):
            asked = json.loads(text)
            size = self._size(asked)
            if size <= left:
                questions.append(asked)
                left -= size
        return questions

    def _worth_baking(self) -> list[dict]:
        source, step, half = self._source, self._first["step"], self._first["half"]
        worth = [
            {"maps": choice(step=which, half=each)}
            for each in self.about["texts"]
            for which in (None, *self._subject.read[each])
            if not source.missing(None, which, each)
        ]
        steps = dict.fromkeys(asked["maps"]["step"] for asked in worth)
        worth += [{"picture": at} for at in steps if self._looks(at) is not None]
        places = [*(mean["name"] for mean in self.about["means"]), *source.layers]
        worth += [{"maps": choice(layer, step=step, half=half)} for layer in places]
        if source.missing(0, step, half):
            return worth
        heads = ((one["name"], n) for one in self.about["layers"] for n in range(one["heads"]))
        return worth + [{"maps": choice(layer, head, step, half)} for layer, head in heads]

    def _size(self, asked: dict) -> int:
        """Of an answer, in bytes; of self-attention an upper bound."""
        if "picture" in asked:
            return sum(map(len, self._foreseen(asked["picture"])[1]))
        where = next(iter(asked.values()))
        height, width = self._source.layers.get(where["layer"], self.about["latents"])
        columns = len(self._source.columns[where["half"]]) if "maps" in asked else 1
        return columns * height * width
