"""The command line: a tour, shape tables, heatmaps, JupyterLab on the notebooks."""

import argparse
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from .commands.lab import lab
from .commands.page import page
from .commands.pictures import heatmap, tour
from .commands.shapes import shapes
from .plain import plain, say
from .streams import forgiving_streams
from .version import __version__
from .words import brief, closest

PROMPT = "a red house left of a green tree and a yellow butterfly on top"
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
        options.parser.error(f"unrecognized arguments: {' '.join(others)}")
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
    tour_parser.set_defaults(command=tour, parser=tour_parser)

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
    shapes_parser.set_defaults(command=shapes, parser=shapes_parser)

    heat = commands.add_parser("heatmap", help=COMMANDS["heatmap"])
    heat.add_argument("prompt")
    _add_run_options(heat, "heatmap.png", _file)
    heat.set_defaults(command=heatmap, parser=heat)

    page_parser = commands.add_parser("page", help=COMMANDS["page"])
    page_parser.add_argument("path", help="NAME.html, or the folder to write into")
    page_parser.set_defaults(command=page, parser=page_parser)

    lab_parser = commands.add_parser("lab", help=COMMANDS["lab"])
    lab_parser.set_defaults(command=lab, parser=lab_parser)
    return parser


def _add_run_options(parser: argparse.ArgumentParser, out: str, place: Callable = Path) -> None:
    add = parser.add_argument
    add("--model", help="folder, hub id or .safetensors file (default: the bundled model)")
    add("--negative", default="", metavar="TEXT", help="negative prompt")
    add("--steps", type=int, help="denoising steps (default: the model's own, often 20)")
    add("--guidance", type=float, help="guidance scale (default: the model's own)")
    add("--seed", type=int, default=0, help="of the start noise (default: %(default)s)")
    add("--anyway", action="store_true", help="run a prompt that names nothing the model paints")
    add("--device", help="cpu, cuda, cuda:1, ... (default: cuda where there is one)")
    add("--dtype", help="float32, bfloat16 or, on CUDA, float16")
    add("--out", type=place, default=Path(out), help="where to write (default: %(default)s)")


def _file(text: str) -> Path:
    if text.endswith(("/", os.sep)):
        said = f"expected the name of a picture, got the folder {text!r}: as {text}heatmap.png"
        raise argparse.ArgumentTypeError(said)
    return Path(text)


def _say_warning(message, category, filename, lineno, file=None, line=None) -> None:
    say(f"warning: {message}", sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
