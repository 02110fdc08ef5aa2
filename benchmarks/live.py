"""What a run pays for drawing itself."""

import unet_explained as ux

from .timing import interleaved, table

PROMPT = "a red circle left of a blue square"


def cost(device: str, rounds: int, steps: int = 20) -> str:
    """The same run by itself, and under `ux.live` with nobody looking, to the decoded picture."""
    pipe = ux.load(device=device)

    def watched():
        view = ux.live(pipe, PROMPT, steps=steps)
        view.wait()
        shown.append(len(view.frames))

    shown: list[int] = []
    times = interleaved(
        {"pipe(...).image": lambda: pipe(PROMPT, steps=steps).image, "ux.live(...)": watched},
        rounds,
    )
    alone, live = (timing.median for timing in times.values())
    rows = [*times.items(), ("more", f"{live / alone - 1:+.1%}; {min(shown)} or more frames shown")]
    title = f"A run that draws itself: the bundled model on {device}, {steps} steps"
    return table(title, rows, ("", "median (least to most)"))
