"""A run of this package's pipeline, as a live view follows it."""

from collections.abc import Callable, Sequence

from PIL import Image
from torch import Tensor, nn

from ..recording import Recording, Word
from ..recording.heatmaps import head_mean
from ..run.denoise import Pipeline
from ..run.steps import Run, Step
from ..run.text import read_prompt
from .live_frames import NO_NUMBERS, Look, Observer, Seen, average_by_word, maps_by_word, plain
from .subject import foreseen
from .umap import UMap, umap


class OwnRun:
    """A run of this package's pipeline.

    notes: what a person should know of it; doubt: before it is begun, else "".
    """

    guidance = "guidance"  # the option's name

    @staticmethod
    def usual(pipe: Pipeline) -> dict[str, float]:
        """The guidance of a call that names none."""
        return {"guidance": float(pipe.guidance)}

    def __init__(self, pipe: Pipeline, prompt: str, **options) -> None:
        self.steps = pipe.denoise(prompt, **options)
        self.spans = read_prompt(prompt, pipe.tokenizer).spans
        self.words = [word.text for word in self.spans]
        self.doubt = pipe.palette.doubt(self.words) if pipe.palette else ""
        self.parts: list[nn.Module] = [pipe.unet, pipe.vae]  # in which it can be stopped
        self.recording: Recording | None = None
        self.notes: list[str] = []

    def __call__(self, told: Callable[[Seen], None]) -> Run:
        """To its end; told: called after each step."""
        while True:
            try:
                step = next(self.steps)
            except StopIteration as end:
                self.recording = end.value.recording
                return end.value
            told(OwnStep(step))

    def observer(self, names: list[str], layers: Sequence[str]) -> Observer:
        """layers: the cross-attentions whose maps are drawn."""
        return Listener(self.parts[0], names, layers, self.spans)

    def map(self, result: Run) -> UMap:
        """The map of the U of it."""
        return umap(result)

    def picture(self, result: Run) -> Image.Image | None:
        """None where there is none, as the latents are not finite."""
        return result.image if result.latents.isfinite().all() else None


class OwnStep:
    """A step of it."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.index, self.total, self.timestep = step.index, step.total, step.timestep

    def look(self) -> Look:
        seen = foreseen(self.step.pipeline, self.step.denoised)
        if seen is None:
            return plain(self.step.denoised.shape[-2:]), NO_NUMBERS
        return seen, "the picture, as foreseen"

    def beside(self) -> list[Look]:
        """In rough colours, where these are known."""
        pictures = {"what it is given": self.step.sample, "what it predicts": self.step.prediction}
        seen = ((self.step.pipeline.glimpse(x), text) for text, x in pictures.items())
        return [(picture, text) for picture, text in seen if picture is not None]


class Listener(Observer):
    """Derives the words' maps of what passes in our UNet, at the steps that are drawn alone."""

    def __init__(
        self, unet: nn.Module, names: list[str], layers: Sequence[str], words: tuple[Word, ...]
    ) -> None:
        super().__init__(unet, [*names, *(f"{layer}.attend" for layer in layers if words)])
        self.words = words
        self._pairs: list[tuple[Tensor, Tensor]] = []
        self._maps: list[Tensor] = []

    def hear(self, name: str, args: tuple, output) -> None:
        if name.endswith(".attend"):
            q, k, *_ = args
            self._pairs.append((q[-1:], k[-1:]))  # the half that has the prompt
            return
        # After attentions, what ends next is the transformer around them, which has their size.
        for q, k in self._pairs:
            height, width = output.shape[-2:]
            self._maps.append(maps_by_word(head_mean(q, k)[0], self.words, (height, width)))
        self._pairs = []
        super().hear(name, args, output)

    def maps(self) -> Tensor:
        maps, self._maps = self._maps, []
        return average_by_word(maps)
