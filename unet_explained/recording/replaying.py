"""A recorded forward again: what it was given, and what can be seen by running it once more."""

from typing import TYPE_CHECKING, Any

from .filing import Filing
from .given import lacking, whole
from .nested import copied
from .nonfinite import Nonfinite, first_nonfinite

if TYPE_CHECKING:
    from .recording import Recording

GONE = "the model that was recorded is gone"


class Replaying(Filing):
    """The questions to a recording that run its model again."""

    def replay(
        self, step: int, *patterns: str, run: int | None = None, unet=None, **options
    ) -> "Recording":
        """A recorded forward again, under a recorder; patterns and options as for record().

        unet: the model to run it on, if the one that was recorded is gone. Raises IndexError for a
        step that there is not, and ValueError where what it was given is not there any more.
        """
        from .watch import replayed

        one, model = self._step(step, run), unet if unet is not None else self._model()
        why = self.why_no_replay(step, run=run, unet=unet)
        if why or model is None:
            raise ValueError(why)
        return replayed(model, whole(one.given, step), one.batch, *patterns, **options)

    def given(self, step: int, *, run: int | None = None) -> dict[str, Any]:
        """What the UNet was given at a step, by the names of its forward's arguments; copies.

        A record keeps these tensors themselves, and notices what torch writes into them; what is
        written past torch, through numpy or .data, it cannot notice.
        Raises IndexError for a step that there is not, and ValueError where it is not there.
        """
        return copied(whole(self._step(step, run).given, step).by_name)

    def why_no_replay(self, step: int, *, run: int | None = None, unet=None) -> str:
        """Why replay() cannot be had of a step; "" if it can."""
        one, model = self._step(step, run), self._model()
        if unet is None and model is None:
            return f"{GONE}: pass unet="
        no_room = lacking(one.given, step)
        if no_room or unet is not None or model is None:
            return no_room
        return whole(one.given, step).no_more(model)

    @property
    def first_nonfinite(self) -> Nonfinite | None:
        """The first forward whose output has NaN or Inf in it, and the first module that made it.

        None where all is finite. The module is found by running that forward again; where it cannot
        run again, it is the first among what was recorded, and `replayed` is False. What was given
        to the UNet so, by a scheduler or a caller, is named as `given`.
        """
        return first_nonfinite(self)
