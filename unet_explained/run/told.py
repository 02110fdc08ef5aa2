"""What a UNet is told beside latents and timestep: the prompt, and SDXL the picture's size."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from .text import Prompt, embed, embed_twice


def told(pipe: Any, prompts: Sequence[Prompt], size: tuple[int, int]) -> dict[str, Any]:
    """The UNet's arguments for prompts, a row each; size: the picture's height and width in pixels.

    pipe: of this package. A prompt without tokens, not even a start and an end, is told as zeros.
    """
    if pipe.text_encoder_2 is None:
        context = torch.cat([embed(prompt, pipe.text_encoder) for prompt in prompts])
        return {"encoder_hidden_states": context.to(pipe.unet.dtype)}
    encoders = pipe.text_encoder, pipe.text_encoder_2
    read = iter(
        [embed_twice((prompt.ids, prompt.ids_2), encoders) for prompt in prompts if prompt.tokens]
    )
    rows = [next(read) if prompt.tokens else None for prompt in prompts]
    zeros = tuple(torch.zeros_like(part) for part in next(row for row in rows if row))
    context, pooled = map(torch.cat, zip(*(row or zeros for row in rows), strict=True))
    context = context.to(pipe.unet.dtype)
    return {"encoder_hidden_states": context, "added_cond_kwargs": added(pooled, size)}


def added(
    pooled: Float[Tensor, "batch text"], size: tuple[int, int]
) -> dict[str, Float[Tensor, "batch _"]]:
    """SDXL's condition: Podell et al. 2023, section 2.2.

    time_ids: the size of the original, the corner of its crop, and the size that is wanted.
    """
    ids = torch.tensor([[*size, 0, 0, *size]], dtype=pooled.dtype, device=pooled.device)
    return {"text_embeds": pooled, "time_ids": ids.expand(len(pooled), -1)}
