"""Comparing one score with those of control models, and bounding a rate from counts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special

from modelguard.errors import InputError
from modelguard.statistics._inputs import integer_in, probability


def rank_p(score: float, controls: npt.ArrayLike) -> float:
    """Return the conformal rank p-value (1 + #{controls >= score}) / (m + 1).

    Ties count against the claimant. Valid if the suspect, when innocent, is exchangeable with the controls.
    The unit is the *model*: pass one score per control model (a mean over images), never one per image.
    The floor is 1 / (m + 1).

    Args:
        score: the suspect's score; larger is more marked.
        controls: (m,) scores of innocent models, m >= 1.

    Raises:
        InputError: no controls, or a NaN.
    """
    others = np.asarray(controls, dtype=np.float64)
    if others.ndim != 1 or others.size == 0:
        raise InputError(
            f"controls: shape {others.shape} is not (m,) with m >= 1", "score one control or more"
        )
    if np.isnan(score) or np.isnan(others).any():
        raise InputError("score, controls: a value is NaN", "score every model, or leave it out beforehand")
    return (1 + int((others >= score).sum())) / (others.size + 1)


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact two-sided Clopper-Pearson interval of a rate.

    Args:
        successes: count in [0, trials].
        trials: number of independent trials, >= 1.
        confidence: coverage, in (0, 1); each side errs with at most half of the rest.

    Raises:
        InputError: an argument is out of range.
    """
    trials = integer_in("trials", trials, 1)
    successes = integer_in("successes", successes, 0, trials)
    side = (1 - probability("confidence", confidence)) / 2
    failures = trials - successes
    low = 0.0 if successes == 0 else float(special.betaincinv(successes, failures + 1, side))
    high = 1.0 if failures == 0 else float(special.betainccinv(successes + 1, failures, side))
    return low, high
