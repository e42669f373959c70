"""Which arithmetic this machine trains fastest in."""

from __future__ import annotations

from typing import Literal

import torch

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
