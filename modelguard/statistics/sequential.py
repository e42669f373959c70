"""Anytime-valid tests: ask a rate-limited suspect bit by bit, peek, stop and resume as you like.

Each process starts at 1 and under the null hypothesis is a non-negative martingale in the secret bits, so
P(it ever reaches 1/alpha) <= alpha (Ville's inequality; Ramdas et al., arXiv 2210.01948).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from modelguard.errors import InputError
from modelguard.statistics._inputs import bits_and_scores, probability

_LN2, _LN10 = math.log(2), math.log(10)


class _EProcess(ABC):
    """What both e-processes share: the current value, its running supremum and the decision."""

    def __init__(self) -> None:
        self._log_e = 0.0
        self._supremum = 0.0

    def update(self, bits: npt.ArrayLike, scores: npt.ArrayLike) -> float:
        """Add cells in the order they were committed to, and return the current log10 e-value.

        Args:
            bits: (n,) integers in {-1, +1}, secret bits never used in this process before.
            scores: (n,) integers, decoded without knowing `bits`; 0 (refused) changes nothing.

        Raises:
            InputError: shapes, types or ranges are wrong; the process is then unchanged.
        """
        signs, values = bits_and_scores(bits, scores)
        answered = values != 0
        if answered.any():
            path = self._advance(signs[answered], values[answered])
            self._log_e = float(path[-1])
            self._supremum = max(self._supremum, float(path.max()))
        return self.log10_e

    @property
    def log10_e(self) -> float:
        """log10 of the current e-value: the one to average or to give to `e_bh`."""
        return self._log_e / _LN10

    @property
    def log10_p(self) -> float:
        """log10 of the anytime-valid p-value, 1 over the largest e-value so far; at most 0, never grows."""
        return min(0.0, -self._supremum / _LN10)

    def rejects(self, alpha: float) -> bool:
        """Return whether the e-value has reached 1/alpha after any cell so far; once true, always true.

        Raises:
            InputError: `alpha` is not strictly between 0 and 1.
        """
        return self._supremum >= -math.log(probability("alpha", alpha))

    @abstractmethod
    def _advance(self, signs: npt.NDArray[np.int64], scores: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Return ln E after each of these answered cells."""


class MixtureEProcess(_EProcess):
    """E-process of hard bits, mixing the agreement rate uniformly over [1/2, 1].

    After t answered cells, k of them agreeing, E = 2^(t+1) * integral_{1/2}^1 q^k (1-q)^(t-k) dq.
    """

    def __init__(self) -> None:
        """Start at an e-value of 1."""
        super().__init__()
        self._cells = 0
        self._matches = 0

    def _advance(self, signs: npt.NDArray[np.int64], scores: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        agree = (signs > 0) == (scores > 0)
        cells = self._cells + np.arange(1, agree.size + 1)
        matches = self._matches + np.cumsum(agree)
        self._cells, self._matches = int(cells[-1]), int(matches[-1])
        return _log_mixture(matches, cells)


class SoftEProcess(_EProcess):
    """E-process of weighted bits: the mean over lambda of prod_i exp(lambda b_i x_i) / cosh(lambda x_i).

    Here x_i is the score c_i over `scale`. Sharper than `MixtureEProcess` where score sizes tell good
    cells from bad ones.

    Args:
        scale: typical size (root mean square) of a score, fixed before the bits it is used on are seen, such
            as that of an earlier query or of the registered model.
        lambdas: bets to mix, positive.

    Raises:
        InputError: `scale` or a lambda is not positive and finite, or there is no lambda.
    """

    def __init__(self, scale: float, lambdas: Sequence[float] = (0.1, 0.2, 0.4, 0.8, 1.6)) -> None:
        """Start at an e-value of 1."""
        super().__init__()
        if not (math.isfinite(scale) and scale > 0):
            raise InputError(f"scale: {scale!r} is not positive and finite", "give the RMS of earlier scores")
        if not lambdas or not all(math.isfinite(bet) and bet > 0 for bet in lambdas):
            raise InputError(f"lambdas: {lambdas!r} not all positive and finite", "give one or more, as 0.4")
        self._scale = float(scale)
        self._lambdas = np.array(lambdas, dtype=np.float64)
        self._log_products = np.zeros(len(lambdas))

    def _advance(self, signs: npt.NDArray[np.int64], scores: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        agree = (signs > 0) == (scores > 0)
        with np.errstate(over="ignore"):  # an infinite bet wins ln 2 or loses everything: still a fair bet
            bets = self._lambdas[:, None] * np.abs(scores.astype(np.float64) / self._scale)
        # ln(exp(+-a) / cosh a), written so that neither exponential can overflow
        gains = _LN2 - np.log1p(np.exp(-2 * bets)) - np.where(agree, 0.0, 2 * bets)
        products = self._log_products[:, None] + np.cumsum(gains, axis=1)
        self._log_products = products[:, -1]
        mixed: npt.NDArray[np.float64] = np.logaddexp.reduce(products, axis=0) - math.log(len(self._lambdas))
        return mixed


def _log_mixture(matches: npt.NDArray[np.int64], cells: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return ln of the uniform mixture, elementwise, for 0 <= matches <= cells."""
    misses = cells - matches
    upper = special.betainc(misses + 1.0, matches + 1.0, 0.5)  # 1 - I_{1/2}(k+1, t-k+1), with no cancellation
    with np.errstate(divide="ignore"):
        logs = (cells + 1) * _LN2 + special.betaln(matches + 1.0, misses + 1.0) + np.log(upper)
    for index in np.flatnonzero(upper < 1e-280):  # far below half agreement the closed form underflows
        k, m = int(matches[index]), int(misses[index])
        # Repeated integration by parts: E = (1 + k/(m+2) + k(k-1)/((m+2)(m+3)) + ...) / (m+1), here k < m
        terms = np.cumprod((k - np.arange(k)) / (m + 2.0 + np.arange(k)))
        logs[index] = math.log1p(float(terms.sum())) - math.log(m + 1)
    result: npt.NDArray[np.float64] = logs
    return result
