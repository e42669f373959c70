"""Checks shared by the tests of this room; each names the argument and the remedy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from modelguard.errors import InputError


def integer_vector(name: str, values: npt.ArrayLike) -> npt.NDArray[Any]:
    """Return `values` as a non-empty 1-D integer array, or raise InputError."""
    array = np.asarray(values)
    if array.ndim != 1 or array.size == 0:
        raise InputError(f"{name}: shape {array.shape} is not (n,) with n >= 1", "give one integer per cell")
    if array.dtype.kind not in "iu":
        raise InputError(
            f"{name}: dtype {array.dtype} is not an integer type",
            "decode to integers first: the exact test has no rounding of its own",
        )
    return array


def bits_and_scores(
    bits: npt.ArrayLike, scores: npt.ArrayLike
) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]]:
    """Return secret bits in {-1, +1} and scores, both (n,), or raise InputError."""
    signs = integer_vector("bits", bits)
    values = integer_vector("scores", scores)
    if signs.shape != values.shape:
        raise InputError(
            f"scores: {values.size} scores for {signs.size} bits",
            "decode every cell; a refused cell is a score of 0",
        )
    if not ((signs == 1) | (signs == -1)).all():
        raise InputError("bits: a value is neither -1 nor +1", "map bit 0 to -1 and bit 1 to +1")
    return signs.astype(np.int64), values


def integer_in(name: str, value: int, low: int, high: float = math.inf) -> int:
    """Return `value` as int if low <= value <= high, or raise InputError."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not low <= value <= high:
        bound = f">= {low}" if math.isinf(high) else f"in [{low}, {high:.0f}]"
        raise InputError(f"{name}: {value!r} is not an integer {bound}", f"give an integer {bound}")
    return int(value)


def probability(name: str, value: float) -> float:
    """Return `value` if 0 < value < 1, or raise InputError."""
    if not 0.0 < value < 1.0:
        raise InputError(f"{name}: {value!r} is not strictly between 0 and 1", "give a value such as 1e-6")
    return float(value)
