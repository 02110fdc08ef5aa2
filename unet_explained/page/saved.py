"""What a page shows before anything is loaded: a run, its steps, its words' maps."""

from base64 import b64encode
from typing import Any

from ..run.denoise import Pipeline, Run
from ..run.record import record
from ..show.png import image_png
from ..widgets.explorer import Explorer, explore
from ..widgets.first_word import first_thing
from ..widgets.live import Live
from ..widgets.live_frames import Frame, Seen
from ..widgets.live_own import OwnRun, OwnStep
from .saved_map import saved_map


class Pool:
    """Bytes that are unpacked together: each, once, known by where it starts, and its length."""

    def __init__(self) -> None:
        self._places: dict[bytes, list[int]] = {}
        self._size = 0

    def keep(self, data: bytes) -> list[int]:
        if data not in self._places:
            self._places[data] = [self._size, len(data)]
            self._size += len(data)
        return self._places[data]

    @property
    def content(self) -> bytes:
        return b"".join(self._places)


def saved_run(
    pipe: Pipeline, prompt: str, seed: int, steps: int | None = None
) -> tuple[dict, bytes]:
    """JSON for the page, and the pool of bytes that it speaks of.

    The views' states as they are once a run is finished, each step's frame, what the explorer is
    asked first, and the latents of each step, which run it again. steps None: the pipeline's own.
    """
    view, seen, frames = Live(pipe, None, {}), list[OwnStep](), list[Frame]()
    boxes = [box["name"] for box in view.drawing["boxes"]]
    with record(pipe.unet, attention="heads", halves="both", stats=True) as recording:
        own = OwnRun(pipe, prompt, seed=seed, steps=steps)
        with own.observer(boxes, view.layers) as observer:

            def told(step: Seen) -> None:
                seen.append(step)  # type: ignore[arg-type]  # an OwnRun's are its own
                frames.append(observer.frame(step, left=0.0))

            run = own(told)
    pool = Pool()
    explorer = explore(run, recording)
    return {
        "run": _about(run, seen, pool),
        "live": _live(view, run, own, frames),
        "frames": _frames(frames, pool),
        "explorer": _explorer(explorer, pool),
        "map": saved_map(run, recording, boxes),
    }, pool.content


def _about(run: Run, steps: list[OwnStep], pool: Pool) -> dict[str, Any]:
    samples = [step.step.sample.numpy().tobytes() for step in steps]
    return {
        "prompt": run.prompt.text, "seed": run.seed, "steps": len(steps),
        "guidance": run.guidance, "timesteps": [step.timestep for step in steps],
        "samples": [pool.keep(sample) for sample in samples],
    }  # fmt: skip


def _live(view: Live, run: Run, own: OwnRun, frames: list[Frame]) -> dict[str, Any]:
    view.prompt, view.seed, view.words, view.steps = (
        run.prompt.text,
        run.seed,
        own.words,
        len(frames),
    )
    view.guidance, view.first, view.count = run.guidance, first_thing(own.words), len(frames)
    view.picture, view.status = image_png(run.image), "finished"
    return {"esm": view._esm, "state": view.state_of_page()}


def _frames(frames: list[Frame], pool: Pool) -> list[dict[str, Any]]:
    """The last is there at first sight, before anything is unpacked."""
    places = [[pool.keep(buffer) for buffer in frame.buffers] for frame in frames[:-1]]
    last = [b64encode(buffer).decode() for buffer in frames[-1].buffers]
    return [
        {"content": frame.content | {"index": number}, "buffers": buffers}
        for number, (frame, buffers) in enumerate(zip(frames, [*places, last], strict=True))
    ]


def _explorer(view: Explorer, pool: Pool) -> dict[str, Any]:
    kept = []
    for asked in view.baked():
        content, buffers = view.answer(asked)
        kept.append([asked, content, [pool.keep(buffer) for buffer in buffers]])
    return {"esm": view._esm, "state": view.state_of_page(), "kept": kept}
