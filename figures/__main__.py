"""python -m figures [NAME ...]: make pictures of this folder again, all unless named.

Those of the bundled model's quality need the rows and pictures of its evaluation in EVALUATION:
python -m training.evaluate
"""

import sys
from functools import partial
from pathlib import Path

import unet_explained as ux
from unet_explained.__main__ import PROMPT

from . import bundled, views

HERE = Path(__file__).parent
EVALUATION = Path("runs/evaluation")


def heatmaps():
    """The README's picture of word maps: what each word lights up."""
    pipe = ux.load(device="cpu")
    with ux.record(pipe.unet) as recording:
        run = pipe(PROMPT)
    return ux.plot_heatmaps(run, recording)


def u():
    """Stable Diffusion 1.5 in one picture: every block, every skip, every shape."""
    from unet_explained.show.diagram import draw_u

    return draw_u("sd15")


def references() -> None:
    """What the tests compare the bundled model's pictures with."""
    for each in bundled.REFERENCE:
        bundled.reference(each).save(HERE.parent / "tests" / "reference" / f"{each}.png")


PICTURES = {
    "heatmaps": heatmaps,
    "u": u,
    "training": partial(bundled.training, HERE / "training"),
    "samples": partial(bundled.samples, EVALUATION),
    "failures": partial(bundled.failures, EVALUATION),
    "pointing": partial(bundled.pointing, EVALUATION),
}
SEVERAL = {
    "reference": references,
    "views": views.screenshots,
    "lab": views.lab,
    "page": views.page,
}


def main() -> None:
    names = sys.argv[1:] or [*PICTURES, *SEVERAL]
    if unknown := set(names) - {*PICTURES, *SEVERAL}:
        known = ", ".join([*PICTURES, *SEVERAL])
        raise SystemExit(f"no picture {', '.join(unknown)}; there are: {known}")
    for name in names:
        if name in SEVERAL:
            SEVERAL[name]()
        else:
            PICTURES[name]().savefig(HERE / f"{name}.png", dpi=100, bbox_inches="tight")
        print(f"made {name}")


if __name__ == "__main__":
    main()
