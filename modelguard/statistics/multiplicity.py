"""What many tries cost: key grinding, suspects, registrations, and families of tests."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from modelguard.errors import InputError
from modelguard.statistics._inputs import integer_in, probability

_UNSTAMPED_BITS = 80  # nobody computes more than 2^80 keys


@dataclass(frozen=True)
class Multiplicity:
    """How many tries a claimant could have had; the p-value is multiplied by all of them.

    Attributes:
        suspects: models tested with this key, >= 1.
        registrations: keys registered for this model, >= 1.
        grind_bits: log2 of the keys the owner could have tried before committing, >= 0; see `grind_bits`.

    Raises:
        InputError: a count is no integer or too small.
    """

    suspects: int = 1
    registrations: int = 1
    grind_bits: int = 60

    def __post_init__(self) -> None:
        """Refuse counts that make no sense."""
        integer_in("suspects", self.suspects, 1)
        integer_in("registrations", self.registrations, 1)
        integer_in("grind_bits", self.grind_bits, 0, 4096)

    @property
    def factor(self) -> int:
        """The factor on the p-value, exactly: suspects * registrations * 2^grind_bits."""
        return int(self.suspects) * int(self.registrations) << int(self.grind_bits)

    @property
    def log10(self) -> float:
        """log10 of `factor`."""
        return math.log10(self.factor)

    def adjust(self, log10_p: float) -> float:
        """Return log10 of the adjusted p-value min(1, p * factor) (Bonferroni: valid under any dependence).

        Raises:
            InputError: `log10_p` is positive or NaN.
        """
        if not log10_p <= 0.0:
            raise InputError(f"log10_p: {log10_p!r} is not <= 0", "give log10 of a p-value")
        return min(0.0, log10_p + self.log10)


def grind_bits(salt_source: str) -> int:
    """Return log2 of the keys an owner could have tried, given where the key's salt came from.

    Args:
        salt_source: "tst-signature/1" (signature of an RFC 3161 token: 2^24 requests at most),
            "scrypt/<k>" (no token, but each try costs 2^k scrypt-hardened operations, k in 1..30), or "none".

    Raises:
        InputError: the source is unknown.
    """
    if salt_source == "tst-signature/1":
        return 24
    if salt_source == "none":
        return _UNSTAMPED_BITS
    stretched = re.fullmatch(r"scrypt/([1-9]|[12][0-9]|30)", salt_source)
    if stretched is None:
        raise InputError(
            f"salt_source: {salt_source!r} is unknown",
            'use "tst-signature/1", "scrypt/<k>" with k in 1..30, or "none"',
        )
    return _UNSTAMPED_BITS - int(stretched[1])


def holm(log10_ps: Sequence[float] | npt.NDArray[np.float64], alpha: float) -> npt.NDArray[np.bool_]:
    """Return which tests Holm's step-down rejects: no false one with probability 1 - alpha, any dependence.

    Args:
        log10_ps: (m,) log10 p-values, each <= 0; -inf is allowed.
        alpha: family-wise error rate.

    Raises:
        InputError: no values, a positive or NaN value, or `alpha` outside (0, 1).
    """
    values = _vector("log10_ps", log10_ps)
    if (values > 0).any():
        raise InputError(f"log10_ps: {values.max()!r} is not <= 0", "give log10 of p-values")
    order = np.argsort(values, kind="stable")
    limits = math.log10(probability("alpha", alpha)) - np.log10(np.arange(values.size, 0, -1))
    passed = np.logical_and.accumulate(values[order] <= limits)
    rejected = np.zeros(values.size, dtype=np.bool_)
    rejected[order] = passed
    return rejected


def e_bh(log10_es: Sequence[float] | npt.NDArray[np.float64], alpha: float) -> npt.NDArray[np.bool_]:
    """Return which tests e-BH rejects: false discovery rate <= alpha under any dependence.

    Use it to screen many suspects with one key, whose results are dependent (Wang & Ramdas, JRSS-B 2022).

    Args:
        log10_es: (m,) log10 e-values, such as `SoftEProcess.log10_e`; infinities are allowed.
        alpha: false discovery rate.

    Raises:
        InputError: no values, a NaN, or `alpha` outside (0, 1).
    """
    values = _vector("log10_es", log10_es)
    ranked = np.sort(values)[::-1]
    limits = math.log10(values.size) - np.log10(np.arange(1, values.size + 1))
    passing = np.flatnonzero(ranked >= limits - math.log10(probability("alpha", alpha)))
    if passing.size == 0:
        return np.zeros(values.size, dtype=np.bool_)
    rejected: npt.NDArray[np.bool_] = values >= ranked[passing[-1]]
    return rejected


def bits_needed(n: int, alpha: float, multiplicity: Multiplicity) -> int:
    """Return the fewest agreeing bits out of n whose adjusted hard p-value is at most alpha, exactly.

    Args:
        n: answered bits, >= 1.
        alpha: adjusted significance level.
        multiplicity: the tries to account for.

    Raises:
        InputError: even n agreeing bits do not reach alpha, or an argument is out of range.
    """
    n = integer_in("n", n, 1)
    level = Fraction(probability("alpha", alpha)) / multiplicity.factor
    largest_tail = (level.numerator << n) // level.denominator  # adjusted p <= alpha exactly up to this tail
    if largest_tail < 1:
        least = (-(-level.denominator // level.numerator) - 1).bit_length()
        tries = math.log2(multiplicity.factor)
        raise InputError(
            f"n: {n} bits cannot reach alpha {alpha:g} with a multiplicity of 2^{tries:.1f}",
            f"use at least {least} bits, all of which must then agree",
        )
    needed, tail, term = n, 1, n  # term is C(n, needed - 1), the vectors one more tolerated miss lets in
    while tail + term <= largest_tail:
        tail += term
        needed -= 1
        term = term * needed // (n - needed + 1)
    return needed


def _vector(name: str, values: Sequence[float] | npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0 or np.isnan(array).any():
        raise InputError(f"{name}: not a non-empty list of numbers without NaN", "give one value per test")
    return array
