"""Muon, an optimiser for matrices (Jordan 2024): each step goes equally far in all directions.

torch.optim.Muon takes nothing but matrices; here a convolution's kernel is one as well, of its
outputs by all that they see. What is no matrix, or is in ENDS, is left to AdamW.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

ENDS = ("conv_in", "conv_out", "embedding", "pointing")  # of the parameters' names
QUINTIC = (3.4445, -4.7750, 2.0315)  # lifts all singular values to about 1, in ITERATIONS steps
ITERATIONS = 5
LIKE_ADAMW = 0.2  # about the root mean square of AdamW's steps, in units of its rate


def optimizers(model: nn.Module, rate: float, muon: bool) -> list[torch.optim.Optimizer]:
    """AdamW for all parameters; or, with `muon`, Muon for the matrices and AdamW for the rest."""
    matrices, rest = [], []
    for name, parameter in model.named_parameters():
        inner = parameter.ndim > 1 and not any(end in name for end in ENDS)
        (matrices if muon and inner else rest).append(parameter)
    adamw = torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    return [Muon(matrices, rate), adamw] if muon else [adamw]


class Muon(torch.optim.Optimizer):
    """Steps by the orthogonal matrix nearest to the momentum, scaled to the size of AdamW's steps.

    params: of two dimensions or more; the first is the matrix's rows.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float):
        super().__init__(params, {"lr": lr, "momentum": 0.95, "weight_decay": 0.01})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # accelerate passes it on
        for group in self.param_groups:
            alike = defaultdict(list)  # orthogonalised together
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike[parameter.flatten(1).shape].append(parameter)
            for shape, parameters in alike.items():
                gradients = [self._with_momentum(each, group["momentum"]) for each in parameters]
                steps = orthogonal(torch.stack(gradients)) * LIKE_ADAMW * max(shape) ** 0.5
                for parameter, step in zip(parameters, steps, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.sub_(step.view_as(parameter), alpha=group["lr"])

    def _with_momentum(self, parameter: nn.Parameter, momentum: float) -> Tensor:
        """Nesterov's: the gradient, and the mean of those before it."""
        state = self.state[parameter]
        if not state:
            state["mean"] = torch.zeros_like(parameter)
        state["mean"].lerp_(parameter.grad, 1 - momentum)
        return parameter.grad.lerp(state["mean"], momentum).flatten(1)


def orthogonal(matrices: Float[Tensor, "count row column"]) -> Float[Tensor, "count row column"]:
    """Each with its singular values brought near 1; those far below the largest stay smaller."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    a, b, c = QUINTIC
    for _ in range(ITERATIONS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
