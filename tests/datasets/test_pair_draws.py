from __future__ import annotations

import pytest
import torch

from modelguard.datasets import ImagePairs, PairDraws
from modelguard.errors import InputError

INPUTS = torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1).expand(5, 1, 2, 2)
TARGETS = torch.arange(100, 105, dtype=torch.uint8).view(5, 1, 1, 1).expand(5, 1, 4, 4)
PAIRS = ImagePairs(tuple(INPUTS), tuple(TARGETS))


def test_a_draw_is_a_pair_in_range_and_always_the_same() -> None:
    pairs = PairDraws(PAIRS, 200)
    for index in range(len(pairs)):
        a, b = pairs[index]
        assert torch.equal(b[:, :2, :2] * 255, a * 255 + 100)
        assert torch.equal(a, pairs[index][0])
    assert {int(pairs[index][0][0, 0, 0] * 255) for index in range(200)} == set(range(5))


def test_another_seed_draws_in_another_order() -> None:
    one, two = ([float(PairDraws(PAIRS, 50, seed)[i][0].mean()) for i in range(50)] for seed in (1, 2))
    assert one != two


def test_nothing_can_be_drawn_from_no_pairs() -> None:
    with pytest.raises(InputError, match="none to draw"):
        PairDraws(ImagePairs((), ()), 10)
