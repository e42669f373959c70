from __future__ import annotations

import numpy as np
import pytest
import torch

from modelguard.benchmarks import false_claims
from modelguard.benchmarks.false_claims import Strided, blur, fresh_key, log10_p, rejections
from modelguard.evidence import Owner
from modelguard.protecting import Protected
from modelguard.schemes import TriggerKey
from modelguard.suspects import CallableSuspect, ModuleSuspect


def test_rejections_are_counted_at_each_level() -> None:
    values = [0.0] * 940 + [-1.5] * 50 + [-2.5] * 9 + [-3.5]
    row = rejections(values)
    assert row["keys"] == 1000
    assert row["lowest_log10_p"] == -3.5
    assert [row[f"at_{level}"]["rejected"] for level in false_claims.LEVELS] == [60, 10, 1]
    at = row["at_0.05"]
    assert at["share"] == 0.06
    assert at["low"] < 0.05 < at["high"]
    assert all(row[f"at_{level}"]["level_within"] for level in false_claims.LEVELS)


def test_too_many_rejections_are_told() -> None:
    row = rejections([0.0] * 800 + [-2.0] * 200)
    assert not row["at_0.05"]["level_within"]
    assert not row["at_0.01"]["level_within"]
    assert row["at_0.001"]["rejected"] == 0
    assert row["at_0.001"]["level_within"]  # rarer than the level is no false alarm


def test_a_level_is_inclusive() -> None:
    assert rejections([float(np.log10(0.05)), 0.0])["at_0.05"]["rejected"] == 1


def test_fresh_keys_are_fresh_and_fill_one_query(owner: Owner, quick: TriggerKey) -> None:
    one, two = fresh_key(owner, quick), fresh_key(owner, quick)
    assert one.master != two.master
    assert one.leaves == quick.per_query


def test_strength_needs_no_registration(protected: Protected, owner: Owner, quick: TriggerKey) -> None:
    assert log10_p(ModuleSuspect(protected.model), fresh_key(owner, quick)) > -6
    assert log10_p(CallableSuspect(lambda image: image), fresh_key(owner, quick)) == 0


@pytest.mark.parametrize("shape", [(8, 8), (7, 9), (1, 2)])
def test_the_strided_innocent_takes_any_size(shape: tuple[int, int]) -> None:
    image = torch.rand(2, 1, *shape)
    assert Strided(4)(image).shape == image.shape


def test_the_blur_keeps_size_and_mean() -> None:
    image = np.random.default_rng(0).integers(0, 256, (12, 10, 1), np.uint8)
    blurred = blur(image)
    assert blurred.shape == image.shape
    assert blurred.dtype == np.uint8
    assert blurred.std() < image.std() / 2
    assert np.array_equal(blur(np.full((9, 9, 1), 77, np.uint8)), np.full((9, 9, 1), 77))
