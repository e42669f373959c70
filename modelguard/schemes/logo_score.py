"""The measures of Zhang et al. (TPAMI 2022) for their logos, and what an empty or a wrong picture scores."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from modelguard.datasets import to_uint8
from modelguard.errors import InputError
from modelguard.schemes.logo_barrier import Embedder, Extractor, padded
from modelguard.statistics import centred_ncc, ncc

THRESHOLD = 0.95
"""A correlation above this is the paper's success."""


@dataclass(frozen=True)
class Scores:
    """What R and C say about some images; means over them, after rounding to 8 bits.

    Attributes:
        images: how many.
        nc: the paper's un-centred correlation with the logo, eq. 13.
        centred_nc: Pearson's correlation with it.
        sr_nc: part of the images with `nc` above 0.95, the paper's success rate.
        sr_centred: the same by `centred_nc`.
        sr_c: part of the images in which C names this logo.
        blank_nc: `nc` of an empty white picture, which is what R gives for clean images.
        wrong_nc: `nc` with a logo that nobody embedded.
        wrong_centred_nc: `centred_nc` with it.
    """

    images: int
    nc: float
    centred_nc: float
    sr_nc: float
    sr_centred: float
    sr_c: float
    blank_nc: float
    wrong_nc: float
    wrong_centred_nc: float


def score(
    extractor: Extractor, embedder: Embedder, images: Iterable[Tensor], wrong: Tensor, mark: int = 0
) -> Scores:
    """Ask R and C for a logo in `images`.

    Args:
        extractor: R.
        embedder: H of the same pair, for its logo.
        images: answers of a suspect, (C, H, W) in [0, 1].
        wrong: a logo (L, h, w) in [0, 1] that is not in the images.
        mark: number of the logo that is looked for.

    Raises:
        InputError: R belongs to another H or is untrained, there is no image, or one is smaller than a logo.
    """
    if not extractor.pair or extractor.pair != embedder.pair:
        ids = f"{extractor.pair[:12] or 'untrained'} and {embedder.pair[:12] or 'untrained'}"
        raise InputError(
            f"extractor, embedder: they are of the pairs {ids}", "load the two that were trained together"
        )
    rows = []
    for image in images:
        picture, found = extractor.extract(image)
        right, foreign = (
            to_uint8(x).float().cpu() / 255
            for x in (embedder.logo(mark, *picture.shape[-2:]), padded(wrong, *picture.shape[-2:]))
        )
        plain, centred = ncc(picture, right), centred_ncc(picture, right)
        success = (plain > THRESHOLD, centred > THRESHOLD, found == mark + 1)
        blank = ncc(torch.ones_like(right), right)
        rows.append((plain, centred, *success, blank, ncc(picture, foreign), centred_ncc(picture, foreign)))
    if not rows:
        raise InputError("images: there is nothing to score", "give at least one image")
    return Scores(len(rows), *(sum(column) / len(rows) for column in zip(*rows, strict=True)))
