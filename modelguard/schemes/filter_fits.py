"""How much of each filter of a bank an answer holds: what the readers of filters share, in whole numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modelguard.errors import InputError
from modelguard.schemes.photo_marks import Public
from modelguard.schemes.planes import ONE, REACH, Integers, detail, mean

CUT = 96
"""Where the values of a filter are cut."""
_ROWS = 16  # of pixels whose features are held at a time


def brightness(tone: Integers, middle: int, farthest: int) -> Integers:
    """Return how bright it is around each pixel, in half grey levels from `middle`, cut at `farthest`."""
    cut: Integers = np.clip(2 * (mean(mean(tone, 2), 2) // ONE - middle), -farthest, farthest)
    return cut


def check_one_leaf(scheme: Public) -> None:
    """Raise InputError unless a session reads one leaf, which holds a sign for each filter there is."""
    if scheme["perSession"] != 1:
        raise InputError(
            f"scheme: {scheme['perSession']} leaves a session, not 1",
            "use the parameters that `public` returns",
        )


def changes(
    shown: Integers, asked: Integers, directions: Sequence[Sequence[int]], lengths: Sequence[int]
) -> Integers:
    """Return what each direction of colour changed by, fine structure only: (directions, H, W).

    Args:
        shown: answer (H, W, C) in 1/16 grey level.
        asked: query, likewise.
        directions: of change, C numbers each.
        lengths: 256 over the lengths of the directions.
    """
    fine = np.stack([detail(shown[..., one]) - detail(asked[..., one]) for one in range(shown.shape[2])])
    found = np.array(lengths)[:, None, None] * np.tensordot(np.array(directions), fine, 1) >> 8
    cut: Integers = np.clip(found, -REACH * ONE, REACH * ONE)
    return cut


def fits(
    tone: Integers, seen: Integers, filters: Integers, shift: int, kinds: Integers, steps: int
) -> Integers:
    """Return how much of each feature is in each change: (directions, features).

    What features have in common in this photo is taken away by steps towards their least-squares fit. Photos
    weigh by the power of the features over that of the change.

    Args:
        tone: brightness of the answer (H, W) in 1/16 grey level.
        seen: changes (directions, H, W).
        filters: (filters, side, side).
        shift: bits by which the sums of a filter are made smaller.
        kinds: what each filter is multiplied with, (H, W, kinds) in 1/128; the features, kind by kind.
        steps: in which the overlap of the features is taken away.
    """
    shared, overlap = sums(tone, seen, filters, shift, kinds)
    power = int(np.trace(overlap)) // len(overlap)
    noise = (seen * seen).sum(axis=(1, 2)) // tone.size + ONE**2
    found: Integers = _fitted(shared, overlap, power, steps) * (power // noise)[:, None]
    return found


def sums(
    tone: Integers, seen: Integers, filters: Integers, shift: int, kinds: Integers
) -> tuple[Integers, Integers]:
    """Return <E, features>, (directions, features), and <features, features> from every third pixel."""
    side, features = filters.shape[1], kinds.shape[2] * len(filters)
    flat = filters.reshape(len(filters), -1).T.astype(np.float64)
    padded = np.pad(tone, side // 2, mode="edge").astype(np.float64)
    shared, overlap = np.zeros((len(seen), features), np.int64), np.zeros((features, features), np.int64)
    for top in range(0, len(tone), _ROWS):
        rows = padded[top : top + _ROWS + side - 1]
        near = np.lib.stride_tricks.sliding_window_view(rows, (side, side)).reshape(-1, side * side)
        # floats below 2^53 add up exactly in any order, and are what fast matrix products are made for
        answers = np.clip((near @ flat).astype(np.int64) >> shift, -CUT, CUT)
        some = kinds[top : top + _ROWS].reshape(-1, kinds.shape[2], 1)
        every = (some * answers[:, None] >> 7).reshape(-1, features).astype(np.float64)
        change = seen[:, top : top + _ROWS].reshape(len(seen), -1).astype(np.float64)
        shared += (change @ every).astype(np.int64)
        few = every.reshape(-1, tone.shape[1], features)[-top % 3 :: 3, ::3].reshape(-1, features)
        overlap += 9 * (few.T @ few).astype(np.int64)
    return shared, overlap


def _fitted(shared: Integers, overlap: Integers, power: int, steps: int) -> Integers:
    """Return the damped least-squares fit in 2^-16: a fixed number of Landweber's steps."""
    damped = overlap + (power // 10 + ONE**2) * np.eye(len(overlap), dtype=np.int64)
    step = int(np.abs(damped).sum(axis=1).max())
    aim, found = shared << 16, np.zeros_like(shared)
    for _ in range(steps):
        found = found + (aim - found @ damped) // step
    return found
