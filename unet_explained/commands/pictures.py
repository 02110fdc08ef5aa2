"""The tour and `heatmap`: a run of a prompt, recorded and drawn."""

import warnings
from pathlib import Path

from ..extras import need
from ..plain import say
from ..writing import try_file, try_folder, written_folder

PICTURE = 2**15  # bytes that a picture with its maps has at least


def tour(options) -> None:
    """A picture, its word maps and two shape tables, written into a folder."""
    written = {
        "picture.png": "what the model made of the prompt",
        "heatmaps.png": "for every word, where the picture looked at it",
        "shapes-of-this-run.txt": "every tensor of that run, with its axes",
        "shapes-sd15.txt": "the same for full-size Stable Diffusion 1.5",
    }
    try_folder(options.out, tuple(written), PICTURE)
    folder = _found(options)
    recording, run = _record(options, folder)
    from ..recording.shapes import shape_table

    full = shape_table("sd15")
    print("\nStable Diffusion 1.5 at full size, block by block (no weights needed):\n")
    print(shape_table("sd15", depth=1))
    with written_folder(options.out) as new:
        run.image.save(new / "picture.png")
        _save_heatmaps(run, recording, new / "heatmaps.png", "png")
        (new / "shapes-of-this-run.txt").write_text(f"{recording.shapes}\n", encoding="utf-8")
        (new / "shapes-sd15.txt").write_text(f"{full}\n", encoding="utf-8")
    say(f"\nWritten into {options.out}/")
    for name, what in written.items():
        print(f"  {name:24}{what}")
    print("\nNext:  python -m unet_explained lab             step through it in JupyterLab")
    print('       python -m unet_explained heatmap "..."   your own prompt')
    print("       python -m unet_explained page live.html  the model alive in a page")
    say(f"\nFirst of all look at {options.out / 'heatmaps.png'}")


def heatmap(options) -> None:
    """One picture file: the generated picture and a map for every word."""
    try_file(options.out, PICTURE)
    folder = _found(options)
    from ..show.files import picture_format

    kind = picture_format(options.out)
    recording, run = _record(options, folder)
    _save_heatmaps(run, recording, options.out, kind)
    say(f"wrote {options.out}")


def _found(options) -> Path:
    """The model's files, looked over; what is missing is found before anything heavy loads."""
    need("matplotlib", "ipywidgets")
    from ..numbers import guidance_of, seed_of, steps_of
    from ..run.files import Search
    from ..run.hub import find_pipeline
    from ..run.weights import look_over

    for check, value in (
        (steps_of, options.steps), (guidance_of, options.guidance), (seed_of, options.seed)
    ):  # fmt: skip
        if value is not None:
            check(value)
    half = options.dtype in ("float16", "bfloat16")
    folder = find_pipeline(options.model, Search(half=half))
    look_over(folder, Search(half=half))
    return folder


def _record(options, folder: Path):
    """Load, run and record as asked."""
    say(f"loading {options.model or 'the bundled model'} ...")
    from ..recording import record
    from ..recording.nonfinite import NonfiniteWarning
    from ..run.checkpoints import load
    from ..run.text import expect_words

    expect_words(options.prompt)
    pipe = load(folder, device=options.device, dtype=options.dtype)
    words = expect_words(options.prompt, pipe.tokenizer)  # some may be cut off
    if pipe.palette and not options.anyway and (doubt := pipe.palette.doubt(words)):
        raise ValueError(f"prompt: {doubt}; name one, or add --anyway")
    steps = pipe.steps if options.steps is None else options.steps
    say(f"“{options.prompt}”, {steps} steps, seed {options.seed}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", NonfiniteWarning)
            with record(pipe.unet) as recording:
                run = pipe(
                    options.prompt, negative_prompt=options.negative, steps=steps,
                    guidance=options.guidance, seed=options.seed,
                )  # fmt: skip
            _ = run.image  # decoded before anything is written
    except NonfiniteWarning as said:
        raise ValueError(f"{said}; nothing was written") from said
    return recording, run


def _save_heatmaps(run, recording, path: Path, kind: str) -> None:
    from ..show.heatmaps import plot_heatmaps

    plot_heatmaps(run, recording).savefig(path, format=kind, dpi=130, bbox_inches="tight")
