"""The papers' own measures, for comparison with their tables. None of them is evidence.

`eta` bounds how often a noisy copy fails, not how often an innocent model passes; an uncentred correlation
is high for any bright image.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import special

from modelguard.errors import InputError
from modelguard.statistics._inputs import integer_in, probability


def eta(n: int, sigma: float = 0.25, p: float = 0.05) -> float:
    """Return the distance threshold of Quan et al. (TNNLS 2021), eq. (8), for any output size.

    The constant 6.07e-3 of the paper holds for n = 1600 only: eta shrinks as 1/sqrt(n).

    Args:
        n: number of values in the trigger's output, all channels, >= 1.
        sigma: standard deviation of the assumed Gaussian error, in units of the [0, 1] range.
        p: lower-tail probability of the distance under that error.

    Returns:
        sigma * sqrt(q) / n, where q is the p-quantile of the chi-squared law with n degrees of freedom.

    Raises:
        InputError: an argument is out of range.
    """
    n = integer_in("n", n, 1)
    if not (math.isfinite(sigma) and sigma > 0):
        raise InputError(f"sigma: {sigma!r} is not positive and finite", "the paper uses 0.25")
    quantile = 2.0 * float(special.gammaincinv(n / 2, probability("p", p)))
    return sigma * math.sqrt(quantile) / n


def distance(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Return ||a - b||_2 / n, the distance of Quan et al., with n the number of values.

    Args:
        a: any shape, in [0, 1] for comparison with `eta`.
        b: same shape.

    Raises:
        InputError: shapes differ, an input is empty, or a value is not finite.
    """
    first, second = _pair(a, b)
    return float(np.linalg.norm(first - second)) / first.size


def ncc(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Return the uncentred correlation <a, b> / (||a|| ||b||) of Zhang et al. (TPAMI 2022), eq. (13).

    Not centred: a blank white image scores sqrt(w) against a binary logo with a fraction w of white.

    Args:
        a: any shape.
        b: same shape.

    Returns:
        A value in [-1, 1]; 0 if either input is all zero.

    Raises:
        InputError: shapes differ, an input is empty, or a value is not finite.
    """
    return _cosine(*_pair(a, b))


def centred_ncc(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Return Pearson's correlation of two images.

    Args:
        a: any shape.
        b: same shape.

    Returns:
        A value in [-1, 1]; 0 if either input is constant.

    Raises:
        InputError: shapes differ, an input is empty, or a value is not finite.
    """
    first, second = _pair(a, b)
    if np.ptp(first) == 0 or np.ptp(second) == 0:  # rounding of the mean would leave noise to correlate
        return 0.0
    return _cosine(first - first.mean(), second - second.mean())


def _pair(a: npt.ArrayLike, b: npt.ArrayLike) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape or first.size == 0:
        raise InputError(
            f"a, b: shapes {first.shape} and {second.shape} differ or are empty", "resample one to the other"
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise InputError("a, b: a value is not finite", "clip or repair the images first")
    return first.ravel(), second.ravel()


def _cosine(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    norms = float(np.linalg.norm(a)) * float(np.linalg.norm(b))
    return 0.0 if norms == 0 else max(-1.0, min(1.0, float(a @ b) / norms))
