"""Muon: momentum whose singular values are made equal (Jordan et al., 2024), for convolutions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn


class Muon(torch.optim.Adam):
    """Adam for biases and for the layers at a net's ends; Muon for the weights between.

    A weight is taken as a matrix of output channels by everything else. Updates are scaled to the size that
    Adam's have (Liu et al., 2025), so that one learning rate serves both. What it gains over Adam in marking
    is measured in `modelguard bench carriers`.

    Args:
        params: of one model.
        lr: learning rate.
        momentum: of the matrices.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float = 1e-3, momentum: float = 0.95) -> None:
        super().__init__(params, lr)
        self.momentum = momentum

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; the gradients of the matrices are used up."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None or weight.ndim < 2 or min(weight.shape[:2]) < 8:
                    continue
                state = self.state[weight]
                if not state:  # Adam reads the step of every state
                    state["step"], state["momentum"] = torch.zeros(()), torch.zeros_like(weight)
                state["step"] += 1
                state["momentum"].lerp_(weight.grad, 1 - self.momentum)
                ahead = weight.grad.lerp(state["momentum"], self.momentum).flatten(1)
                change = orthogonal(ahead) * (0.2 * max(ahead.shape) ** 0.5)
                weight.sub_(change.view(weight.shape), alpha=group["lr"])
                weight.grad = None
        super().step()
        return loss


def orthogonal(matrix: Tensor) -> Tensor:
    """Return a matrix with the singular vectors of the given one and singular values of about 1.

    Five steps of the quintic iteration of Jordan et al.; the values end between .7 and 1.2. A step multiplies
    the matrix by a polynomial of its Gram matrix. The polynomials commute, so that they are gathered on the
    shorter side, and the matrix itself is multiplied once.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.mT if tall else matrix
    x = x / (torch.linalg.matrix_norm(x) + 1e-7)
    gram = x @ x.mT
    total = one = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    for _ in range(5):
        step = 3.4445 * one - 4.7750 * gram + 2.0315 * gram @ gram
        total, gram = step @ total, step @ gram @ step
    return cast(Tensor, (total @ x).mT if tall else total @ x)
