"""What is drawn of one step of a running denoising: observed between the modules, sent as bytes."""

from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from fnmatch import fnmatchcase
from time import perf_counter

import numpy as np
import torch
from torch import Tensor, nn

from ..recording import Word
from ..recording.heatmaps import average, head_mean, word_map
from ..recording.listen import listening
from ..recording.nested import activity
from ..run.denoise import Step
from ..show.plots import Picture, draw_map, entitle, grid
from ..show.png import figure_png, thumbnail

LAYERS = "up_blocks.*attn2.attend"  # the way up: where the bundled model's maps point best
SHARE = 4  # maps come from layers of at most one in four of the latents' pixels: they cost little
SIDE = 256  # of a preview that had to be decoded


@dataclass(frozen=True)
class Frame:
    """content: JSON; buffers: preview (height, width, 3), maps (word, height, width), activity.

    Bytes are uint8: of the maps 255 is content["top"], of the activity content["strongest"].
    """

    content: dict
    buffers: list[bytes]

    @property
    def preview(self) -> np.ndarray:
        return np.frombuffer(self.buffers[0], np.uint8).reshape(*self.content["preview"], 3)

    @property
    def maps(self) -> np.ndarray:
        """Attention weights of each word, float (word, height, width)."""
        levels = np.frombuffer(self.buffers[1], np.uint8).reshape(self.content["maps"])
        return levels / 255 * self.content["top"]


class Observer(AbstractContextManager):
    """Hears some modules of a UNet while `wanted`, and makes a Frame of what it heard."""

    def __init__(self, unet: nn.Module, names: list[str], words: tuple[Word, ...]) -> None:
        self.unet, self.words = unet, words
        layers = [name for name, _ in unet.named_modules() if fnmatchcase(name, LAYERS)]
        self.names = [*names, *layers]
        self.wanted, self.spent = False, 0.0
        self._parts: dict[str, Tensor] = {}
        self._maps: list[Tensor] = []
        self._stack = ExitStack()

    def __enter__(self) -> "Observer":
        self._stack.enter_context(listening(self.unet, self.names, self._hear))
        return self

    def __exit__(self, *error) -> None:
        self._stack.close()

    @torch.no_grad()
    def _hear(self, name: str, args: tuple, output) -> None:
        if not self.wanted:
            return
        start = perf_counter()
        if name == "conv_in":
            self._size = output.shape[-2:]
        if name.endswith("attend"):
            self._keep_maps(args)
        else:
            self._parts[name] = activity(output)
        self.spent += perf_counter() - start

    def _keep_maps(self, args: tuple) -> None:
        """The words' maps, of the half that has the prompt: the last of the batch."""
        (height, width), queries = self._size, args[0].shape[2]
        shrunk = round((height * width / queries) ** 0.5)
        if shrunk**2 < SHARE or (height % shrunk or width % shrunk) or not self.words:
            return
        q, k, *_ = args
        weights = head_mean(q[-1:], k[-1:])[0]
        size = height // shrunk, width // shrunk
        self._maps.append(torch.stack([word_map(weights, [w.tokens], size) for w in self.words]))

    def frame(self, step: Step, left: float) -> Frame:
        """left: seconds that the run will still take."""
        preview = step.glimpse()
        if preview is None:
            preview = np.asarray(thumbnail(step.preview(), SIDE))
        content = {
            "step": step.index,
            "total": step.total,
            "timestep": step.timestep,
            "left": left,
            "preview": list(preview.shape[:2]),
        }
        maps, top = _levels(self._word_maps())
        self._maps = []
        activity, strongest = _levels(torch.stack(list(self._parts.values())).cpu())
        content |= {"maps": list(maps.shape), "top": top}
        content |= {"modules": list(self._parts), "strongest": strongest}
        return Frame(content, [preview.tobytes(), maps.tobytes(), activity.tobytes()])

    def _word_maps(self) -> Tensor:
        if not self._maps:
            return torch.zeros(0, 1, 1)
        return torch.stack([average(layers) for layers in zip(*self._maps)]).cpu()


def _levels(values: Tensor) -> tuple[np.ndarray, float]:
    """As uint8 of the largest, and the largest. What is not finite counts as nothing."""
    values = values.float().nan_to_num(0, 0, 0)
    top = values.max().item() if values.numel() else 0.0
    return (values / (top or 1) * 255).round().to(torch.uint8).numpy(), top


def film_strip(frames: list[Frame], words: list[str], title: str) -> bytes:
    """Previews of up to six steps in a row, and under each the map of the strongest word."""
    if not frames:
        figure = Picture(figsize=(6, 0.6))
        figure.text(0.5, 0.5, "the run has not begun", ha="center", va="center", fontsize=12)
        return figure_png(figure)
    places = np.linspace(0, len(frames) - 1, min(6, len(frames)))
    chosen = [frames[round(place)] for place in places]
    count, rows = len(chosen), 2 if len(frames[-1].maps) else 1
    figure, axes = grid(rows * count, count, (1.75, 2.0), above=0.5)
    figure.suptitle(f"“{title}”", fontsize=12, parse_math=False)
    for axis, frame in zip(axes, chosen):
        axis.imshow(frame.preview, interpolation="bilinear")
        text = f"step {frame.content['step']}, t = {frame.content['timestep']:g}"
        entitle(axis, text, fontsize=9)
    if rows == 2:
        word = int(frames[-1].maps.max(axis=(1, 2)).argmax())
        top = max(float(frame.maps[word].max()) for frame in chosen)
        for axis, frame in zip(axes[count:], chosen):
            draw_map(axis, frame.preview, frame.maps[word], top)
        entitle(axes[count], f"where pixels look at “{words[word]}”", fontsize=9, loc="left")
    return figure_png(figure)
