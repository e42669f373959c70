"""The exact keyed sign test: one p-value, a fraction of integers, for all schemes.

Under the null hypothesis the secret bits are uniform given everything the suspect and the decoder did, so
the statistic has the law of sum_i e_i w_i with independent fair signs e_i, whatever the scores are.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from modelguard.errors import InputError
from modelguard.statistics._inputs import bits_and_scores, integer_in, integer_vector

_MAX_WORK = 2**35  # bytes added in the convolution; about half a minute, and a stranger may choose the sizes


@dataclass(frozen=True)
class SignTest:
    """Outcome of an exact sign test.

    Attributes:
        bits: number n of cells, refused ones included.
        matches: number of answered cells whose score has the sign of the secret bit.
        statistic: T = sum_i b_i sgn(c_i) w_i.
        total: largest possible statistic, sum_i w_i.
        tail: number of the 2^n sign vectors whose statistic is at least T.

    Raises:
        InputError: `bits` < 1 or `tail` is not in [1, 2^bits], so there is no p-value.
    """

    bits: int
    matches: int
    statistic: int
    total: int
    tail: int

    def __post_init__(self) -> None:
        """Refuse a tail that no weights can have."""
        if self.bits < 1 or not 1 <= self.tail <= 1 << self.bits:
            raise InputError(f"tail: not in [1, 2^bits] for {self.bits} bits", "take it from upper_tail")

    @property
    def p(self) -> Fraction:
        """The p-value tail / 2^bits, exactly."""
        return Fraction(self.tail, 1 << self.bits)

    @property
    def log10_p(self) -> float:
        """log10 of the p-value; at most 0 and never underflows."""
        shift = self.tail.bit_length() - 64
        leading = self.tail >> shift if shift > 0 else self.tail << -shift
        return min(0.0, math.log10(leading) + (shift - self.bits) * math.log10(2))


def quantise_weights(scores: npt.ArrayLike, levels: int = 15) -> npt.NDArray[np.int64]:
    """Return round_half_up(levels * |c| / max|c|) in exact integer arithmetic.

    Args:
        scores: (n,) integers, the key-blind scores c.
        levels: largest weight, in [1, 65535]. Few levels keep the exact count fast.

    Returns:
        (n,) weights in [0, levels]; all zeros if every score is zero.

    Raises:
        InputError: `scores` is not a non-empty integer vector, or `levels` is out of range.
    """
    levels = integer_in("levels", levels, 1, 65535)
    values: list[int] = integer_vector("scores", scores).tolist()  # Python integers cannot overflow
    magnitudes = [abs(value) for value in values]
    largest = max(magnitudes)
    if largest == 0:
        return np.zeros(len(magnitudes), dtype=np.int64)
    rounded = [(2 * levels * magnitude + largest) // (2 * largest) for magnitude in magnitudes]
    return np.array(rounded, dtype=np.int64)


def upper_tail(weights: npt.ArrayLike, statistic: int) -> int:
    """Return #{e in {-1, +1}^n : sum_i e_i w_i >= statistic}, exactly.

    With w in 0..15 this takes milliseconds for n = 256 and at most about 0.3 s for n = 1024.

    Args:
        weights: (n,) non-negative integers.
        statistic: the observed sum; need not be attainable.

    Raises:
        InputError: a weight is negative, `statistic` is no integer, or the weights are too many and too
            large to count (equal weights never are).
    """
    values: list[int] = integer_vector("weights", weights).tolist()
    if min(values) < 0:
        raise InputError(f"weights: {min(values)} is negative", "give magnitudes; signs belong to the bits")
    try:
        statistic = operator.index(statistic)
    except TypeError as error:
        raise InputError(f"statistic: {statistic!r} is no integer", "sum integer weights") from error
    total = sum(values)
    lost = (total - statistic) // 2  # sum >= statistic exactly if the -1s carry at most this weight
    if lost < 0:
        return 0
    if lost >= total:
        return 1 << len(values)
    positive = [value for value in values if value]
    free = len(values) - len(positive)
    # The weights of a set and of its complement add up to the total: count whichever side is smaller.
    if 2 * lost < total:
        return _subsets_within(positive, lost) << free
    return (1 << len(values)) - (_subsets_within(positive, total - lost - 1) << free)


def sign_test(bits: npt.ArrayLike, scores: npt.ArrayLike, levels: int = 15) -> SignTest:
    """Test whether key-blind scores agree with secret bits, weighting each cell by its confidence.

    Valid at every level for every suspect, stateful or adversarial, as long as `scores` were computed
    without knowing `bits`.

    Args:
        bits: (n,) integers in {-1, +1}, the secret bits b.
        scores: (n,) integers, the decoder's scores c; 0 for a refused cell.
        levels: largest weight; see `quantise_weights`.

    Raises:
        InputError: shapes, types or ranges are wrong, or the count is too large; see `upper_tail`.
    """
    return _tested(bits, scores, quantise_weights(scores, levels))


def hard_sign_test(bits: npt.ArrayLike, scores: npt.ArrayLike) -> SignTest:
    """Test the signs alone: `matches` among the answered cells is Bin(total, 1/2) under the null hypothesis.

    Args:
        bits: (n,) integers in {-1, +1}, the secret bits b.
        scores: (n,) integers; only the sign counts, 0 for a refused cell.

    Raises:
        InputError: shapes, types or ranges are wrong.
    """
    return _tested(bits, scores, (integer_vector("scores", scores) != 0).astype(np.int64))


def _tested(bits: npt.ArrayLike, scores: npt.ArrayLike, weights: npt.NDArray[np.int64]) -> SignTest:
    signs, values = bits_and_scores(bits, scores)
    agreement = signs * np.sign(values).astype(np.int64)
    statistic = int(agreement @ weights)
    return SignTest(
        bits=signs.size,
        matches=int((agreement > 0).sum()),
        statistic=statistic,
        total=int(weights.sum()),
        tail=upper_tail(weights, statistic),
    )


def _subsets_within(weights: list[int], limit: int) -> int:
    """Count the subsets of `weights` (positive) that weigh at most `limit` (below their total)."""
    if min(weights) == max(weights):
        return sum(_binomials(len(weights), limit // weights[0]))
    # Convolving two halves and joining them by a dot product costs a quarter of convolving all: each half
    # has half the columns, and its counts half the digits. Small weights first keep the early sums short.
    ordered = sorted(weights)
    width = len(weights) // 16 + 1
    if len(weights) * (min(limit, sum(weights) // 2) + 1) * width > _MAX_WORK:
        raise InputError(
            f"weights: {len(weights)} weights adding up to {sum(weights)} are too many to count exactly",
            "use hard_sign_test, fewer levels or fewer cells",
        )
    left = _weight_counts(ordered[::2], limit)
    right = list(accumulate(_weight_counts(ordered[1::2], limit)))
    return sum(count * right[min(limit - weight, len(right) - 1)] for weight, count in enumerate(left))


def _binomials(n: int, last: int) -> Iterator[int]:
    """Yield C(n, 0), ..., C(n, last)."""
    term = 1
    for k in range(last + 1):
        yield term
        term = term * (n - k) // (k + 1)


def _weight_counts(weights: list[int], limit: int) -> list[int]:
    """Count the subsets of ascending `weights` by what they weigh, up to `limit`: the product of 1 + x^w."""
    width = len(weights) // 8 + 1  # bytes a coefficient: holds 2^len(weights), so columns never carry over
    packed, degree = 1, 0
    for weight in weights:
        if weight > limit:
            break  # ascending: none of the rest fits
        packed += packed << (8 * width * weight)
        degree += weight
        if degree > limit:
            degree = limit
            packed &= (1 << (8 * width * (limit + 1))) - 1
    raw = packed.to_bytes(width * (degree + 1), "little")
    return [int.from_bytes(raw[start : start + width], "little") for start in range(0, len(raw), width)]
