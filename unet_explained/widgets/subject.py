"""What a live view is of: one picture of one recorded run, whoever ran it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from ..recording import Recording, Text
from ..recording.budget import BudgetError, text
from ..recording.identity import ROLES
from ..recording.patterns import pick, uncompiled
from ..recording.recorded_run import RecordedRun
from ..run.denoise import Pipeline
from ..show.png import thumbnail

ROOM = 2 * 10**9  # bytes that a view may keep of one forward that it runs again
SIDE = 256  # pixels of what was foreseen, where it had to be decoded


class Subject:
    """rows: for each half, by step, the row of the batch that is the picture's; texts: its texts,
    of several in one run the first; read: the steps that were given this one.

    A half goes by its rows' role; where nobody said one, by the name that a record reads all by.
    replays: a record of the same forwards that can run them again, and the number of its run; unet:
    the model to run them on, if theirs is gone. foreseen: of a step the picture that the model
    foresaw, uint8 (height, width, 3); None where nobody kept it.
    """

    def __init__(
        self,
        recording: Recording,
        number: int,
        picture: int | None = None,
        image: Callable[[], Image.Image | None] = lambda: None,
        replays: tuple[Recording, int] | None = None,
        unet: Any = None,
        foreseen: Callable[[int], np.ndarray | None] | None = None,
    ) -> None:
        self.recording, self.number, self.picture = recording, number, picture
        self.foreseen = foreseen
        self.run: RecordedRun = recording.runs[number]
        self._image, self._replays = image, replays or (recording, number)
        self._unet = None if unet is None else uncompiled(unet)
        steps = [replace(s, kept=tuple(range(len(s.batch)))) for s in self.run.steps]
        self._whole = RecordedRun(
            replace(self.run.options, halves="both"), self.run.origin, tuple(steps)
        )
        roles = dict.fromkeys(row.role for step in steps for row in step.batch if row.role)
        first, *others = sorted(roles, key=lambda role: role != ROLES[0]) or ROLES[:1]
        self.told = bool(roles)  # whether anybody said which half is which
        self.rows = {first: self.rows_of(first)}
        for half in others:
            try:
                self.rows[half] = self.rows_of(half)
            except (IndexError, ValueError):  # there is nothing of this picture in it
                continue
        given = {
            half: {step: steps[step].batch[row].text for step, row in rows.items()}
            for half, rows in self.rows.items()
        }
        self.texts: dict[str, Text | None] = {
            half: next(filter(None, texts.values()), None) for half, texts in given.items()
        }
        self.read = {
            half: [step for step, text in texts.items() if text == self.texts[half]]
            for half, texts in given.items()
        }
        self.timesteps = [self._time(step) for step in range(len(steps))]

    @property
    def first(self) -> str:
        """The half that is looked at unless another is chosen: the prompt's, if there is one."""
        return next(iter(self.rows))

    @property
    def text(self) -> Text | None:
        """The prompt; None where nobody said it."""
        return self.texts[self.first]

    @property
    def image(self) -> Image.Image | None:
        """None if there is none."""
        return self._image()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the latents."""
        return self.run.counts["height"], self.run.counts["width"]

    @property
    def telling(self) -> int:
        """The step that is looked at first: there words point, and the picture is still made."""
        return 2 * (len(self.timesteps) - 1) // 3

    @property
    def unfinished(self) -> str:
        """What to say of a run that did not come to its end, else ""."""
        origin = self.run.origin
        if origin is None or origin.finished:
            return ""
        count, planned = len(self.timesteps), origin.forwards
        return f"unfinished: {count}{f' of {planned}' if planned else ''} steps"

    def half(self, name: str, step: int | None = None) -> str:
        """The half, if the picture is in it (at a step); errors as Recording.attention's."""
        if name not in self.rows:
            self.rows_of(name)
        if step is not None:
            self._whole.row(pick(self._whole.steps, step, "step"), name, self.picture)
        return name

    def keeps(self, half: str) -> bool:
        """Whether the picture's rows of a half are among those whose attention was kept."""
        return all(row in self.run.steps[step].kept for step, row in self.rows[half].items())

    def rows_of(self, half: str) -> dict[int, int]:
        """The picture's row at each step that has this half; errors as Recording.attention's."""
        numbers = {id(step): number for number, step in enumerate(self._whole.steps)}
        found = self._whole.having(self._whole.steps, half, self.picture)
        return {numbers[id(step)]: row for step, row in found}

    def _time(self, step: int) -> float:
        """The pictures of a batch may have different timesteps."""
        times = self._whole.steps[step].timestep.flatten().tolist()
        return times[self.rows[self.first].get(step, 0) if len(times) > 1 else 0]

    def why_no_replay(self, step: int) -> str:
        """Why a step cannot be run again; "" if it can."""
        recording, number = self._replays
        return recording.why_no_replay(step, run=number, unet=self._unet)

    def replayable(self, step: int) -> bool:
        return not self.why_no_replay(step)

    def replay(self, step: int, *patterns: str, **options: Any) -> Recording:
        """A step again, as Recording.replay. ValueError says in one sentence why it cannot be."""
        if why := self.why_no_replay(step):
            raise ValueError(f"This was not recorded and cannot be computed again: {why}.")
        recording, number = self._replays
        asked = dict(options) if number == 0 else {"run": number} | options
        options = options | {"budget": ROOM, "run": number, "unet": self._unet}
        try:
            return recording.replay(step, *patterns, **options)
        except BudgetError as error:
            told = [str(step), *map(repr, patterns), *(f"{k}={v!r}" for k, v in asked.items())]
            size = text(error.needed, up=True)
            raise ValueError(
                f"This takes {size}, more than a view keeps of one step: read it with "
                f'rec.replay({", ".join(told)}, budget="{size}").'
            ) from error


def foreseen(pipe: Pipeline, denoised: Tensor) -> np.ndarray | None:
    """What a step's clean latents look like: in rough colours, else decoded and small; None where
    they are not finite."""
    if not denoised.isfinite().all():
        return None
    rough = pipe.glimpse(denoised)
    return np.asarray(thumbnail(pipe.decode(denoised), SIDE)) if rough is None else rough
