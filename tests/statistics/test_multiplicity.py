from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelguard.errors import InputError
from modelguard.statistics import Multiplicity, bits_needed, e_bh, grind_bits, hard_sign_test, holm

ONE = Multiplicity(grind_bits=0)
LEVELS = (1e-6, 1e-9, 2.0**-44, 2.0**-64, 2.0**-80, 2.0**-100, 2.0**-128)


@pytest.mark.parametrize(
    ("source", "bits"),
    [("tst-signature/1", 24), ("none", 80), ("scrypt/1", 79), ("scrypt/20", 60), ("scrypt/30", 50)],
)
def test_grind_bits(source: str, bits: int) -> None:
    assert grind_bits(source) == bits


@pytest.mark.parametrize(
    "source",
    ["", "scrypt/0", "scrypt/31", "scrypt/020", "scrypt/+5", "scrypt/2\n", "scrypt/٣", "tst-signature/2"],
)
def test_grind_bits_refuses(source: str) -> None:
    with pytest.raises(InputError, match="salt_source"):
        grind_bits(source)


def test_multiplicity_golden() -> None:
    tries = Multiplicity(suspects=100, registrations=1, grind_bits=24)
    assert tries.factor == 100 * 2**24
    assert tries.log10 == pytest.approx(9.2247, abs=1e-4)
    assert tries.adjust(-65.69) == pytest.approx(-56.47, abs=0.006)
    assert tries.adjust(-9.0) == 0.0
    assert ONE.adjust(0.0) == 0.0
    assert Multiplicity().grind_bits == 60


@pytest.mark.parametrize("log10_p", [0.1, math.nan, math.inf])
def test_adjust_refuses(log10_p: float) -> None:
    with pytest.raises(InputError, match="log10_p"):
        ONE.adjust(log10_p)


@pytest.mark.parametrize(
    ("suspects", "registrations", "bits", "match"),
    [(0, 1, 0, "suspects"), (1, 0, 0, "registrations"), (1, 1, -1, "grind_bits"), (1.5, 1, 0, "suspects")],
)
def test_multiplicity_refuses(suspects: int, registrations: int, bits: int, match: str) -> None:
    with pytest.raises(InputError, match=match):
        Multiplicity(suspects, registrations, bits)


@pytest.mark.parametrize(
    ("n", "critical"),
    [
        (64, (51, 56, 60, 64, None, None, None)),
        (128, (92, 98, 105, 113, 118, 124, 128)),
        (256, (167, 176, 187, 200, 208, 217, 227)),
        (512, (311, 324, 340, 358, 371, 384, 400)),
        (1024, (589, 609, 631, 657, 675, 695, 719)),
    ],
)
def test_bits_needed_golden(n: int, critical: tuple[int | None, ...]) -> None:
    for alpha, needed in zip(LEVELS, critical, strict=True):
        if needed is None:
            with pytest.raises(InputError, match=f"n: {n} bits"):
                bits_needed(n, alpha, ONE)
        else:
            assert bits_needed(n, alpha, ONE) == needed


def test_bits_needed_accepts_a_tail_equal_to_alpha() -> None:
    assert bits_needed(64, 65 * 2.0**-64, ONE) == 63
    assert bits_needed(64, 64 * 2.0**-64, ONE) == 64


def test_bits_needed_for_short_payloads() -> None:
    assert bits_needed(30, 1e-6, ONE) == 28
    with pytest.raises(InputError, match="n: 30 bits") as caught:
        bits_needed(30, 2.0**-44, ONE)
    assert "44 bits" in caught.value.remedy


def test_bits_needed_names_what_is_missing() -> None:
    tries = Multiplicity(suspects=2, grind_bits=80)
    with pytest.raises(InputError, match=r"n: 64 bits .* alpha 1e-06 .* 2\^81\.0") as caught:
        bits_needed(64, 1e-6, tries)
    assert "101 bits" in caught.value.remedy
    assert bits_needed(101, 1e-6, tries) == 101


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 120), st.floats(1e-12, 0.9), st.integers(1, 50), st.integers(0, 8))
def test_bits_needed_is_the_least_that_the_hard_test_accepts(n: int, alpha: float, m: int, g: int) -> None:
    tries = Multiplicity(suspects=m, grind_bits=g)

    def adjusted(agreeing: int) -> Fraction:
        scores = np.where(np.arange(n) < agreeing, 1, -1)
        return hard_sign_test(np.ones(n, dtype=np.int8), scores).p * tries.factor

    if adjusted(n) > Fraction(alpha):
        with pytest.raises(InputError, match=f"n: {n} bits"):
            bits_needed(n, alpha, tries)
        return
    needed = bits_needed(n, alpha, tries)
    assert adjusted(needed) <= Fraction(alpha) < adjusted(needed - 1)


@pytest.mark.parametrize(("n", "alpha"), [(0, 1e-6), (64, 0.0), (64, 1.0), (64, math.nan)])
def test_bits_needed_refuses(n: int, alpha: float) -> None:
    with pytest.raises(InputError):
        bits_needed(n, alpha, ONE)


def test_holm_steps_down() -> None:
    ps = np.log10([0.01, 0.04, 0.03, 0.005])
    assert holm(ps, 0.05).tolist() == [True, False, False, True]  # .005<=.0125, .01<=.0167, .03>.025
    assert holm([-math.inf, 0.0], 0.05).tolist() == [True, False]
    # .04 <= .05/1 alone, but it may not jump over the stop at .03
    assert not holm(ps, 0.05)[1]


def test_holm_controls_any_false_rejection() -> None:
    rng = np.random.default_rng(1)
    shared = rng.random((4000, 1))
    for ps in (rng.random((4000, 10)), np.repeat(shared, 10, axis=1)):
        any_false = sum(bool(holm(np.log10(row), 0.05).any()) for row in ps)
        assert any_false / 4000 < 0.065


def test_e_bh_golden() -> None:
    es = np.log10([100.0, 30.0, 45.0, 1.0])  # alpha .1, m 4: needs 40, 20, 13.3, 10 from the largest down
    assert e_bh(es, 0.1).tolist() == [True, True, True, False]
    assert e_bh(np.log10([39.0, 19.0, 1.0, 1.0]), 0.1).tolist() == [False] * 4
    assert e_bh([math.inf, -math.inf], 0.05).tolist() == [True, False]
    # the step goes up: two of 20 pass although neither reaches 40 alone
    assert e_bh(np.log10([20.0, 20.0, 0.5, 0.5]), 0.1).tolist() == [True, True, False, False]


@pytest.mark.parametrize("rule", [holm, e_bh])
@pytest.mark.parametrize(
    ("values", "alpha"), [([], 0.05), ([math.nan], 0.05), ([[-1.0]], 0.05), ([-1.0], 0.0), ([-1.0], 1.0)]
)
def test_families_refuse(rule: object, values: object, alpha: float) -> None:
    with pytest.raises(InputError):
        rule(values, alpha)  # type: ignore[operator]


def test_holm_refuses_positive_logs() -> None:
    with pytest.raises(InputError, match="log10_ps"):
        holm([-1.0, 0.2], 0.05)
