"""What the tests of recording share: the reference for every map, and how a run is announced."""

from fnmatch import fnmatch

import torch

from unet_explained.recording import Announcement, announce


class Reference:
    """Softmax of q and k in float64, head by head, from hooks on the linears to_q and to_k."""

    def __init__(self, unet, which="*attn2"):
        self.q, self.k, self.heads = {}, {}, {}
        for name, module in unet.named_modules():
            if fnmatch(name, which):
                self.heads[name] = module.heads
                for seen, linear in ((self.q, module.to_q), (self.k, module.to_k)):
                    linear.register_forward_hook(
                        lambda m, args, out, seen=seen, name=name: seen.update({name: out.double()})
                    )

    def weights(self, name, mask=0.0):
        """(batch, head, query, key)."""
        heads = zip(*(one[name].chunk(self.heads[name], dim=-1) for one in (self.q, self.k)))
        scores = [q @ k.transpose(1, 2) / q.shape[-1] ** 0.5 + mask for q, k in heads]
        return torch.stack(scores, dim=1).softmax(dim=-1)


def announced(unet, forwards=1, conditional=slice(1, 2)):
    """Announce a run without a prompt, the second of two rows conditional."""
    announce(unet, Announcement("", (), forwards, conditional))


def first_layer(rec) -> tuple[str, tuple[int, int]]:
    """The name of the first recorded cross-attention and its (height, width)."""
    return next(iter(rec.layers.items()))
