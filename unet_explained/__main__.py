"""The command line: a tour, shape tables, heatmaps, JupyterLab on the notebooks."""

import argparse
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

from .extras import need
from .page.command import page
from .plain import plain, plain_lines
from .streams import forgiving_streams
from .version import __version__
from .words import brief, closest
from .writing import try_file, try_folder, write_file, written_folder

PROMPT = "a red house left of a green tree and a yellow butterfly on top"
PACKAGE = Path(__file__).parent
PICTURE = 2**15  # bytes that a picture with its maps has at least
# OpenMP's threads, and those of `lab`'s kernels, sleep while they wait: they would burn a core that
# another process needs, and a step then take four times as long (python -m benchmarks busy). OpenMP
# reads this once, as torch is loaded.
WAITING = "OMP_WAIT_POLICY", "PASSIVE"
COMMANDS = {
    "tour": "a picture, its word maps and its shapes, into ./unet-tour/ (what runs by default)",
    "shapes": "every shape of a network, without weights",
    "heatmap": "which pixels look at which word of a prompt",
    "page": "the bundled model running in a page: live.html, or a folder for a static host",
    "lab": "JupyterLab on the notebooks; its own options are passed on to it",
}

EPILOG = """\
examples
  python -m unet_explained                         the tour
  python -m unet_explained --steps 10 --seed 3     the tour, with its options
  python -m unet_explained shapes sd15 --depth 2   Stable Diffusion 1.5's shapes
  python -m unet_explained shapes sdxl --stage mid
  python -m unet_explained shapes stabilityai/stable-diffusion-xl-base-1.0
  python -m unet_explained heatmap "a blue fish left of an orange house"
  python -m unet_explained heatmap "a cat on a mat" --model path/or/hub-id
  python -m unet_explained page live.html          the model in one file, for any browser
  python -m unet_explained lab                     step through it in JupyterLab
  python -m unet_explained lab --no-browser --port 8890
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status, 2 for input that does not fit."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] not in (*COMMANDS, "-h", "--help", "--version"):
        arguments = ["tour", *arguments]
    parser = _parser()
    if arguments[0] == "tour" and arguments[1:] and not arguments[1].startswith("-"):
        near = closest(arguments[1], COMMANDS)
        parser.error(f"no command {brief(arguments[1])}{near}")
    options, others = parser.parse_known_args(arguments)
    if others and options.command is not lab:
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    options.others = others
    os.environ.setdefault(*WAITING)
    with forgiving_streams():
        return _run(options)


def _run(options: argparse.Namespace) -> int:
    """The command; what goes wrong is said in a line."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _say_warning
            status = options.command(options) or 0
        sys.stdout.flush()  # here it can be said that it cannot be written
        return status
    except (ValueError, TypeError, LookupError, OSError, ImportError, MemoryError) as error:
        words = str(error)
        if type(error) is MemoryError and not error.__cause__:  # nobody has said what to do
            words = f"out of memory ({words}): try --dtype bfloat16, or a smaller model"
        said, *code = words.split("\n    ")  # one line, and below it what is to be typed
        said = f"unet_explained: {' '.join(said.split())}"
        say("\n    ".join([said, *code]), sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130


def say(text: str, file=None) -> None:
    """Prints what may hold text from anywhere: none of it steers the terminal."""
    print(plain_lines(text), file=file, flush=True)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        super().error(plain(message))


def _parser() -> argparse.ArgumentParser:
    shape = argparse.RawDescriptionHelpFormatter
    parser = _Parser(
        "python -m unet_explained", description=__doc__, epilog=EPILOG, formatter_class=shape
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    tour_parser = commands.add_parser("tour", help=COMMANDS["tour"])
    tour_parser.add_argument("--prompt", default=PROMPT, help="default: %(default)s")
    _add_run_options(tour_parser, "unet-tour")
    tour_parser.set_defaults(command=tour)

    shapes_parser = commands.add_parser("shapes", help=COMMANDS["shapes"])
    shapes_parser.add_argument(
        "what",
        help="a preset (sd15, sd21, sdxl, bundled, ...), a config.json or its folder, "
        "a .safetensors file, or a hub id",
    )
    for name, text in (
        ("batch", "samples in a batch (2: classifier-free guidance)"),
        ("height", "of the latents: pixels / 8"),
        ("width", "of the latents"),
        ("tokens", "of the prompt"),
        ("depth", "how deep to look into modules"),
    ):
        shapes_parser.add_argument(f"--{name}", type=int, help=text)
    shapes_parser.add_argument("--stage", help="time, pre-process, down, mid, up or post-process")
    shapes_parser.add_argument("--csv", metavar="FILE", help="write a CSV file instead")
    shapes_parser.set_defaults(command=shapes)

    heat = commands.add_parser("heatmap", help=COMMANDS["heatmap"])
    heat.add_argument("prompt")
    _add_run_options(heat, "heatmap.png")
    heat.set_defaults(command=heatmap)

    page_parser = commands.add_parser("page", help=COMMANDS["page"])
    page_parser.add_argument("path", help="NAME.html, or the folder to write into")
    page_parser.set_defaults(command=lambda options: page(options.path, say))

    lab_parser = commands.add_parser("lab", help=COMMANDS["lab"])
    lab_parser.set_defaults(command=lab)
    return parser


def _add_run_options(parser: argparse.ArgumentParser, out: str) -> None:
    add = parser.add_argument
    add("--model", help="folder, hub id or .safetensors file (default: the bundled model)")
    add("--negative", default="", metavar="TEXT", help="negative prompt")
    add("--steps", type=int, help="denoising steps (default: the model's own, often 20)")
    add("--guidance", type=float, help="guidance scale (default: the model's own)")
    add("--seed", type=int, default=0, help="of the start noise (default: %(default)s)")
    add("--device", help="cpu, cuda, cuda:1, ... (default: cuda where there is one)")
    add("--dtype", help="float32, bfloat16 or, on CUDA, float16")
    add("--out", type=Path, default=Path(out), help="where to write (default: %(default)s)")


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
    from .recording.shapes import shape_table

    full = shape_table("sd15")
    print(shape_table("sd15", depth=1))
    with written_folder(options.out) as new:
        run.image.save(new / "picture.png")
        _save_heatmaps(run, recording, new / "heatmaps.png", "png")
        (new / "shapes-of-this-run.txt").write_text(f"{recording.shapes}\n", encoding="utf-8")
        (new / "shapes-sd15.txt").write_text(f"{full}\n", encoding="utf-8")
    say(f"\nWritten into {options.out}/")
    for name, what in written.items():
        print(f"  {name:24}{what}")
    print("\nNext:  python -m unet_explained lab            step through it in JupyterLab")
    print('       python -m unet_explained heatmap "..."  your own prompt')


def shapes(options) -> None:
    """The shape table of a preset, a config, a file of weights or a hub id, as text or CSV."""
    from .run.files import Search
    from .run.hub import find_config

    # What cannot be had, or written, is said before anything heavy loads.
    if options.csv:
        try_file(options.csv)
    find_config(options.what, Search())
    from .run.shapes import shape_table

    names = ("batch", "height", "width", "tokens", "depth", "stage")
    asked = {name: getattr(options, name) for name in names}
    table = shape_table(options.what, **{n: v for n, v in asked.items() if v is not None})
    if options.csv:
        write_file(options.csv, table.to_csv().encode())
        say(f"wrote {options.csv}")
    else:
        print(table)


def heatmap(options) -> None:
    """One picture file: the generated picture and a map for every word."""
    try_file(options.out, PICTURE)
    folder = _found(options)
    from .show.files import picture_format

    kind = picture_format(options.out)
    recording, run = _record(options, folder)
    _save_heatmaps(run, recording, options.out, kind)
    say(f"wrote {options.out}")


def lab(options) -> int:
    """JupyterLab on the notebooks: the clone's own, or a copy of the installed ones."""
    need("jupyterlab", "matplotlib", "ipywidgets", "anywidget")
    notebooks, installed = PACKAGE.parent / "notebooks", PACKAGE / "notebooks"
    if installed.is_dir():
        notebooks = Path("unet-notebooks")
        if not notebooks.exists():
            with written_folder(notebooks) as new:
                others = shutil.ignore_patterns("*.py", "__*")
                shutil.copytree(installed, new, ignore=others, dirs_exist_ok=True)
            print(f"copied the notebooks into ./{notebooks}")
    status = _serve([sys.executable, "-m", "jupyterlab", str(notebooks), *options.others])
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    if status and root and "--allow-root" not in options.others:
        typed = " ".join(["lab", *options.others, "--allow-root"])
        print(f"unet_explained: as root, type: python -m unet_explained {typed}", file=sys.stderr)
    return status


def _serve(command: list[str]) -> int:
    """The server's status. In a terminal it hears Ctrl-C itself: it asks, and ends its kernels."""
    interrupted = False
    with subprocess.Popen(command) as server:
        while server.poll() is None:
            try:
                server.wait()
            except KeyboardInterrupt:
                interrupted = True
                if not (sys.stdin and sys.stdin.isatty()):
                    server.terminate()  # nobody could answer
    if interrupted:
        raise KeyboardInterrupt
    return server.returncode


def _found(options) -> Path:
    """The model's files, looked over; what is missing is found before anything heavy loads."""
    need("matplotlib", "ipywidgets")
    from .numbers import guidance_of, seed_of, steps_of
    from .run.files import Search
    from .run.hub import find_pipeline
    from .run.weights import look_over

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
    from .recording import record
    from .recording.nonfinite import NonfiniteWarning
    from .run.checkpoints import load
    from .run.text import expect_words

    expect_words(options.prompt)
    pipe = load(folder, device=options.device, dtype=options.dtype)
    expect_words(options.prompt, pipe.tokenizer)  # some may be cut off
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
    from .show.plots import plot_heatmaps

    plot_heatmaps(run, recording).savefig(path, format=kind, dpi=130, bbox_inches="tight")


def _say_warning(message, category, filename, lineno, file=None, line=None) -> None:
    say(f"warning: {message}", sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
