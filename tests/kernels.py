"""What the attentions of a UNet really computed, seen where it is computed: nothing of record()."""

import math
from collections import defaultdict

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention


class Kernels:
    """Inside `with`: the weights of every attention, whatever its processor, forward by forward.

    forwards[i][layer] is a list of (batch, head, query, key) in float64: the softmax at the text,
    and after it those at image prompts. Taken where any processor's line ends: the fused kernel,
    or get_attention_scores, whose weights must be those that its arguments give.
    """

    def __init__(self, unet: torch.nn.Module) -> None:
        self.unet = unet
        self.forwards: list[dict[str, list[torch.Tensor]]] = []
        self.contexts: list[torch.Tensor] = []  # encoder_hidden_states of each forward
        self.sizes: dict[str, tuple[int, int]] = {}  # of every layer that was given a context
        self._now: tuple[str, int, int] | None = None  # layer, batch, heads
        self._size = (0, 0)

    def __enter__(self) -> "Kernels":
        modules = dict(self.unet.named_modules())
        self._handles = [_before(self.unet, self._begin)]
        for name, module in modules.items():
            if type(module).__name__ == "Transformer2DModel":
                self._handles.append(_before(module, self._enter_transformer))
            if isinstance(module, Attention):
                self._handles.append(_before(module, self._enter(name)))
                self._handles.append(module.register_forward_hook(self._leave))
        self._fused, self._eager = F.scaled_dot_product_attention, Attention.get_attention_scores
        F.scaled_dot_product_attention = self._seen_fused
        Attention.get_attention_scores = lambda *args: self._seen_eager(*args)
        return self

    def __exit__(self, *error) -> None:
        F.scaled_dot_product_attention = self._fused
        Attention.get_attention_scores = self._eager
        for handle in self._handles:
            handle.remove()

    def mean(self, forward: int, layer: str, row: int, softmax: int = 0) -> torch.Tensor:
        """(query, key) of one row of the batch, averaged over heads."""
        return self.forwards[forward][layer][softmax][row].mean(dim=0)

    @property
    def layers(self) -> list[str]:
        """The attentions that were given a context, in order."""
        return list(self.sizes)

    def _begin(self, args: tuple, kwargs: dict) -> None:
        self.forwards.append(defaultdict(list))
        context = args[2] if len(args) > 2 else kwargs["encoder_hidden_states"]
        self.contexts.append(context.detach().clone())

    def _enter_transformer(self, args: tuple, kwargs: dict) -> None:
        self._size = tuple((args[0] if args else kwargs["hidden_states"]).shape[-2:])

    def _enter(self, name: str):
        def enter(args: tuple, kwargs: dict) -> None:
            x = args[0] if args else kwargs["hidden_states"]
            self._now = name, len(x), self.unet.get_submodule(name).heads
            if kwargs.get("encoder_hidden_states") is not None:
                self.sizes[name] = self._size if x.ndim == 3 else tuple(x.shape[-2:])

        return enter

    def _leave(self, module, args, output) -> None:
        self._now = None

    def _seen_fused(self, query, key, value, attn_mask=None, *args, scale=None, **kwargs):
        if self._now:
            factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
            self._keep(_softmax(factor, query, key, attn_mask))
        return self._fused(query, key, value, attn_mask, *args, scale=scale, **kwargs)

    def _seen_eager(self, attention, query, key, attention_mask=None):
        weights = self._eager(attention, query, key, attention_mask)
        if self._now:
            exact = _softmax(attention.scale, query, key, attention_mask)
            torch.testing.assert_close(weights.detach().double(), exact, atol=4e-3, rtol=0)
            self._keep(exact)
        return weights

    def _keep(self, weights: torch.Tensor) -> None:
        """Eager ones come with the heads in the batch, and of a sliced processor in parts."""
        name, batch, heads = self._now
        kept = self.forwards[-1][name]
        if weights.ndim == 4:
            kept.append(weights)
            return
        if kept and kept[-1].ndim == 3:
            weights = torch.cat([kept.pop(), weights])
        whole = len(weights) == batch * heads
        kept.append(weights.unflatten(0, (batch, heads)) if whole else weights)


@torch.no_grad()
def _softmax(scale: float, query, key, mask) -> torch.Tensor:
    """In float64, of what the function was given."""
    scores = scale * query.double() @ key.double().transpose(-1, -2)
    return (scores if mask is None else scores + mask.double()).softmax(dim=-1)


def _before(module: torch.nn.Module, act):
    """A hook that only looks."""
    return module.register_forward_pre_hook(
        lambda m, args, kwargs: act(args, kwargs), with_kwargs=True
    )
