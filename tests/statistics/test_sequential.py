from __future__ import annotations

import math
from fractions import Fraction
from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelguard.errors import InputError
from modelguard.statistics import MixtureEProcess, SoftEProcess, clopper_pearson

Process = MixtureEProcess | SoftEProcess


def exact_mixture(matches: int, cells: int) -> Fraction:
    """2^(t+1) B(k+1, t-k+1) P(Bin(t+1, 1/2) <= k), as a fraction."""
    below = sum(math.comb(cells + 1, j) for j in range(matches + 1))
    return Fraction(below, (cells + 1) * math.comb(cells, matches))


def log10_fraction(value: Fraction) -> float:
    return math.log10(value.numerator) - math.log10(value.denominator)


def mixture_after(matches: int, misses: int) -> MixtureEProcess:
    process = MixtureEProcess()
    process.update(np.ones(matches + misses, dtype=np.int8), np.array([-1] * misses + [1] * matches))
    return process


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1500), st.integers(0, 1500))
def test_mixture_equals_the_exact_fraction(matches: int, misses: int) -> None:
    if matches + misses == 0:
        return
    expected = log10_fraction(exact_mixture(matches, matches + misses))
    assert mixture_after(matches, misses).log10_e == pytest.approx(expected, rel=1e-10, abs=1e-10)


@pytest.mark.parametrize(("matches", "misses"), [(0, 3000), (1, 3000), (200, 3000), (1400, 4000), (4000, 0)])
def test_mixture_neither_under_nor_overflows(matches: int, misses: int) -> None:
    expected = log10_fraction(exact_mixture(matches, matches + misses))
    assert mixture_after(matches, misses).log10_e == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_mixture_stops_where_the_formula_says() -> None:
    # all bits agree: E = (2^(t+1) - 1) / (t+1) first reaches 1e6 at t = 24 and 2^44 at t = 49
    for alpha, stop in ((1e-6, 24), (2.0**-44, 49)):
        process = MixtureEProcess()
        steps = 0
        while not process.rejects(alpha):
            process.update([1], [3])
            steps += 1
        assert steps == stop


def soft_reference(bits: list[int], scores: list[int], scale: float) -> float:
    lambdas = (0.1, 0.2, 0.4, 0.8, 1.6)
    cells = [(b, c / scale) for b, c in zip(bits, scores, strict=True)]
    products = [math.prod(math.exp(bet * b * x) / math.cosh(bet * x) for b, x in cells) for bet in lambdas]
    return math.log10(sum(products) / len(lambdas))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([-1, 1]), st.integers(-30, 30)), min_size=1, max_size=40))
def test_soft_equals_its_definition(cells: list[tuple[int, int]]) -> None:
    bits, scores = [b for b, _ in cells], [c for _, c in cells]
    assert SoftEProcess(scale=10.0).update(bits, scores) == pytest.approx(
        soft_reference(bits, scores, 10.0), abs=1e-9
    )


def fresh(kind: str) -> Process:
    return MixtureEProcess() if kind == "hard" else SoftEProcess(scale=100.0)


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_mean_over_all_keys_is_one(kind: str) -> None:
    scores = [120, -3, 0, 250, -90, 40, -100, 10]
    es = []
    for bits in product([-1, 1], repeat=len(scores)):
        es.append(10 ** fresh(kind).update(bits, scores))
    assert np.mean(es) == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_batches_do_not_matter(kind: str) -> None:
    rng = np.random.default_rng(1)
    bits, scores = rng.choice([-1, 1], 200), rng.integers(-150, 200, 200)
    whole, parts = fresh(kind), fresh(kind)
    whole.update(bits, scores)
    for cut in np.split(np.arange(200), [1, 2, 64, 65, 190]):
        parts.update(bits[cut], scores[cut])
    assert parts.log10_e == pytest.approx(whole.log10_e, abs=1e-9)
    assert parts.log10_p == pytest.approx(whole.log10_p, abs=1e-9)


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_a_crossing_stays_crossed(kind: str) -> None:
    process = fresh(kind)
    # the crossing happens in the middle of one batch and is undone before its end
    process.update(np.ones(400, dtype=np.int8), np.array([100] * 40 + [-100] * 360))
    assert process.log10_e < 0
    assert process.rejects(1e-6)
    assert process.log10_p < -6


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_refused_cells_change_nothing(kind: str) -> None:
    process = fresh(kind)
    process.update([1, 1, -1], [50, 60, 70])
    before = process.log10_e
    assert process.update([1, -1], [0, 0]) == before
    assert fresh(kind).update([1], [0]) == 0.0


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_ville_bound_holds_under_peeking(kind: str) -> None:
    runs, horizon = 1500, 256
    rng = np.random.default_rng(2)
    scores = np.rint(100 * rng.standard_normal((runs, horizon))).astype(np.int64)
    scores[::3] = np.abs(scores[::3]) + 300  # decoders that always answer the same are no exception
    ps = []
    for row, bits in zip(scores, rng.choice([-1, 1], (runs, horizon)), strict=True):
        process = fresh(kind)
        process.update(bits, row)
        ps.append(process.log10_p)
    for alpha in (0.05, 0.01, 0.001):
        low, _ = clopper_pearson(sum(p <= math.log10(alpha) for p in ps), runs, confidence=0.999)
        assert low <= alpha


def test_a_binomial_test_under_peeking_would_not_hold() -> None:
    runs, horizon = 2000, 400
    agree = np.random.default_rng(3).integers(0, 2, (runs, horizon))
    z = (2 * np.cumsum(agree, axis=1) - np.arange(1, horizon + 1)) / np.sqrt(np.arange(1, horizon + 1))
    low, _ = clopper_pearson(int((z[:, 20:] > 1.645).any(axis=1).sum()), runs)
    assert low > 0.15


def test_soft_is_sharper_than_hard_on_noisy_scores() -> None:
    rng = np.random.default_rng(4)
    bits = rng.choice([-1, 1], 300)
    scores = np.rint(100 * (0.7 * bits + rng.standard_normal(300))).astype(np.int64)
    soft, hard = SoftEProcess(scale=120.0), MixtureEProcess()
    assert soft.update(bits, scores) > hard.update(bits, scores) > 6


def test_soft_survives_absurd_scores() -> None:
    process = SoftEProcess(scale=1e-300)
    assert process.update([1], [2**62]) == pytest.approx(math.log10(2))
    assert process.update([-1], [2**62]) == -math.inf
    assert process.update([1], [2**62]) == -math.inf
    assert process.log10_p == pytest.approx(-math.log10(2))


@pytest.mark.parametrize("scale", [0.0, -1.0, math.inf, math.nan])
def test_soft_refuses_scale(scale: float) -> None:
    with pytest.raises(InputError, match="scale"):
        SoftEProcess(scale)


@pytest.mark.parametrize("lambdas", [(), (0.1, 0.0), (-1.0,), (math.nan,)])
def test_soft_refuses_lambdas(lambdas: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="lambdas"):
        SoftEProcess(1.0, lambdas)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -1e-6, math.nan])
def test_rejects_refuses_alpha(alpha: float) -> None:
    with pytest.raises(InputError, match="alpha"):
        MixtureEProcess().rejects(alpha)


def updated_badly(process: Process, bits: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    with pytest.raises(InputError):
        process.update(bits, scores)
    return process.log10_e


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_bad_input_leaves_the_process_unchanged(kind: str) -> None:
    process = fresh(kind)
    before = process.update([1, 1], [100, 90])
    assert updated_badly(process, [1, 0], [1, 1]) == before
    assert updated_badly(process, [1], [0.5]) == before
    assert updated_badly(process, [1, 1], [3]) == before
