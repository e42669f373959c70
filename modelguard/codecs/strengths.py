"""How strongly an image must be marked for the mark to outlive what it shall."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from modelguard.datasets import to_uint8
from modelguard.distortions import AgainstCover
from modelguard.errors import EmbeddingError, InputError

FACTORS = tuple(1.12**step for step in range(-1, 9))  # a tenth less to two and a half times
MARGIN = 0.1  # of the least sure bit, where 1 is a clear image


def check_survives(survives: Sequence[nn.Module]) -> None:
    """Raise InputError unless each can be asked what becomes of an image."""
    if isinstance(survives, nn.Module):
        raise InputError(f"survives: {survives!r} is no list of distortions", "put it into one")
    for number, one in enumerate(survives):
        if not isinstance(one, nn.Module) or isinstance(one, AgainstCover):
            raise InputError(
                f"survives[{number}]: {one!r} is no distortion of an image alone",
                "give modules such as Jpeg(50) or Blur(2)",
            )


@torch.no_grad()
def least(
    image: Tensor,
    change: Tensor,
    strength: float,
    survives: Sequence[nn.Module],
    margin: Callable[[Tensor], float],
) -> float:
    """Return the least factor on the change of an image with which its mark outlives every distortion.

    Args:
        image: unmarked, (1, C, H, W) in [0, 1].
        change: to be scaled and added.
        strength: the factors tried are `FACTORS` times this.
        survives: distortions; each is applied to the marked image, saved in 8 bits.
        margin: takes a distorted image and returns how sure the least sure bit is, negative if it is wrong.

    Raises:
        EmbeddingError: no factor is enough.
    """
    for factor in FACTORS:
        marked = to_uint8(image + factor * strength * change).float() / 255
        if all(margin(distortion(marked)) > MARGIN for distortion in survives):
            return factor * strength
    raise EmbeddingError(
        f"image: at up to {FACTORS[-1] * strength:.2g} times the mark, this picture does not hold it through "
        f"{', '.join(map(repr, survives))}",
        "raise the strength, ask for less to survive, or mark another picture",
    )
