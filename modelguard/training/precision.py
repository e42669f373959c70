"""Which arithmetic this machine trains fastest in."""

from __future__ import annotations

from itertools import chain
from typing import Literal

import torch
from torch import nn

Precision = Literal["auto", "bf16", "fp32"]


def resolve_precision(precision: Precision, device: torch.device) -> Literal["bf16", "fp32"]:
    """Return "bf16" where the hardware multiplies it natively, "fp32" elsewhere, unless one is forced."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if device.type == "cpu":
        return "bf16" if torch.cpu._is_avx512_bf16_supported() else "fp32"
    return "fp32"


def channels_last(model: nn.Module) -> nn.Module:
    """Lay out the weights of 2-D convolutions channels last, which are computed faster; return `model`.

    `Module.to` would refuse a model that also has 3-D convolutions.
    """
    for tensor in chain(model.parameters(), model.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
    return model
