"""Task quality of a model, always taken after clamping and rounding to 8 bits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from modelguard.datasets import Task, mixed_seed, to_uint8
from modelguard.errors import InputError
from modelguard.networks import evaluating


@dataclass(frozen=True)
class Quality:
    """Mean PSNR (dB) and SSIM (11x11 Gaussian window, range 1) over images."""

    psnr: float
    ssim: float
    images: int


def quality(
    model: nn.Module,
    images: Iterable[Tensor],
    task: Task,
    *,
    border: int = 0,
    seed: int = 0,
    with_ssim: bool = False,
) -> Quality:
    """Measure `model` on `task` over whole images.

    Args:
        model: maps (1, C, H, W) to (1, C, sH, sW); used in evaluation mode and put back.
        images: clean float images (C, H, W) in [0, 1].
        task: makes (input, target) from a clean image.
        border: pixels cut from each side before measuring; the scale factor, by custom, for super-resolution.
        seed: of the task's noise; the same seed gives every model the same inputs.
        with_ssim: also measure SSIM (slower); otherwise it is NaN.

    Raises:
        InputError: there are no images.
    """
    made = (
        task(clean, torch.Generator().manual_seed(mixed_seed(seed, number)))
        for number, clean in enumerate(images)
    )
    return pair_quality(model, made, border=border, with_ssim=with_ssim)


def pair_quality(
    model: nn.Module, pairs: Iterable[tuple[Tensor, Tensor]], *, border: int = 0, with_ssim: bool = False
) -> Quality:
    """Measure `model` on ready-made (input, target) pairs, such as `ImagePairs`; see `quality`."""
    parameter = next(model.parameters(), torch.empty(0))
    psnrs, ssims = [], []
    for degraded, target in pairs:
        with evaluating(model):
            answer = model(degraded[None].to(parameter.device, parameter.dtype))
        pair = [to_uint8(x).float().div(255).cpu() for x in (answer[0], target)]
        if border:
            pair = [x[:, border:-border, border:-border] for x in pair]
        a, b = pair[0][None], pair[1][None]
        psnrs.append(float(peak_signal_noise_ratio(a, b, data_range=1.0)))
        if with_ssim:
            ssims.append(float(structural_similarity_index_measure(a, b, data_range=1.0)))  # type: ignore[arg-type]
    count = len(psnrs)
    if not count:
        raise InputError("images: there is nothing to measure on", "give at least one image")
    return Quality(sum(psnrs) / count, sum(ssims) / count if ssims else float("nan"), count)
