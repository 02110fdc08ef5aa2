"""What the tests of recording share: the reference for every map, and whose forwards are."""

from fnmatch import fnmatch

import torch

from unet_explained.recording import Identity, Origin, Row, identified


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


def of_a_run(forwards=1, conditional=slice(1, 2), batch=2, text=None):
    """Around forwards: those of one run, whose prompt these rows of the batch are given."""
    rows = [Row(None, None, "unconditional")] * batch
    for picture, row in enumerate(range(batch)[conditional]):
        rows[row] = Row(text, picture, "conditional")
    return identified(Identity(Origin(forwards), tuple(rows)))


def first_layer(rec) -> tuple[str, tuple[int, int]]:
    """The name of the first recorded cross-attention and its (height, width)."""
    return next(iter(rec.layers.items()))
