"""A call of a diffusers pipeline, as a live view follows it."""

import copy
import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from ..numbers import guidance_of, seed_of, steps_of
from ..recording import Recording
from ..recording.budget import BudgetError
from ..recording.identity import ROLES
from ..recording.pairs import Size
from ..recording.patterns import uncompiled
from ..recording.recorded_run import RecordedRun
from ..recording.watch import Watch
from ..run.pictures import as_image
from ..run.preview import latent_rgb_of, preview, rough
from ..run.record import record
from ..words import closest
from .live_frames import (
    NO_MAPS,
    NO_NUMBERS,
    Look,
    Observer,
    Seen,
    average_by_word,
    maps_by_word,
    plain,
)
from .subject import Subject
from .subjects import pictures_of
from .umap import UMap, umap

TOLD = "callback_on_step_end"  # what a pipeline calls after each step
GUIDANCE = "guidance_scale"
NO_PICTURE = "no preview, as no VAE decodes these latents,"
OURS = {  # options of a diffusers pipeline's call that the view gives itself
    "prompt": "pass it after the pipeline",
    "num_inference_steps": "pass steps=",
    "generator": "pass seed=",
    TOLD: "leave it out",
    f"{TOLD}_tensor_inputs": "leave it out",
}


class OthersRun:
    """A call of a diffusers pipeline, under a recorder that keeps every map."""

    guidance = GUIDANCE  # the option's name
    doubt = ""  # of what such a model paints nothing is known

    @staticmethod
    def lacks(pipe: Any) -> str:
        """Why such a pipeline cannot be followed; "" if it can."""
        unet = getattr(pipe, "unet", None)
        kinds = [kind.__name__ for kind in type(getattr(unet, "_orig_mod", unet)).__mro__]
        if "UNet2DConditionModel" not in kinds or not hasattr(pipe, "components"):
            return "has no UNet2DConditionModel"
        if TOLD not in inspect.signature(pipe.__call__).parameters:
            return f"takes no {TOLD}: record it, `with ux.record(pipe) as rec`, and ux.explore(rec)"
        return ""

    @classmethod
    def usual(cls, pipe: Any) -> dict[str, float]:
        """The guidance of a call that names none; nothing where it takes none."""
        option = inspect.signature(pipe.__call__).parameters.get(cls.guidance)
        return {} if option is None or option.default is None else {cls.guidance: option.default}

    def __init__(self, pipe, prompt: str, *, steps: int, seed: int, **options) -> None:
        if not isinstance(prompt, str):
            raise TypeError(f"prompt: expected one string, got {type(prompt).__name__}")
        steps, seed = steps_of(steps), seed_of(seed)
        if options.get(GUIDANCE) is not None:
            guidance_of(options[GUIDANCE], GUIDANCE)
        takes = inspect.signature(pipe.__call__).parameters
        for name in options:
            if name in OURS:
                raise TypeError(f"{name}: the view gives it to the pipeline itself: {OURS[name]}")
            if name not in takes:
                kind = type(pipe).__name__
                raise TypeError(f"{name}: no option of a {kind}'s call{closest(name, takes)}")
        # Beside embeddings a pipeline takes no prompt.
        prompts = {"prompt": None if "prompt_embeds" in options and not prompt else prompt}
        self.call = prompts | {"num_inference_steps": steps} | options
        self.pipe, self.seed = _apart(pipe), seed
        self.parts = [part for part in pipe.components.values() if isinstance(part, nn.Module)]
        self.recording: Recording | None = None
        self.reading: Reading | None = None
        self.size: Size | None = None  # of the latents, where they are pixels
        self.words: list[str] = []  # known once there was a forward
        self.notes: list[str] = []

    def __call__(self, told: Callable[[Seen], None]) -> Any:
        """To its end; told: called after each step."""
        try:
            return self._run(told, "mean")
        except BudgetError:
            if self.run is not None:
                raise
            return self._run(told, "sum")  # foreseen in the first forward: not a step was told

    def _run(self, told: Callable[[Seen], None], attention: str) -> Any:
        generator = torch.Generator().manual_seed(self.seed)
        with (watch := record(self.pipe, attention=attention)) as self.recording:
            ended = partial(self._ended, told, watch)
            return self.pipe(**self.call, generator=generator, **{TOLD: ended})

    def _ended(self, told, watch: Watch, pipe, index: int, timestep, given: dict) -> dict:
        if self.run and self.run.origin:
            watch.of(self.run.origin)  # not of others, who may use the UNet meanwhile
        found = given.get("latents")
        latents = found if isinstance(found, Tensor) and found.ndim == 4 else None
        self.size = None if latents is None else (latents.shape[2], latents.shape[3])
        told(OthersStep(self, index, float(timestep), latents))
        return {}  # nothing is changed

    @property
    def run(self) -> RecordedRun | None:
        """What was recorded of the call itself."""
        runs = self.recording.runs if self.recording else []
        return next((run for run in runs if run.origin), None)

    @property
    def total(self) -> int:
        """How many steps there will be: with a picture to begin from, fewer than were asked for."""
        told = self.run.origin.forwards if self.run and self.run.origin else None
        return told or self.call["num_inference_steps"]

    def observer(self, names: list[str], layers: Sequence[str]) -> Observer:
        """layers: the cross-attentions whose maps are drawn."""
        self.reading = Reading(self, names, layers)
        return self.reading

    def map(self, result: Any) -> UMap:
        """The map of the U of its first picture."""
        recording, image = self.recording, self.picture(result)
        for number, run in enumerate(recording.runs if recording else ()):
            if recording and run is self.run:
                return UMap([Subject(recording, number, pictures_of(run)[0], lambda: image)])
        return umap(self.pipe)

    def picture(self, result: Any) -> Image.Image | None:
        """The first; None for latents."""
        images = result.images if hasattr(result, "images") else result[0]
        image = images[0]
        if isinstance(image, Tensor):
            image = image.movedim(0, -1).float().cpu()
        return as_image(image) if getattr(image, "shape", (3,))[-1] == 3 else None


class OthersStep:
    """A step of it. latents: after it; None if they are not pixels."""

    def __init__(self, run: OthersRun, index: int, timestep: float, latents: Tensor | None) -> None:
        self.index, self.total, self.timestep = index, run.total, timestep
        self.latents, self.vae, self.run = latents, getattr(run.pipe, "vae", None), run

    def beside(self) -> list[Look]:
        return self.run.reading.beside(self.vae) if self.run.reading else []

    def look(self) -> Look:
        seen = None if self.latents is None else preview(self.vae, self.latents)
        if seen is not None:
            return seen, "the picture so far, noise and all,"
        if self.latents is None:
            return plain((1, 1)), NO_PICTURE
        lost = not self.latents.isfinite().all()
        return plain(self.latents.shape[-2:]), NO_NUMBERS if lost else NO_PICTURE


class Reading(Observer):
    """Reads the words' maps from the record of a run."""

    def __init__(self, run: OthersRun, names: list[str], layers: Sequence[str]) -> None:
        super().__init__(uncompiled(run.pipe.unet), names)
        self.run, self.layers = run, layers
        self.given: Tensor | None = None  # to the network, in its last forward
        self.said: Tensor | None = None

    def hear(self, name: str, args: tuple, output) -> None:
        super().hear(name, args, output)
        if name == "conv_in":
            self.given = args[0]
        elif name == "conv_out":
            self.said = output

    def beside(self, vae: Any) -> list[Look]:
        """What the network was given and said, where its colours are known, of the row that has the
        prompt: guidance comes after it."""
        run, colours = self.run.run, latent_rgb_of(vae) if hasattr(vae, "config") else None
        if run is None or colours is None:
            return []
        step = run.steps[-1]
        try:
            row = step.kept[run.row(step, ROLES[0], pictures_of(run)[0])]
        except (IndexError, ValueError):  # nobody knows which
            return []
        seen = {"what it is given": self.given, "what it predicts for the prompt": self.said}
        found = {text: x[row : row + 1].float() for text, x in seen.items() if x is not None}
        fits = (x.shape[1] + 1 == len(colours) and x.isfinite().all() for x in found.values())
        return [(rough(x, colours), text) for (text, x), fit in zip(found.items(), fits) if fit]

    def maps(self) -> Tensor:
        """Of the first picture; and tells the run its words, and what there is to say of them."""
        recording, run = self.run.recording, self.run.run
        if recording is None or run is None:
            self.run.notes = ["no word maps: no forward was heard that is the call's own"]
            return NO_MAPS
        try:
            maps = self._maps(recording, run)
            failed = (f"no map of {why}" for why in recording.failed.values())
            self.run.notes = [*run.unknown, *failed]
        except (IndexError, ValueError) as error:  # a view does not end a run
            why = error if self.run.words else "; ".join(run.unknown) or error
            maps, self.run.notes = NO_MAPS, [f"no word maps: {why}"]
        if recording.options.attention == "sum":
            self.run.notes.append("too much to keep of every step: word maps are of all so far")
        return maps

    def _maps(self, recording: Recording, run: RecordedRun) -> Tensor:
        text = run.text("conditional", 0)
        self.run.words = list(text.words)
        if self.run.size not in (None, (run.counts["height"], run.counts["width"])):
            raise ValueError("each forward of the UNet sees a part of the picture")
        names = [n for n in self.layers if n in run.layers and n not in recording.failed]
        number, maps = None, []
        if recording.options.attention == "mean":  # else sums alone are kept
            number = max((n for n, step in enumerate(run.steps) if step.attention), default=0)
            names = [name for name in names if name in run.steps[number].attention]
        for name in names if text.spans else ():
            weights = next(run.weights(name, step=number, picture=0, text=text)).float()
            maps.append(maps_by_word(weights, text.spans, run.layers[name]))
        return average_by_word(maps)


def _apart(pipe: Any) -> Any:
    """The same parts under a scheduler and a state of its own: the pipeline stays as it is, and
    may be called meanwhile."""
    apart = copy.copy(pipe)
    apart.scheduler = copy.deepcopy(pipe.scheduler)
    apart.set_progress_bar_config(disable=True)  # the view has one
    return apart
