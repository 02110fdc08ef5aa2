"""Trains the bundled pipeline from nothing: accelerate launch -m training.train

Stages, each resumable: the autoencoder; the text encoder's reading; the UNet and the text encoder
together, its inner levels first, where a sample costs little; finally the decoder, for sharpness.
"""

import argparse
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from random import Random

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from unet_explained.model.unet import UNet2DConditionModel
from unet_explained.writing import write_file

from .album import Album, make_album
from .autoencoder import AutoencoderLoss, calibrate, crops
from .averaging import start_as_averaging
from .diffusion import DiffusionLoss, sample
from .export import export
from .inner import InnerUNet, hand_over
from .loop import Stage, run_stage
from .models import build_text_encoder, build_unet, build_vae
from .reading import ReadingLoss, reading_batch
from .tokenizer import build_tokenizer

GUIDANCE = 3.5
AUTOENCODER = Stage("autoencoder", steps=500, batch=8, side=64, rate=1e-3)
READING = Stage("reading", steps=2400, batch=64, side=0, rate=1e-3, muon=True)
DIFFUSION = (  # from the inside out: each level learns on the grid that it has at full size
    Stage("inner", steps=4000, batch=8, side=128, rate=1e-3, level=2, muon=True),
    Stage("middle", steps=900, batch=6, side=256, rate=1e-3, level=1, muon=True),
    Stage("things", steps=2000, batch=0, side=512, rate=1e-3, windows=28, muon=True),
    Stage("whole", steps=4000, batch=3, side=512, rate=1e-3, windows=8, muon=True),
)
DECODER = Stage("decoder", steps=1000, batch=8, side=64, rate=1e-3)
CAPTIONS = 12  # so many more are read a step, on each process, while the UNet learns
SCENES = {128: 16384, 256: 4096, 512: 1024}  # encoded once each, and captioned anew each time
SHOWN = (
    "a red circle left of a blue square",
    "a green tree above a yellow house",
    "a large purple star in the middle",
    "an orange fish right of a black heart",
    "a small white boat at the bottom",
    "a blue butterfly in the top left corner",
    "a yellow triangle below a red star on a mint ground",
    "a black house and a white tree",
)


@dataclass
class Training:
    """One run of the command: what its stages share."""

    accelerator: Accelerator
    out: Path
    seed: int
    tokenizer: CLIPTokenizer

    def run(self, stage: Stage, loss: nn.Module, inputs, **options) -> None:
        run_stage(
            self.accelerator, stage, loss, inputs, self.out / stage.name, self.seed, **options
        )

    def train_vae(self, vae: AutoencoderKL, stage: Stage) -> None:
        def inputs(rng: Random) -> dict[str, Tensor]:
            pictures = crops(rng, stage.batch, stage.side)
            return {"pictures": pictures.to(self.accelerator.device)}

        self.run(stage, AutoencoderLoss(vae), inputs)

    def train_reading(self, loss: ReadingLoss, stage: Stage) -> None:
        self.run(stage, loss, lambda rng: self.captions(rng, stage.batch))

    def captions(self, rng: Random, count: int) -> dict[str, Tensor]:
        batch = reading_batch(rng, count, self.tokenizer)
        return {name: each.to(self.accelerator.device) for name, each in batch.items()}

    def train_unet(
        self,
        unet: UNet2DConditionModel,
        reading: ReadingLoss,
        vae: AutoencoderKL,
        stage: Stage,
    ) -> None:
        album = self.album(vae, stage.side)
        part = InnerUNet(unet, stage.level) if stage.level else unet

        def inputs(rng: Random) -> dict[str, Tensor]:
            where = self.tokenizer, self.accelerator.device
            inputs = {"captions": self.captions(rng, CAPTIONS)}
            if stage.batch:
                inputs["whole"] = album.batch(rng, stage.batch, *where)
            if stage.windows:
                inputs["windows"] = album.windows(rng, stage.windows, *where)
            return inputs

        on_save = partial(self.save, unet, vae, stage)
        self.run(stage, DiffusionLoss(part, reading), inputs, on_save=on_save)
        if stage.level:
            hand_over(unet, part, stage.level)

    def album(self, vae: AutoencoderKL, side: int) -> Album:
        """Encoded scenes: made by the first process, kept for the others and for later."""
        path = self.out / f"album-{side}.pt"
        with self.accelerator.main_process_first():
            if not path.exists():
                album = make_album(vae, Random(f"{self.seed}/{side}"), SCENES[side], side)
                torch.save(vars(album), whole := BytesIO())
                write_file(path, whole.getvalue())
        return Album(**torch.load(path, weights_only=False))

    def save(
        self,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL,
        stage: Stage,
        model: DiffusionLoss,
        step: int,
    ) -> None:
        """Exports the pipeline and paints a sheet: what happens at each checkpoint of the UNet."""
        self.export(model.text_encoder, unet, vae)
        self.sheet(model, vae, stage.side, self.out / stage.name / f"{step:05d}.png")

    def export(self, text_encoder: CLIPTextModel, unet: nn.Module, vae: AutoencoderKL) -> None:
        if self.accelerator.is_main_process:
            export(self.out / "pipeline", text_encoder, unet, vae, GUIDANCE)

    def sheet(self, model: DiffusionLoss, vae: AutoencoderKL, side: int, path: Path) -> None:
        """What the prompts in SHOWN give now; fewer of them where a picture takes longer."""
        shown = list(SHOWN[: 8 * 128 // side])
        pictures = sample(model, vae, self.tokenizer, shown, side // 8, GUIDANCE)
        rows = [np.concatenate(row, axis=1) for row in np.split(pictures, 2)]
        Image.fromarray(np.concatenate(rows)).save(path)


def train(
    out: Path,
    seed: int = 0,
    autoencoder: Stage = AUTOENCODER,
    reading: Stage = READING,
    diffusion: tuple[Stage, ...] = DIFFUSION,
    decoder: Stage = DECODER,
) -> None:
    """Runs or resumes all stages; `out` gets checkpoints, sample sheets and the pipeline."""
    torch.manual_seed(seed)
    training = Training(Accelerator(), out, seed, build_tokenizer())
    vae = build_vae()
    start_as_averaging(vae)
    training.train_vae(vae, autoencoder)
    vae.encoder.requires_grad_(False)  # the UNet will know its latents
    calibrate(vae, Random(seed))

    text_encoder = build_text_encoder(training.tokenizer)
    reader = ReadingLoss(text_encoder)
    training.train_reading(reader, reading)
    unet = build_unet(seed)
    for stage in diffusion:
        training.train_unet(unet, reader, vae, stage)

    vae.quant_conv.requires_grad_(False)
    training.train_vae(vae, decoder)
    training.export(text_encoder, unet, vae)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/bundled"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    train(options.out, options.seed)


if __name__ == "__main__":
    main()
