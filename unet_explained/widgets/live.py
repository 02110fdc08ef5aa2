"""A run that draws itself: preview, word maps and activity of each step, while it runs."""

import ctypes
import warnings
from dataclasses import dataclass
from functools import lru_cache
from threading import Event, Thread
from time import perf_counter

import torch
from traitlets import Bytes, Dict, Int, List, Unicode

from ..model.config import UNetConfig
from ..recording.listen import Stopped, stoppable
from ..recording.shapes import shape_table
from ..run.denoise import Pipeline, Run
from ..run.text import read_prompt
from ..show.png import image_png
from .live_frames import Frame, Observer, film_strip
from .umap_layout import drawing_of
from .widget import Asked, View

BEHIND = 3  # frames that the page may not have shown yet: while there are more, none is made
SHARE = 0.025  # of the time since the run's beginning that the view may have cost
PATIENCE = 1.0  # seconds after which a page that says nothing is taken for gone


def live(pipe: Pipeline, prompt: str, *, steps: int = 20, seed: int = 0, **options) -> "Live":
    """Starts a run in a thread of its own and returns a view of it, with Start and Stop.

    options: as for pipe.denoise(). A frame is dropped where drawing it would cost the run more than
    a few per cent of its time, or where the page is behind. view.wait() gives the Run. Raises
    TypeError or ValueError, before any work, for what does not fit.
    """
    if not isinstance(pipe, Pipeline):
        raise TypeError(
            f"pipe: expected a pipeline (ux.load()), got {type(pipe).__name__}; "
            "of a finished run, ux.explore(run) shows the maps"
        )
    view = Live(pipe, steps, options)
    view.start(prompt, seed)
    return view


@dataclass
class Pace:
    """Whether a frame may be drawn: so far they cost the run little, and the page keeps up."""

    spent: float = 0.0  # seconds of the run that the view has cost
    sent: int = 0  # frames
    sent_at: float = 0.0  # the last of them
    shown: int | None = None  # frames; None while no page says so

    def allows(self, elapsed: float) -> bool:
        """elapsed: seconds since the run's beginning."""
        behind = self.shown is not None and self.sent - self.shown >= BEHIND
        gone = perf_counter() - self.sent_at > PATIENCE
        return self.spent < SHARE * elapsed and (gone or not behind)


class Live(View):
    """What `live` returns. frames: what was shown of each step that was not dropped."""

    name = "live"
    title = Unicode("A run that draws itself").tag(sync=True)
    prompt = Unicode().tag(sync=True)
    seed = Int().tag(sync=True)
    words = List(Unicode()).tag(sync=True)
    status = Unicode("ready").tag(sync=True)  # running, stopped, finished or failed
    note = Unicode().tag(sync=True)  # what a person should know: a warning, or what went wrong
    total = Int().tag(sync=True)
    count = Int().tag(sync=True)  # frames kept so far
    picture = Bytes().tag(sync=True)  # PNG, once the run is finished
    drawing = Dict().tag(sync=True)  # the U, as umap draws it

    def __init__(self, pipe: Pipeline, steps: int, options: dict) -> None:
        super().__init__(drawing=_drawing(pipe.unet.config), total=steps)
        self.pipe, self.steps, self.options = pipe, steps, options
        self.frames: list[Frame] = []
        self.run: Run | None = None
        self.pace = Pace()
        self._error: BaseException | None = None
        self._stop, self._thread = Event(), Thread()

    def start(self, prompt: str, seed: int = 0) -> None:
        """Begins a run; one that is under way is stopped first. Errors as pipe.denoise()."""
        self.stop()
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            options = dict(steps=self.steps, seed=seed, **self.options)
            steps = self.pipe.denoise(prompt, **options)
            words = read_prompt(prompt, self.pipe.tokenizer).words
        self._stop, self.frames, self.run, self._error = Event(), [], None, None
        self.pace = Pace()
        note = "; ".join(dict.fromkeys(str(warning.message) for warning in warned))
        with self.hold_sync():
            self.prompt, self.seed, self.words, self.picture = prompt, seed, list(words), b""
            self.note, self.count, self.status = note, 0, "running"
        self._thread = Thread(target=self._work, args=(steps, self._stop), daemon=True)
        end_idle_workers()
        self._thread.start()

    def stop(self) -> None:
        """Ends a run between two modules of the network, and waits for that."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def wait(self) -> Run:
        """Waits for the end. Raises what went wrong, or RuntimeError for a run that was stopped."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        if self.run is None:
            raise RuntimeError("the run was stopped before its end: press Start, or call start()")
        return self.run

    def _work(self, steps, stop: Event) -> None:
        try:
            with stoppable(self.pipe.unet, stop.is_set), stoppable(self.pipe.vae, stop.is_set):
                run = self._denoise(steps)
                picture = image_png(run.image)
        except Stopped:
            self.status = "stopped"
        except Exception as error:  # of a thread nobody would see it
            self._error = error
            with self.hold_sync():
                self.status, self.note = "failed", f"{type(error).__name__}: {error}"
        else:
            self.run = run
            with self.hold_sync():
                self.picture, self.status = picture, "finished"

    def _denoise(self, steps) -> Run:
        """Draws the steps that it costs little to draw, the first and the last in any case."""
        words = read_prompt(self.prompt, self.pipe.tokenizer).spans
        names = [box["name"] for box in self.drawing["boxes"]]
        began, index, last = perf_counter(), 0, -1
        with Observer(self.pipe.unet, names, words) as observer:
            while True:
                ends = index in (0, last)
                observer.wanted = ends or self.pace.allows(perf_counter() - began)
                try:
                    step = next(steps)
                except StopIteration as end:
                    return end.value
                start, last = perf_counter(), step.total - 1
                if observer.wanted:
                    left = (start - began) / (index + 1) * (last - index)
                    self._show(observer.frame(step, left))
                self.pace.spent += observer.spent + perf_counter() - start
                observer.spent, index = 0.0, index + 1

    def _show(self, frame: Frame) -> None:
        self.frames.append(frame)
        self.pace.sent, self.pace.sent_at = len(self.frames), perf_counter()
        self.send({"frame": frame.content | {"index": len(self.frames) - 1}}, frame.buffers)
        self.total, self.count = frame.content["total"], len(self.frames)

    def answer(self, asked: dict) -> tuple[dict, list[bytes]]:
        match asked:
            case {"start": {"prompt": prompt, "seed": seed}}:
                self.start(prompt, seed)
            case {"stop": True}:
                self._stop.set()
            case {"shown": index}:
                self.pace.shown = index + 1
            case {"frame": index} if index < len(self.frames):
                frame = self.frames[index]
                return frame.content | {"index": index}, frame.buffers
            case _:
                raise Asked("there is no such step yet")
        return {}, []

    def baked(self) -> list[dict]:
        return [{"frame": index} for index in range(len(self.frames))]

    def still(self) -> bytes:
        return film_strip(self.frames, self.words, self.prompt)


@lru_cache(maxsize=8)  # most pipelines are run more than once
def _drawing(config: UNetConfig) -> dict:
    return drawing_of(shape_table(config))


def end_idle_workers() -> None:
    """Ends the OpenMP threads that wait for this thread; its next operation makes them anew.

    While they exist, GNU OpenMP counts more threads than cores and lets those of the run, too, fall
    asleep after every operation: a third more time for a forward on two cores.
    """
    soft = 1  # omp_pause_soft of OpenMP 5.0
    pause = getattr(ctypes.CDLL(torch._C.__file__), "omp_pause_resource_all", None)
    if pause is not None:  # other builds of torch bring other OpenMPs, or none
        pause(soft)
