"""What diffusers' pipelines give their UNet, written by hand from their source: row by row.

A layout has a word for each row of the batch: + the prompt's, - the negative prompt's, ~ zeros in
its place, then the picture, and #2 for a further row of the same text, picture and role.
"""

from typing import Any, NamedTuple

import torch
from pipelines import FISH, FROG, RED, build, run, scheduler

ROLES = {"+": "conditional", "-": "unconditional", "~": "unconditional"}
TRIANGLE = "a red triangle left of a blue butterfly"  # two words of two tokens
KEYS = {  # of words in a prompt: the positions of their tokens, the start token's being 0
    RED: {"circle": [(3,)], "blue": [(7,)], "a": [(1,), (6,)], "left of": [(4, 5)]},
    FISH: {"green": [(2,)], "fish": [(3,)]},
    FROG: {"small": [(2,)], "frog": [(4, 5, 6, 7)]},  # letter by letter
    TRIANGLE: {"triangle": [(3, 4)], "butterfly": [(9, 10)], "blue": [(8,)]},
}


class Case(NamedTuple):
    """A call, and the layout of each of its forwards (or of all of them)."""

    kind: str
    layout: str | list[str]
    prompt: str | list[str] = RED
    negative: str | list[str] | None = None
    options: dict[str, Any] = {}  # noqa: RUF012
    scheduler: str | None = None
    forwards: int = 2

    def build(self):
        """The pipeline, and a function that calls it, each time the same."""
        pipe, options = build(self.kind)
        if self.scheduler:
            plain = {"skip_prk_steps": True} if self.scheduler == "PNDMScheduler" else {}
            pipe.scheduler = scheduler(self.scheduler, **plain)
        options = options | self.options
        if self.negative is not None:
            options["negative_prompt"] = self.negative
        return pipe, lambda: run(pipe, self.prompt, **options)

    @property
    def layouts(self) -> list[list[str]]:
        """One a forward, its rows apart."""
        one = [self.layout] * self.forwards if isinstance(self.layout, str) else self.layout
        return [layout.split() for layout in one]

    def text(self, row: str) -> str:
        """What a row of a layout was made of."""
        texts = self.prompt if row[0] == "+" else self.negative or ""
        return texts[picture(row) // self.copies] if isinstance(texts, list) else texts

    @property
    def copies(self) -> int:
        return self.options.get("num_images_per_prompt", 1)


def picture(row: str) -> int:
    return int(row[1:].partition("#")[0])


def role(row: str) -> str:
    return ROLES[row[0]] + "".join(row.partition("#")[1:])


@torch.no_grad()
def embedding(pipe, text: str, second: str | None = None) -> torch.Tensor:
    """What a pipeline's text encoders make of a text: (token, channel). second: SDXL's prompt_2."""
    wide = hasattr(pipe, "text_encoder_2")
    parts = []
    for number, said in (("", text), ("_2", text if second is None else second)):
        encoder = getattr(pipe, f"text_encoder{number}", None)
        if encoder is not None:
            words = getattr(pipe, f"tokenizer{number}")
            ids = words(said, padding="max_length", max_length=77, return_tensors="pt").input_ids
            out = encoder(ids, output_hidden_states=True)
            parts.append(out.hidden_states[-2] if wide else out[0])
    return torch.cat(parts, dim=-1)[0]


def guidance_off(pipe, step: int, timestep, values: dict) -> dict:
    """At the end of the first step, as diffusers' guide shows it."""
    if step == 0:
        pipe._guidance_scale = 0.0
        values["prompt_embeds"] = values["prompt_embeds"].chunk(2)[-1]
    return values


MIDDLE = {
    "callback_on_step_end": guidance_off,
    "callback_on_step_end_tensor_inputs": ["prompt_embeds"],
}
BOTH, FOUR = [RED, FISH], "-0 -1 -2 -3 +0 +1 +2 +3"
TWO = {"num_images_per_prompt": 2}
OFF = {"guidance_scale": 1.0}

CASES = {
    "sd": Case("sd", "-0 +0"),
    "words of two tokens": Case("sd", "-0 +0", TRIANGLE),
    "two prompts": Case("sd", "-0 -1 +0 +1", BOTH),
    "one prompt twice": Case("sd", "-0 -1 +0 +1", [RED, RED]),
    "two pictures": Case("sd", "-0 -1 +0 +1", options=TWO),
    "two prompts, two pictures each": Case("sd", FOUR, BOTH, options=TWO),
    "guidance off": Case("sd", "+0", options=OFF),
    "two prompts, guidance off": Case("sd", "+0 +1", BOTH, options=OFF),
    "guidance off in the middle": Case("sd", ["-0 +0", "+0"], options=MIDDLE),
    "negative": Case("sd", "-0 +0", negative=FROG),
    "negatives": Case("sd", "-0 -1 +0 +1", BOTH, [FROG, TRIANGLE]),
    "negatives, two pictures each": Case("sd", FOUR, BOTH, [FROG, TRIANGLE], TWO),
    "not square": Case("sd", "-0 +0", options={"width": 96}),
    "a timestep twice": Case("sd", "-0 +0", scheduler="PNDMScheduler", forwards=3),
    "heun": Case("sd", "-0 +0", scheduler="HeunDiscreteScheduler", forwards=3),
    "img2img": Case("img2img", "-0 +0", negative=FROG),
    "inpaint": Case("inpaint", "-0 -1 +0 +1", BOTH),
    "depth": Case("depth", "-0 +0"),
    "upscale": Case("upscale", "-0 +0", negative=FROG),
    "pix2pix": Case("pix2pix", "+0 -0 -0#2", negative=FROG),
    "pix2pix, two pictures": Case(
        "pix2pix", "+0 +1 -0 -1 -0#2 -1#2", options=TWO | {"image": torch.rand(2, 3, 64, 64)}
    ),
    "pix2pix, guidance off": Case("pix2pix", "+0", options=OFF),
    "controlnet": Case("controlnet", "-0 +0", negative=FROG),
    "controlnets": Case("controlnets", "-0 -1 +0 +1", options=TWO),
    "controlnet, guess mode": Case("guess", "-0 +0"),
    "t2i-adapter": Case("t2i", "-0 +0", negative=FROG),
    "lcm": Case("lcm", "+0"),
    "lcm, two prompts": Case("lcm", "+0 +1", BOTH),
    "pag": Case("pag", "-0 +0 +0#2", negative=FROG),
    "pag, two pictures": Case("pag", "-0 -1 +0 +1 +0#2 +1#2", options=TWO),
    "pag, guidance off": Case("pag", "+0 +0#2", options={"guidance_scale": 0.0}),
    "xl": Case("xl", "~0 +0"),
    "xl, two prompts, two pictures each": Case("xl", FOUR.replace("-", "~"), BOTH, options=TWO),
    "xl, negative": Case("xl", "-0 +0", negative=FROG),
    "xl, empty negative": Case("xl", "-0 +0", negative=""),
    "xl, guidance off": Case("xl", "+0", options=OFF),
    "xl, t2i-adapter": Case("xl_t2i", "-0 +0", negative=FROG),
    "xl, controlnet": Case("xl_controlnet", "~0 +0"),
    "xl, pag": Case("xl_pag", "-0 +0 +0#2", negative=FROG),
    "refiner": Case("refiner", "-0 +0", negative=FROG),
    "refiner, zeros": Case("refiner", "~0 +0"),
}
