"""UNet2DConditionModel: Stable Diffusion's denoiser, as six stages.

Stable Diffusion 1.5, from latents of 4 x 64 x 64 to a prediction of the same size. An arrow is a
skip: from the module that leaves it, to the resnet that concatenates it to what comes from below.

    conv_in                       320 x 64 x 64  ->  up_blocks.3.resnets.2   320 + 320 to 320
    down_blocks.0.attentions.0    320 x 64 x 64  ->  up_blocks.3.resnets.1   320 + 320 to 320
    down_blocks.0.attentions.1    320 x 64 x 64  ->  up_blocks.3.resnets.0   640 + 320 to 320
    down_blocks.0.downsamplers.0  320 x 32 x 32  ->  up_blocks.2.resnets.2   640 + 320 to 640
    down_blocks.1.attentions.0    640 x 32 x 32  ->  up_blocks.2.resnets.1   640 + 640 to 640
    down_blocks.1.attentions.1    640 x 32 x 32  ->  up_blocks.2.resnets.0  1280 + 640 to 640
    down_blocks.1.downsamplers.0  640 x 16 x 16  ->  up_blocks.1.resnets.2  1280 + 640 to 1280
    down_blocks.2.attentions.0   1280 x 16 x 16  ->  up_blocks.1.resnets.1  1280 + 1280 to 1280
    down_blocks.2.attentions.1   1280 x 16 x 16  ->  up_blocks.1.resnets.0  1280 + 1280 to 1280
    down_blocks.2.downsamplers.0   1280 x 8 x 8  ->  up_blocks.0.resnets.2  1280 + 1280 to 1280
    down_blocks.3.resnets.0        1280 x 8 x 8  ->  up_blocks.0.resnets.1  1280 + 1280 to 1280
    down_blocks.3.resnets.1        1280 x 8 x 8  ->  up_blocks.0.resnets.0  1280 + 1280 to 1280
    mid_block                      1280 x 8 x 8

The timestep comes to each of 22 resnets as 1280 numbers, the prompt to each of 16 attentions as
77 x 768. Names of modules and parameters are the checkpoint's, so a state dict of diffusers loads
strictly, with no renaming. U-Net: Ronneberger et al. 2015; this one: Rombach et al. 2022.
"""

from typing import NamedTuple

import torch
from einops import rearrange, repeat
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from .blocks import BLOCKS
from .config import UNetConfig
from .embeddings import ACTIVATION, TimestepEmbedding, Timesteps, class_embedding
from .inputs import prepare
from .lacking import Lacking


class UNet2DConditionOutput(NamedTuple):
    """The prediction (noise or velocity), of the latents' height and width."""

    sample: Float[Tensor, "batch channel height width"]

    def __getitem__(self, key):
        """By its number or by its name, as the reference's."""
        return self._asdict()[key] if isinstance(key, str) else tuple(self)[key]


class UNet2DConditionModel(Lacking, nn.Module):
    """Predicts what to take from noisy latents, given the timestep and the embedded prompt."""

    def __init__(self, config: UNetConfig):
        super().__init__()
        self.config = config
        channels, time_embed_dim = config.block_out_channels[0], config.time_embed_dim

        # 1. time
        self.time_proj = Timesteps(channels, config.flip_sin_to_cos, config.freq_shift)
        self.time_embedding = TimestepEmbedding(
            channels, time_embed_dim, config.act_fn, config.time_cond_proj_dim
        )
        self.class_embedding = class_embedding(config)
        if config.addition_embed_type == "text_time":
            self.add_time_proj = Timesteps(
                config.addition_time_embed_dim, config.flip_sin_to_cos, config.freq_shift
            )
            self.add_embedding = TimestepEmbedding(
                config.projection_class_embeddings_input_dim, time_embed_dim
            )

        # 2. pre-process
        kernel = config.conv_in_kernel
        self.conv_in = nn.Conv2d(config.in_channels, channels, kernel, padding=kernel // 2)

        # 3. down, 5. up (from the bottom) and 4. mid, in the order of the checkpoint's modules
        levels, mid = range(config.levels), config.mid_block_type
        self.down_blocks = nn.ModuleList(
            BLOCKS[kind](config, level) for level, kind in zip(levels, config.down_block_types)
        )
        self.up_blocks = nn.ModuleList(
            BLOCKS[kind](config, level) for level, kind in zip(levels[::-1], config.up_block_types)
        )
        self.mid_block = BLOCKS[mid](config) if mid else None

        # 6. post-process
        groups, kernel = config.norm_num_groups, config.conv_out_kernel
        self.conv_norm_out = nn.GroupNorm(groups, channels, config.norm_eps) if groups else None
        self.conv_act = ACTIVATION[config.act_fn]() if groups else None
        self.conv_out = nn.Conv2d(channels, config.out_channels, kernel, padding=kernel // 2)

    @classmethod
    def from_config(cls, what, *, seed: int | None = None) -> "UNet2DConditionModel":
        """Random weights. what: a preset's name, config.json or its folder, dict, or UNetConfig.

        With a seed, torch's default initialisation is the same each time and the CPU's generator
        is left as it was; those of CUDA are seeded, as by torch.manual_seed. In a diffusers
        pipeline it runs, but `pipe.save_pretrained` leaves it out and warns;
        ux.from_diffusers(ux.to_diffusers(unet)) is the same tensors, and is saved.
        """
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            return cls(UNetConfig.load(what)).eval()

    @classmethod
    def from_pretrained(cls, path, **options) -> "UNet2DConditionModel":
        """Trained weights from a folder, a .safetensors file or a hub id: the UNet alone is read.

        A file is a UNet's own, or a whole checkpoint's under CompVis' names.
        Options: device, dtype or torch_dtype (by default CUDA in float16, else the CPU in float32),
        subfolder (without it unet/ or the top), variant, use_safetensors, revision, token,
        cache_dir, local_files_only. Raises FileNotFoundError for what is not found.
        """
        from ..run.checkpoints import load_unet

        return load_unet(path, **options)

    def save_pretrained(self, folder, **options) -> None:
        """Into a folder, as diffusers writes it and from_pretrained reads; see run.convert.save."""
        from ..run.convert import save

        save(self, folder, **options)

    @property
    def dtype(self) -> torch.dtype:
        return self.conv_in.weight.dtype

    @property
    def device(self) -> torch.device:
        return self.conv_in.weight.device

    def get_time_embed(
        self, sample: Float[Tensor, "batch _ _ _"], timestep: Shaped[Tensor, "*batch"] | float | int
    ) -> Float[Tensor, "batch channel"]:
        """The timestep, one for all or one a sample, as sinusoids in the sample's dtype."""
        timesteps = torch.as_tensor(timestep, device=sample.device)
        if timesteps.ndim == 0 or len(timesteps) == 1:
            timesteps = repeat(timesteps, "... -> (batch ...)", batch=sample.shape[0])
        return self.time_proj(timesteps).to(sample.dtype)

    def get_class_embed(
        self, sample: Float[Tensor, "batch _ _ _"], class_labels: Shaped[Tensor, "batch *label"]
    ) -> Float[Tensor, "batch time"]:
        """Class labels (x4: noise level; unCLIP: image embedding) as a vector like time's."""
        if self.config.class_embed_type == "timestep":
            class_labels = self.time_proj(class_labels).to(sample.dtype)
        return self.class_embedding(class_labels).to(sample.dtype)

    def get_aug_embed(
        self, emb: Float[Tensor, "batch time"], added_cond_kwargs: dict
    ) -> Float[Tensor, "batch time"]:
        """SDXL's pooled prompt and its sizes and crops (time_ids), as a vector like time's."""
        text_embeds, time_ids = added_cond_kwargs["text_embeds"], added_cond_kwargs["time_ids"]
        waves = self.add_time_proj(rearrange(time_ids, "... -> (...)"))
        waves = rearrange(waves, "(batch id) wave -> batch (id wave)", batch=text_embeds.shape[0])
        return self.add_embedding(torch.cat([text_embeds, waves], dim=-1).to(emb.dtype))

    def forward(
        self,
        sample: Float[Tensor, "batch channel_in height width"],
        timestep: Shaped[Tensor, "*batch"] | float | int,
        encoder_hidden_states: Float[Tensor, "batch token text"],
        class_labels: Shaped[Tensor, "batch *label"] | None = None,
        timestep_cond: Float[Tensor, "batch guidance"] | None = None,
        attention_mask: Shaped[Tensor, "batch key"] | None = None,
        cross_attention_kwargs: dict | None = None,
        added_cond_kwargs: dict[str, Tensor] | None = None,
        down_block_additional_residuals: tuple | list | None = None,
        mid_block_additional_residual: Float[Tensor, "batch _ _ _"] | None = None,
        down_intrablock_additional_residuals: tuple | list | None = None,
        encoder_attention_mask: Shaped[Tensor, "batch token"] | None = None,
        return_dict: bool = True,
    ) -> UNet2DConditionOutput | tuple[Float[Tensor, "batch channel height width"]]:
        """The reference's signature; masks are 1 for keys to look at and 0 for those to pass over.

        Residuals are ControlNet's (down_block_*, mid_block_*: both or neither) and T2I-Adapter's
        (down_intrablock_*: one a down block, and one more for mid). Raises ValueError, before any
        work, for inputs that do not fit the config.
        """
        context, residuals = prepare(
            self.config, self.conv_in, sample, timestep, encoder_hidden_states,
            class_labels=class_labels, timestep_cond=timestep_cond,
            cross_attention_kwargs=cross_attention_kwargs, added_cond_kwargs=added_cond_kwargs,
            attention_mask=attention_mask, encoder_attention_mask=encoder_attention_mask,
            control=(down_block_additional_residuals, mid_block_additional_residual),
            adapter=down_intrablock_additional_residuals,
        )  # fmt: skip

        # 1. time: when in the denoising, of what class, at what size -> one vector
        emb = self.time_embedding(self.get_time_embed(sample, timestep), timestep_cond)
        if self.class_embedding is not None:
            emb = emb + self.get_class_embed(sample, class_labels)
        if self.config.addition_embed_type is not None:
            emb = emb + self.get_aug_embed(emb, added_cond_kwargs)

        # 2. pre-process: 4 latent channels to the width of the first level
        x = self.conv_in(2 * sample - 1 if self.config.center_input_sample else sample)

        # 3. down: half the resolution a level, every output on the way kept as a skip
        skips = [x]
        for block, adapter in zip(self.down_blocks, residuals.down, strict=True):
            x, new = block(x, emb, context, adapter)
            skips += new
        skips = residuals.added_to_skips(skips)

        # 4. mid: the lowest resolution, where every pixel sees the whole picture
        if self.mid_block is not None:
            x = self.mid_block(x, emb, context)
        x = residuals.added_to_mid(x)

        # 5. up: twice the resolution a level, the skips taken back last in, first out
        for block in self.up_blocks:
            count = len(block.resnets)  # type: ignore[arg-type]  # torch does not say of what kind
            skips, taken = skips[:-count], skips[-count:]
            # To the next skip's size, not just doubled: latents need not be divisible by 8.
            upsample_size = tuple(skips[-1].shape[-2:]) if skips else None
            x = block(x, taken, emb, context, upsample_size)

        # 6. post-process: back to the latent channels
        if self.conv_norm_out is not None:
            x = self.conv_act(self.conv_norm_out(x))
        x = self.conv_out(x)
        return UNet2DConditionOutput(x) if return_dict else (x,)
