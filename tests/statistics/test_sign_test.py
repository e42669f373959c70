from __future__ import annotations

import math
import time
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelguard.errors import InputError
from modelguard.statistics import (
    SignTest,
    clopper_pearson,
    hard_sign_test,
    quantise_weights,
    sign_test,
    upper_tail,
)

Ints = npt.NDArray[np.int64]


def all_sums(weights: list[int]) -> Ints:
    """Return sum_i e_i w_i for all 2^n sign vectors."""
    sums = np.zeros(1, dtype=np.int64)
    for weight in weights:
        sums = np.concatenate([sums - weight, sums + weight])
    return sums


def half_up(value: Fraction) -> int:
    return math.floor(value + Fraction(1, 2))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 15), min_size=1, max_size=13), st.integers(-200, 200))
def test_upper_tail_equals_enumeration(weights: list[int], statistic: int) -> None:
    assert upper_tail(weights, statistic) == int((all_sums(weights) >= statistic).sum())


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 900), min_size=14, max_size=16), st.floats(-1.1, 1.1))
def test_upper_tail_equals_enumeration_for_large_weights(weights: list[int], part: float) -> None:
    statistic = round(part * sum(weights))
    assert upper_tail(weights, statistic) == int((all_sums(weights) >= statistic).sum())


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 200), st.integers(1, 20), st.integers(-220, 220))
def test_upper_tail_of_equal_weights_is_binomial(n: int, weight: int, sum_of_signs: int) -> None:
    expected = sum(math.comb(n, k) for k in range(n + 1) if 2 * k - n >= sum_of_signs)
    assert upper_tail([weight] * n, weight * sum_of_signs) == expected


def test_upper_tail_at_its_ends() -> None:
    weights = [3, 0, 1, 2]
    assert upper_tail(weights, 6) == 2  # the zero weight is free
    assert upper_tail(weights, 7) == 0
    assert upper_tail(weights, -6) == 16
    assert upper_tail(weights, -5) == 14
    assert upper_tail([0, 0], 0) == 4
    assert upper_tail([0, 0], 1) == 0


def test_upper_tail_with_one_enormous_weight() -> None:
    assert upper_tail([10**15, 1, 2, 3], 10**15 + 4) == 2  # signs ++++ and +-++


def test_upper_tail_obeys_symmetry_for_many_cells() -> None:
    weights = np.random.default_rng(1).integers(0, 16, 400)
    statistic = int(weights.sum()) % 2 + 60
    assert upper_tail(weights, statistic) + upper_tail(weights, 1 - statistic) == 2**400


def test_upper_tail_approaches_the_normal_law() -> None:
    weights = np.random.default_rng(2).integers(0, 16, 1024)
    sd = math.sqrt(float((weights**2).sum()))
    for z in (-1.0, 0.5, 2.0):
        exact = upper_tail(weights, math.ceil(z * sd)) / 2**1024
        assert exact == pytest.approx(0.5 * math.erfc(z / math.sqrt(2)), abs=3e-3)


def test_upper_tail_of_1024_cells_takes_well_under_a_second() -> None:
    slowest_weights = [15] * 1023 + [14]
    start = time.process_time()
    upper_tail(slowest_weights, 2)
    assert time.process_time() - start < 0.9


@pytest.mark.parametrize(
    ("weights", "statistic", "match"),
    [
        ([1, -1], 0, "weights: -1 is negative"),
        ([], 0, "weights: shape"),
        ([[1, 2]], 0, "weights: shape"),
        ([1.0, 2.0], 0, "weights: dtype float64"),
        ([True, False], 0, "weights: dtype bool"),
        ([1, 2], 0.5, "statistic: 0.5"),
        ([65535, 1] * 5000, 0, "too many to count"),
    ],
)
def test_upper_tail_refuses(weights: object, statistic: object, match: str) -> None:
    with pytest.raises(InputError, match=match):
        upper_tail(weights, statistic)  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=30), st.integers(1, 300))
def test_quantise_weights_rounds_half_up_exactly(scores: list[int], levels: int) -> None:
    largest = max(abs(score) for score in scores)
    expected = [half_up(Fraction(levels * abs(score), largest or 1)) for score in scores]
    weights = quantise_weights(np.array(scores, dtype=np.int64), levels)
    assert weights.dtype == np.int64
    assert weights.tolist() == expected


def test_quantise_weights_golden() -> None:
    assert quantise_weights([30, -1, 1, 0, 29, -15, 3]).tolist() == [15, 1, 1, 0, 15, 8, 2]
    assert quantise_weights([0, 0, 0]).tolist() == [0, 0, 0]
    assert quantise_weights(np.array([2**64 - 1, 2**63], dtype=np.uint64), 2).tolist() == [2, 1]


@pytest.mark.parametrize("levels", [0, -1, 65536, True, 1.5])
def test_quantise_weights_refuses_levels(levels: object) -> None:
    with pytest.raises(InputError, match="levels"):
        quantise_weights([1, 2], levels)  # type: ignore[arg-type]


def test_sign_test_golden() -> None:
    result = sign_test([1, -1, 1, -1], [30, -20, 0, 2])
    assert result == SignTest(bits=4, matches=2, statistic=15 + 10 - 1, total=26, tail=4)
    assert result.p == Fraction(1, 4)
    assert result.log10_p == pytest.approx(math.log10(0.25))


def test_hard_sign_test_counts_answered_cells_only() -> None:
    result = hard_sign_test([1, -1, 1, -1], [9, -7, 0, 5])
    assert result == SignTest(bits=4, matches=2, statistic=1, total=3, tail=8)
    assert result.p == Fraction(1, 2)  # P(Bin(3, 1/2) >= 2)


def test_refusing_everything_proves_nothing() -> None:
    result = sign_test([1, -1], [0, 0])
    assert (result.p, result.log10_p, result.matches) == (Fraction(1), 0.0, 0)


def test_sign_test_ignores_the_unit_of_the_scores() -> None:
    rng = np.random.default_rng(3)
    bits, scores = rng.choice([-1, 1], 64), rng.integers(-50, 50, 64)
    assert sign_test(bits, scores) == sign_test(bits, 1000 * scores)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(-40, 40), min_size=1, max_size=9))
def test_p_is_exactly_valid_over_all_keys(scores: list[int]) -> None:
    n = len(scores)
    keys = [[1 if key >> i & 1 else -1 for i in range(n)] for key in range(2**n)]
    for test in (sign_test, hard_sign_test):
        ps = [test(key, scores).p for key in keys]
        for alpha in set(ps):
            assert Fraction(sum(p <= alpha for p in ps), 2**n) == alpha


def structured_scores(kind: str, n: int) -> Ints:
    cell = np.arange(n)
    return {
        "one dominates": np.where(cell == 5, 10**9, 1 + cell % 3),
        "all lean one way": 200 + cell,
        "heavy tail": (np.random.default_rng(4).standard_cauchy(n) * 1000).astype(np.int64),
        "half refused": np.where(cell % 2 == 0, 0, 7 * (-1) ** (cell // 2)),
        "geometric": (-1) ** cell * 2 ** (cell // 3),
        "a foreign key": 90 * np.random.default_rng(5).choice([-1, 1], n),
    }[kind].astype(np.int64)


@pytest.mark.parametrize(
    "kind",
    ["one dominates", "all lean one way", "heavy tail", "half refused", "geometric", "a foreign key"],
)
def test_type_one_error_with_fresh_bits(kind: str) -> None:
    keys = 2000
    scores = structured_scores(kind, 64)
    fresh = np.random.default_rng(6).choice([-1, 1], (keys, 64))
    log_ps = np.array([sign_test(bits, scores).log10_p for bits in fresh])
    for alpha in (0.05, 0.01, 0.001):
        low, _ = clopper_pearson(int((log_ps <= math.log10(alpha)).sum()), keys, confidence=0.999)
        assert low <= alpha


def test_confident_cells_make_the_soft_test_sharper() -> None:
    rng = np.random.default_rng(7)
    bits = rng.choice([-1, 1], 256)
    scores = np.rint(100 * (0.5 * bits + rng.normal(size=256))).astype(np.int64)
    soft, hard = sign_test(bits, scores), hard_sign_test(bits, scores)
    assert soft.matches == hard.matches
    assert soft.log10_p < hard.log10_p < -6


def test_log10_p_of_a_known_certificate() -> None:
    assert SignTest(256, 245, 1246, 1274, 0x366B67B900).log10_p == pytest.approx(-65.69, abs=0.006)


@pytest.mark.parametrize("tail_bits", [0, 1, 63, 64, 65, 99_000, 99_999, 100_000])
def test_log10_p_never_underflows(tail_bits: int) -> None:
    result = SignTest(bits=100_000, matches=0, statistic=0, total=0, tail=1 << tail_bits)
    assert result.log10_p == pytest.approx((tail_bits - 100_000) * math.log10(2), rel=1e-14)
    assert result.log10_p <= 0.0


def test_log10_p_is_precise() -> None:
    result = SignTest(bits=100_000, matches=0, statistic=0, total=0, tail=3**50_000)
    assert result.log10_p == pytest.approx(50_000 * math.log10(3) - 100_000 * math.log10(2), rel=1e-13)


def test_hard_sign_test_of_many_bits_all_agreeing() -> None:
    bits = np.ones(20_000, dtype=np.int8)
    assert hard_sign_test(bits, bits).log10_p == pytest.approx(-20_000 * math.log10(2))


@pytest.mark.parametrize("bits_tail", [(4, 0), (4, 17), (0, 1), (-1, 1)])
def test_sign_test_record_refuses_impossible_tails(bits_tail: tuple[int, int]) -> None:
    bits, tail = bits_tail
    with pytest.raises(InputError, match="tail"):
        SignTest(bits=bits, matches=0, statistic=0, total=4, tail=tail)


@pytest.mark.parametrize("test", [sign_test, hard_sign_test])
@pytest.mark.parametrize(
    ("bits", "scores", "match"),
    [
        ([1, -1], [1, 2, 3], "scores: 3 scores for 2 bits"),
        ([1, 0], [1, 2], "bits: a value"),
        ([1, 2], [1, 2], "bits: a value"),
        ([True, False], [1, 2], "bits: dtype bool"),
        ([1, -1], [0.5, 1.0], "scores: dtype float64"),
        ([1, -1], [float("nan"), 1], "scores: dtype float64"),
        ([], [], "scores: shape"),
        ([[1, -1]], [1, 1], "bits: shape"),
        (np.array([1, 255], dtype=np.uint8), [1, 2], "bits: a value"),
    ],
)
def test_sign_tests_refuse(test: object, bits: object, scores: object, match: str) -> None:
    with pytest.raises(InputError, match=match):
        test(bits, scores)  # type: ignore[operator]
