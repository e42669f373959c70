from __future__ import annotations

import math

import numpy as np
import pytest

from modelguard.errors import InputError
from modelguard.statistics import centred_ncc, clopper_pearson, distance, eta, ncc


@pytest.mark.parametrize(
    ("n", "threshold", "digits"),
    [
        (20 * 20, 11.770e-3, 5e-7),
        (40 * 40, 6.0679e-3, 5e-8),
        (60 * 60, 4.086e-3, 5e-7),
        (80 * 80, 3.0795e-3, 5e-8),
        (160 * 160, 1.551e-3, 5e-7),
        (600 * 600, 0.416e-3, 5e-7),
        (20 * 20 * 3, 6.974e-3, 5e-7),
        (40 * 40 * 3, 3.548e-3, 5e-7),
        (80 * 80 * 3, 1.789e-3, 5e-7),
    ],
)
def test_eta_table(n: int, threshold: float, digits: float) -> None:
    assert eta(n) == pytest.approx(threshold, abs=digits)


def test_eta_follows_the_assumed_error() -> None:
    assert eta(1600, sigma=0.125) == pytest.approx(3.03e-3, abs=5e-6)
    assert eta(1600, sigma=0.0625) == pytest.approx(1.52e-3, abs=5e-6)
    noise = np.random.default_rng(1).normal(0, 0.25, (4000, 400))
    passed = sum(distance(row, np.zeros(400)) <= eta(400) for row in noise)
    low, high = clopper_pearson(passed, 4000, confidence=0.999)
    assert low <= 0.05 <= high


def test_the_paper_constant_accepts_any_random_image_at_another_size() -> None:
    first, second = np.random.default_rng(2).random((2, 80, 80))
    assert distance(first, second) < 6.07e-3
    assert distance(first, second) > eta(80 * 80)


@pytest.mark.parametrize(
    ("n", "sigma", "p"),
    [(0, 0.25, 0.05), (1.5, 0.25, 0.05), (9, 0.0, 0.05), (9, math.nan, 0.05), (9, 0.25, 1.0)],
)
def test_eta_refuses(n: int, sigma: float, p: float) -> None:
    with pytest.raises(InputError):
        eta(n, sigma, p)


def test_distance_golden() -> None:
    assert distance([[0.0, 1.0], [1.0, 0.0]], [[0.0, 0.0], [1.0, 1.0]]) == pytest.approx(math.sqrt(2) / 4)
    # bytes must not wrap around
    assert distance(np.array([0], dtype=np.uint8), np.array([255], dtype=np.uint8)) == 255.0


def test_a_blank_passes_the_uncentred_rule() -> None:
    logo = np.zeros(10_000)
    logo[:9100] = 1.0
    blank = np.full(10_000, 0.7)
    assert ncc(blank, logo) == pytest.approx(math.sqrt(0.91))
    assert ncc(blank, logo) > 0.95  # the paper's threshold: why it is no verdict
    assert centred_ncc(blank, logo) == 0.0


def test_centred_ncc_is_pearson() -> None:
    a, b = np.random.default_rng(3).random((2, 32, 32))
    assert centred_ncc(a, b) == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1])
    assert centred_ncc(a, 3 * a + 5) == pytest.approx(1.0)
    assert centred_ncc(a, -a) == pytest.approx(-1.0)


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 255.0])
def test_constant_images_correlate_with_nothing(value: float) -> None:
    other = np.random.default_rng(4).random((31, 33))
    assert centred_ncc(np.full((31, 33), value), other) == 0.0
    assert centred_ncc(other, np.full((31, 33), value)) == 0.0


def test_ncc_of_black_is_zero() -> None:
    assert ncc(np.zeros(4), np.ones(4)) == 0.0
    assert ncc([1.0, 2.0, 3.0], [2.0, 4.0, 6.0]) == pytest.approx(1.0)


@pytest.mark.parametrize("measure", [distance, ncc, centred_ncc])
@pytest.mark.parametrize(
    ("a", "b"),
    [([1.0, 2.0], [1.0]), ([], []), ([math.nan, 1.0], [1.0, 2.0]), ([1.0], [math.inf]), ([[1.0]], [1.0])],
)
def test_measures_refuse(measure: object, a: object, b: object) -> None:
    with pytest.raises(InputError, match="a, b"):
        measure(a, b)  # type: ignore[operator]
