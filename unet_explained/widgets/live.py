"""A run that draws itself: preview, word maps and activity of each step, while it runs."""

import atexit
import warnings
from contextlib import ExitStack
from functools import partial
from threading import Event, Thread
from time import perf_counter
from typing import Any

from traitlets import Bytes, Dict, Float, Int, List, Unicode

from ..model.config import UNetConfig
from ..recording import Recording
from ..recording.listen import Stopped, stoppable
from ..recording.patterns import uncompiled
from ..run.denoise import Pipeline
from ..show.colours import look
from ..show.png import image_png
from .first_word import first_thing
from .live_frames import Frame, Observer, Seen, drawn, film_strip
from .live_others import OthersRun
from .live_own import OwnRun
from .live_pace import Pace
from .umap import UMap, umap
from .widget import Asked, View

LAST = 10.0  # seconds that runs may take to stop when Python ends
AGAIN = "not run yet: to run it anyway, press Start again, or call start() again"


def live(pipe: Any, prompt: str, *, steps: int | None = None, seed: int = 0, **options) -> "Live":
    """Starts a run in a thread of its own and returns a view of it, with Start and Stop.

    pipe: of ux.load(), or a diffusers pipeline with a UNet2DConditionModel that takes
    callback_on_step_end. steps None: the pipeline's own number, of a diffusers pipeline 20.
    options: as for pipe.denoise(), or for the diffusers pipeline's call (image=, height=,
    guidance_scale= ...); of several pictures the first is drawn. A frame is dropped where drawing
    it would cost the run more than a few per cent of its time, or where the page is behind.
    A prompt that names nothing of what a small model paints is answered with what it paints; it is
    run once Start is pressed, or view.start() called, again.
    view.wait() gives the Run, or what the pipeline returns; view.recording is its record, of a
    diffusers pipeline with every step's maps. Raises TypeError or ValueError, before any work, for
    what does not fit.
    """
    view = Live(pipe, steps, options)
    view.start(prompt, seed)
    return view


class Live(View):
    """What `live` returns. frames: what was shown of each step that was not dropped; layers: the
    cross-attentions whose maps are drawn."""

    name, styles = "live", ("umap",)
    title = Unicode("A run that draws itself").tag(sync=True)
    prompt = Unicode().tag(sync=True)
    seed = Int().tag(sync=True)
    words = List(Unicode()).tag(sync=True)
    status = Unicode("ready").tag(sync=True)  # running, stopped, finished or failed
    note = Unicode().tag(sync=True)  # what a person should know: a warning, or what went wrong
    steps = Int().tag(sync=True)  # of the run
    guidance = Float(None, allow_none=True).tag(sync=True)  # of the run; None: it takes none
    first = Int().tag(sync=True)  # the index of the word that is shown first
    count = Int().tag(sync=True)  # frames kept so far
    picture = Bytes().tag(sync=True)  # PNG, once the run is finished
    drawing = Dict().tag(sync=True)  # the U, as umap draws it
    look = Dict().tag(sync=True)  # how a map is laid over the picture
    palette = Dict().tag(sync=True)  # the words that a small model was taught, by what they say

    def __init__(self, pipe: Any, steps: int | None, options: dict) -> None:
        self._runner = _runner_of(pipe)
        drawing, self.layers = drawn(UNetConfig.load(uncompiled(pipe.unet).config))
        known = self._runner is OwnRun and pipe.palette
        super().__init__(drawing=drawing, look=look(), palette=known.groups if known else {})
        self.pipe, self.options = pipe, self._runner.usual(pipe) | options
        self._steps = getattr(pipe, "steps", 20) if steps is None else steps
        self.frames: list[Frame] = []
        self.pace = Pace()
        self.result: Any = None  # the Run, or what the pipeline returned
        self._run: OwnRun | OthersRun | None = None
        self._mapped: tuple[Any, UMap | None] = None, None  # the last map, and of which result
        self._warned: list[str] = []
        self._error: BaseException | None = None
        self._doubted: str | None = None  # the prompt that was answered in the place of a run
        self._stop, self._ended, self._thread = Event(), Event(), Thread()

    @property
    def recording(self) -> Recording | None:
        """Of the run, as far as there is one: of a diffusers pipeline while it still goes on."""
        return self._run.recording if self._run else None

    def start(
        self, prompt: str, seed: int = 0, *, steps: int | None = None, guidance: float | None = None
    ) -> None:
        """Begins a run; one that is under way is stopped first. Errors as live().

        steps and guidance None: as live() was given them. What is answered in the place of a run
        is in `note`, and raised by wait().
        """
        self.stop()
        steps = self._steps if steps is None else steps
        options = self.options | ({} if guidance is None else {self._runner.guidance: guidance})
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            run = self._runner(self.pipe, prompt, steps=steps, seed=seed, **options)
        with self.hold_sync():
            self.prompt, self.seed, self.steps = prompt, seed, steps
            self.guidance = options.get(self._runner.guidance)
            if run.doubt and self._doubted != prompt:
                self._doubted, self._error = prompt, ValueError(f"{AGAIN}: {run.doubt}")
                self.note = str(self._error)
                return
            self._stop, self._ended = Event(), Event()
            self.frames, self.result, self._error = [], None, None
            self._run, self.pace = run, Pace()
            self._warned = list(dict.fromkeys(str(warning.message) for warning in warned))
            self.words, self.first, self.picture = run.words, first_thing(run.words), b""
            self.note, self.count, self.status = "; ".join(self._warned), 0, "running"
        self._thread = Thread(target=self._work, args=(run, self._stop, self._ended), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends a run between two modules of the network, and waits for that."""
        self._stop.set()
        self._until_ended()

    def _until_ended(self, seconds: float | None = None) -> None:
        """Not by joining the thread: of one that was interrupted Python believes that it ended."""
        if self._thread.is_alive():
            self._ended.wait(seconds)

    def wait(self) -> Any:
        """Waits for the end. Raises what went wrong, or RuntimeError for a run that was stopped."""
        self._until_ended()
        if self._error is not None:
            raise self._error
        if self.result is None:
            raise RuntimeError("the run was stopped before its end: press Start, or call start()")
        return self.result

    def _work(self, run: OwnRun | OthersRun, stop: Event, ended: Event) -> None:
        names = [box["name"] for box in self.drawing["boxes"]]
        _UNDER_WAY.add(self)
        try:
            with ExitStack() as stack:
                for part in run.parts:
                    stack.enter_context(stoppable(part, stop.is_set))
                with run.observer(names, self.layers) as observer:
                    result = run(partial(self._told, run, observer, perf_counter()))
                picture = run.picture(result)
            found = self.recording.first_nonfinite if self.recording else None
        except Stopped:
            self.status = "stopped"
        except Exception as error:  # of a thread nobody would see it
            self._error = error
            with self.hold_sync():
                self.status, self.note = "failed", f"{type(error).__name__}: {error}"
        else:
            self.result = result
            with self.hold_sync():
                self.picture = image_png(picture) if picture else b""
                self.note = "; ".join(filter(None, [self.note, str(found or "")]))
                self.status = "finished"
        finally:
            _UNDER_WAY.discard(self)
            ended.set()

    def _told(self, run: OwnRun | OthersRun, observer: Observer, began: float, step: Seen) -> None:
        """Draws the steps that it costs little to draw, the first and the last in any case."""
        start, last = perf_counter(), step.total - 1
        if observer.wanted:
            left = (start - began) / (step.index + 1) * (last - step.index)
            frame = observer.frame(step, left)
            self.words, self.first = run.words, first_thing(run.words)
            self.note = "; ".join([*self._warned, *run.notes])
            self._show(frame)
        self.pace.spent += observer.spent + perf_counter() - start
        observer.spent = 0.0
        observer.wanted = step.index + 1 == last or self.pace.allows(perf_counter() - began)

    def _show(self, frame: Frame) -> None:
        self.frames.append(frame)
        self.pace.sent, self.pace.sent_at = len(self.frames), perf_counter()
        self.send({"frame": frame.content | {"index": len(self.frames) - 1}}, frame.buffers)
        self.count = len(self.frames)

    def answer(self, asked: dict) -> tuple[dict, list[bytes]]:
        match asked:
            case {"start": {"prompt": prompt, "seed": seed} as more}:
                own = more.get("steps"), more.get("guidance")
                self.start(prompt, seed, steps=own[0], guidance=own[1])
            case {"stop": True}:
                self._stop.set()
            case {"shown": index}:
                self.pace.shown = index + 1
            case {"frame": index} if 0 <= index < len(self.frames):
                frame = self.frames[index]
                return frame.content | {"index": index}, frame.buffers
            case {"map": None}:
                return {"state": self._map.state_of_page()}, []
            case {"map": asked_of_map}:
                return self._map.answer(asked_of_map)
            case _:
                raise Asked("there is no such step yet")
        return {}, []

    def baked(self) -> list[dict]:
        frames = [{"frame": index} for index in range(len(self.frames))]
        sources = [{"map": asked} for asked in self._map.baked() if "source" in asked]
        return [*frames, {"map": None}, *sources]

    @property
    def _map(self) -> UMap:
        """The map of the U: of the run once it has ended, before that of the network alone."""
        of, made = self._mapped
        if made is None or of is not self.result:
            result = self.result
            made = umap(self.pipe) if result is None or not self._run else self._run.map(result)
            self._mapped = result, made
        return made

    def still(self) -> bytes:
        return film_strip(self.frames, self.words, self.prompt)


_UNDER_WAY: set[Live] = set()


def _runner_of(pipe: Any) -> type[OwnRun] | type[OthersRun]:
    """What runs a pipeline; TypeError for one that cannot be followed."""
    if isinstance(pipe, Pipeline):
        return OwnRun
    if lacks := OthersRun.lacks(pipe):
        raise TypeError(
            "pipe: expected a pipeline of this package, ux.load(), or one of diffusers with a "
            f"UNet2DConditionModel that can be followed; this {type(pipe).__name__} {lacks}. Of a "
            "finished run, ux.explore(run) shows the maps"
        )
    return OthersRun


@atexit.register
def _end_all() -> None:
    """Python ends threads as it ends itself, and torch's code in one would abort the process."""
    views = list(_UNDER_WAY)
    for view in views:
        view._stop.set()
    for view in views:
        view._until_ended(LAST)
