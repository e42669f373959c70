"""Windows of consecutive frames over a stream of any length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from modelguard.errors import InputError


def windows(frames: Iterable[Tensor], length: int = 5, step: int = 3) -> Iterator[tuple[Tensor, int]]:
    """Yield windows of `length` frames, one every `step`, and how many of each are its own.

    Every frame is among the own ones of exactly one window: the first `step`, or all that the last window
    has. A last window that is short, and so a whole clip shorter than `length`, is filled up by repeating its
    last frame. At most `length` + 1 frames are held.

    Args:
        frames: (C, H, W), all of one size.
        length: frames of a window.
        step: frames between the beginnings of windows, 1 to `length`.

    Yields:
        (length, C, H, W), and a number from 1 to `length`.

    Raises:
        InputError: no frames, frames of differing sizes, or `step` out of range.
    """
    if not 1 <= step <= length:
        raise InputError(f"step: {step} is not from 1 to {length}", "windows must touch or overlap")
    held: list[Tensor] = []
    for number, frame in enumerate(frames):
        if held and frame.shape != held[-1].shape:
            raise InputError(
                f"frames: number {number} is {size_of(frame)} px, those before are {size_of(held[-1])} px",
                "cut or resize them to one size",
            )
        held.append(frame)
        if len(held) > length:
            yield torch.stack(held[:length]), step
            del held[:step]
    if not held:
        raise InputError("frames: there are none", "give at least one")
    missing = [held[-1]] * (length - len(held))
    yield torch.stack([*held, *missing]), len(held)


def size_of(frame: Tensor) -> str:
    """Return the size of (C, H, W) as people write it: width x height."""
    return f"{frame.shape[-1]} x {frame.shape[-2]}"
