from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from modelguard.errors import InputError
from modelguard.statistics import clopper_pearson, rank_p


def test_rank_p_golden() -> None:
    assert rank_p(0.9, np.linspace(0, 0.5, 19)) == 0.05
    assert rank_p(0.9, np.linspace(0, 0.5, 199)) == 0.005
    assert rank_p(0.5, [0.1, 0.5, 0.7]) == 0.75  # the tie counts against the claimant
    assert rank_p(-1.0, [0.1, 0.5, 0.7]) == 1.0


def test_rank_p_is_valid_for_exchangeable_scores_with_ties() -> None:
    scores = np.random.default_rng(1).integers(0, 6, (4000, 20))
    ps = np.array([rank_p(row[0], row[1:]) for row in scores])
    for alpha in (0.05, 0.1, 0.25, 0.5):
        low, _ = clopper_pearson(int((ps <= alpha).sum()), 4000, confidence=0.999)
        assert low <= alpha


@pytest.mark.parametrize(
    ("score", "controls"), [(1.0, []), (math.nan, [1.0]), (1.0, [math.nan]), (1.0, [[0.5]]), (1.0, 0.5)]
)
def test_rank_p_refuses(score: float, controls: object) -> None:
    with pytest.raises(InputError, match="controls"):
        rank_p(score, controls)  # type: ignore[arg-type]


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (10, 10), (3, 10), (50, 1000), (0, 1), (1, 1)])
@pytest.mark.parametrize("confidence", [0.95, 0.999])
def test_clopper_pearson_agrees_with_scipy(successes: int, trials: int, confidence: float) -> None:
    expected = stats.binomtest(successes, trials).proportion_ci(confidence, method="exact")
    interval = clopper_pearson(successes, trials, confidence)
    assert interval == pytest.approx((expected.low, expected.high), abs=1e-10)


def test_clopper_pearson_rule_of_three() -> None:
    low, high = clopper_pearson(0, 100, confidence=0.9)
    assert low == 0.0
    assert high == pytest.approx(1 - 0.05 ** (1 / 100))


@pytest.mark.parametrize(
    ("successes", "trials", "confidence"),
    [(-1, 10, 0.95), (11, 10, 0.95), (0, 0, 0.95), (1, 10, 0.0), (1, 10, 1.0), (1.5, 10, 0.95)],
)
def test_clopper_pearson_refuses(successes: int, trials: int, confidence: float) -> None:
    with pytest.raises(InputError):
        clopper_pearson(successes, trials, confidence)
