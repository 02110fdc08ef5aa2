"""Which pictures of which runs a view can be of: of a Run, or of all that a Recording holds."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor
from traitlets import Int, List, Unicode

from ..json_file import finite
from ..recording import Recording
from ..recording.identity import ROLES
from ..recording.patterns import pick
from ..recording.recorded_run import RecordedRun
from ..run.denoise import Run
from ..run.pictures import as_image
from .subject import Subject, foreseen
from .widget import View

ONE = (str, Path, Image.Image, np.ndarray, Tensor)  # a list of these is several pictures
LABEL = 60  # characters of a text in a menu


class SubjectView(View):
    """A view of one of its subjects; of several its page has a menu."""

    subjects = List(Unicode()).tag(sync=True)  # what the menu calls them; none of one alone
    subject = Int().tag(sync=True)  # the index of the one that it is of

    def __init__(self, subjects: list[Subject], chosen: int = 0) -> None:
        self._subjects = subjects
        several = labels(subjects) if len(subjects) > 1 else []
        super().__init__(subjects=several, **self.turned(chosen), subject=chosen)

    def turned(self, chosen: int) -> dict[str, Any]:
        """The traits, once it is of another of its subjects."""
        raise NotImplementedError

    def turn(self, chosen: int) -> tuple[dict, list[bytes]]:
        """The answer to {"subject": chosen}."""
        state = self.turned(pick(range(len(self._subjects)), chosen, "subject"))
        with self.hold_sync():
            for name, value in finite(state | {"subject": chosen}).items():
                setattr(self, name, value)
        return {}, []


def subject_of(what: Any, recording: Any = None, **chosen: Any) -> Subject | None:
    """Of a Run, which a recording may know more of, or of a Recording; None for anything else.

    chosen: image, picture, run, unet, for a Recording. TypeError and ValueError for what does not
    fit.
    """
    if isinstance(what, Run):
        given = [f"{name}=" for name, value in chosen.items() if value is not None]
        if given:
            names = ", ".join(given)
            raise TypeError(f"a Run has its own picture and model: leave {names} out")

        def at(step: int) -> np.ndarray | None:
            return foreseen(what.pipeline, what.denoised[step])

        if recording is None:
            return Subject(what.recording, 0, image=lambda: what.image, foreseen=at)
        number = _number(what, recording)
        replays = what.recording, 0
        return Subject(recording, number, None, lambda: what.image, replays, foreseen=at)
    if not isinstance(what, Recording):
        return None
    if recording is not None:
        raise TypeError("expected one recording, got two: pass a Run first, or one recording alone")
    number = what.number(chosen["run"])
    image = None if chosen["image"] is None else as_image(chosen["image"])
    return Subject(what, number, chosen["picture"], lambda: image, unet=chosen["unet"])


def subjects_of(
    what: Any,
    recording: Any = None,
    *,
    image: Any = None,
    picture: int | None = None,
    run: int | None = None,
    unet: Any = None,
) -> tuple[list[Subject], int] | None:
    """All pictures of all runs of a Recording, and which of them is chosen; a Run is one.

    image: of the chosen one, or a list for all. Else as subject_of; the first is chosen unless
    picture or run say another.
    """
    if not isinstance(what, Recording) or recording is not None:
        one = subject_of(what, recording, image=image, picture=picture, run=run, unet=unet)
        return ([one], 0) if one else None
    number = what.number(0 if run is None and what.runs else run)
    chosen = number, pictures_of(what.runs[number])[0] if picture is None else picture
    Subject(what, *chosen)  # it is there
    places = [(n, each) for n, one in enumerate(what.runs) for each in pictures_of(one)]
    places += [chosen] if chosen not in places else []  # counted from the end
    if isinstance(image, list | tuple) and image and isinstance(image[0], ONE):
        if len(image) != len(places):
            expected = "one picture" if len(places) == 1 else f"{len(places)} pictures in a list"
            raise ValueError(f"image: expected {expected}, got a list of {len(image)}")
        images = dict(zip(places, map(as_image, image)))
    else:
        if image is not None and len(places) > 1 and (picture, run) == (None, None):
            raise ValueError(
                f"image: one picture, and {len(places)} were recorded: pass all in a list, or say "
                "by picture= or run= of which it is"
            )
        images = {} if image is None else {chosen: as_image(image)}
    subjects = [Subject(what, *p, partial(images.get, p), unet=unet) for p in places]
    return subjects, places.index(chosen)


def pictures_of(run: RecordedRun) -> list[int | None]:
    """The numbers of a run's pictures, as Subject takes them: None where there is only one."""
    batches = [[r for r in step.batch if r.role in (None, ROLES[0])] for step in run.steps]
    numbers = sorted({row.picture for rows in batches for row in rows if row.picture is not None})
    found: list[int | None] = [*numbers] or [*range(max(map(len, batches), default=0))]
    return found if len(found) > 1 else [None]


def labels(subjects: list[Subject]) -> list[str]:
    """What a person chooses them by: run, picture and text, as far as they differ."""
    runs = len({subject.number for subject in subjects}) > 1
    return [_label(one, runs) for one in subjects]


def _label(one: Subject, runs: bool) -> str:
    picture = "" if one.picture is None else f"picture {one.picture}"
    which = ", ".join(filter(None, [f"run {one.number}" if runs else "", picture]))
    return f"{which}: “{one.text.text[:LABEL]}”" if one.text else which


def _number(run: Run, recording: Any) -> int:
    """Which of the recorded runs is this one. TypeError and ValueError say what is wrong."""
    if not isinstance(recording, Recording):
        raise TypeError(
            f"expected as recording what record() gives, got {type(recording).__name__}"
        )
    if not (recording.options.attention or recording.options.self_attention):
        raise ValueError("this recording kept no attention: leave it out")
    origins = [recorded.origin for recorded in recording.runs]
    origin = run.recording.runs[0].origin
    if origin not in origins:
        trouble = "it holds no forward of this run"
    elif len(recording.runs[origins.index(origin)].steps) != len(run.timesteps):
        trouble = "it holds some of this run's steps only"
    else:
        return origins.index(origin)
    raise ValueError(
        f"{trouble}: record the whole of it, `with record(pipe.unet) as rec: run = pipe(...)`, or "
        "leave the recording out (steps are then replayed)"
    )
