"""What a thief took of a mark, for people to look at."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

ROWS, SIDE, GAIN = 4, 192, 10
"""Images shown, their largest side in pixels, and how often a change is enlarged."""


def picture(
    questions: Sequence[Tensor], marked: Sequence[Tensor], given: Sequence[Tensor], plain: Sequence[Tensor]
) -> Tensor:
    """Return one row for each of the first images, cut to one size.

    Across: the question, the protected answer, the thief's, and ten times what the protected and the thief's
    answer differ from the unmarked, about grey.

    Args:
        questions: uint8 (C, H, W).
        marked: the protected model's answers, uint8 (C, sH, sW).
        given: the thief's answers.
        plain: the unmarked model's answers.

    Returns:
        (C, rows * h, 5 * w) in [0, 1].
    """
    count = min(ROWS, len(marked))
    height, width = (min(SIDE, *(one.shape[side] for one in marked[:count])) for side in (1, 2))
    rows = []
    for question, with_mark, stolen, without in zip(
        questions[:count], marked[:count], given[:count], plain[:count], strict=True
    ):
        scale = with_mark.shape[1] // question.shape[1]
        asked = question.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
        asked, with_mark, stolen, without = (
            one[:, :height, :width].float() / 255 for one in (asked, with_mark, stolen, without)
        )
        changes = [0.5 + GAIN * (one - without) for one in (with_mark, stolen)]
        rows.append(torch.cat([asked, with_mark, stolen, *changes], 2))
    return torch.cat(rows, 1).clamp(0, 1)
