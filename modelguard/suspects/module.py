"""A suspect that is a PyTorch module in this process."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from modelguard.datasets import to_uint8
from modelguard.errors import SuspectError
from modelguard.networks import device_of, evaluating
from modelguard.suspects.base import Answer, Pixels, check_query, to_png


class ModuleSuspect:
    """Asks `model` in evaluation mode, as it is deployed: 8-bit images in and out.

    Args:
        model: maps (1, C, H, W) in [0, 1] to (1, C, H', W'), on any one device and in any precision;
            left as it was.
        channel: what happens to the answer on its way, such as `modelguard.distortions.Jpeg`; takes and
            returns float images in [0, 1].
    """

    def __init__(self, model: nn.Module, channel: nn.Module | None = None) -> None:
        self.model, self.channel = model, channel
        self.kind, self.endpoint = "module", type(model).__qualname__

    def ask(self, query: Pixels) -> Answer:
        """Put one query (H, W, C) to the model; see `Suspect`."""
        check_query(query)
        parameter = next(self.model.parameters(), torch.empty(0))
        image = torch.from_numpy(query.copy()).permute(2, 0, 1)[None].float().div(255)
        try:
            with evaluating(self.model):
                answer = self.model(image.to(device_of(self.model), parameter.dtype))
        except Exception as error:
            raise SuspectError(
                f"suspect: the model failed on {tuple(image.shape)} with {type(error).__name__}: {error}",
                "check that the model takes (1, C, H, W) of this many channels",
            ) from error
        if (problem := _problem(answer, query.shape[2])) is not None:
            raise SuspectError(
                f"suspect: the model answered with {problem}",
                f"it must return finite values (1, {query.shape[2]}, H, W)",
            )
        answer = answer.float().clamp(0, 1)
        if self.channel is not None:
            with torch.no_grad():
                answer = self.channel(answer)
        pixels = np.ascontiguousarray(to_uint8(answer)[0].permute(1, 2, 0).cpu().numpy())
        return Answer(pixels, to_png(pixels), "image/png", 200)


def _problem(answer: object, channels: int) -> str | None:
    if not isinstance(answer, Tensor):
        return f"a {type(answer).__name__}"
    if answer.ndim != 4 or answer.shape[:2] != (1, channels) or not answer.numel():
        return f"a tensor of shape {tuple(answer.shape)}"
    if not answer.isfinite().all():
        return f"{int((~answer.isfinite()).sum())} non-finite values of {answer.numel()}"
    return None
