"""Large images through a net piece by piece, so that memory does not grow with them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def starts(extent: int, tile: int, overlap: int) -> list[int]:
    """Return where tiles begin along a side, so that they cover it; the last ends with it."""
    if extent <= tile:
        return [0]
    return [*range(0, extent - tile, tile - overlap), extent - tile]


def tiled(work: Callable[[Tensor], Tensor], images: Tensor, tile: int, overlap: int) -> Tensor:
    """Return `work(images)`, done on overlapping tiles that fade into each other.

    Args:
        work: maps (B, C, h, w) to (B, D, h, w).
        images: (B, C, H, W).
        tile: largest side that is worked on at once, px.
        overlap: of neighbours, px; below `tile`.
    """
    height, width = images.shape[2:]
    if max(height, width) <= tile:
        return work(images)
    total: Tensor | None = None
    weights = torch.zeros(height, width)
    for top in starts(height, tile, overlap):
        for left in starts(width, tile, overlap):
            rows, columns = (
                slice(top, min(top + tile, height)),
                slice(left, min(left + tile, width)),
            )
            answer = work(images[..., rows, columns])
            if total is None:
                total = answer.new_zeros(*answer.shape[:2], height, width)
            fade = _ramp(rows, height, overlap)[:, None] * _ramp(columns, width, overlap)
            total[..., rows, columns] += answer * fade.to(answer.device)
            weights[rows, columns] += fade
    assert total is not None
    return total / weights.to(total.device)


def _ramp(part: slice, extent: int, overlap: int) -> Tensor:
    """Return weights that fall towards those ends of a tile at which another one follows."""
    count = torch.arange(1.0, part.stop - part.start + 1)
    ramp = torch.ones_like(count)
    if part.start > 0:
        ramp = torch.minimum(ramp, count / (overlap + 1))
    if part.stop < extent:
        ramp = torch.minimum(ramp, count.flip(0) / (overlap + 1))
    return ramp
