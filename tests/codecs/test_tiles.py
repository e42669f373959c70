from __future__ import annotations

from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from modelguard.codecs.tiles import starts, tiled


@given(st.integers(1, 300), st.integers(8, 64), st.integers(0, 7))
def test_tiles_cover_a_side_and_overlap(extent: int, tile: int, overlap: int) -> None:
    begins = starts(extent, tile, overlap)
    assert begins[0] == 0
    assert begins == sorted(set(begins))
    if extent > tile:
        assert begins[-1] == extent - tile
        assert all(after - before <= tile - overlap for before, after in pairwise(begins))


@given(st.integers(1, 60), st.integers(1, 60))
def test_pointwise_work_is_the_same_in_tiles(height: int, width: int) -> None:
    images = torch.rand(2, 3, height, width)
    answer = tiled(lambda part: 2 * part[:, :1], images, tile=24, overlap=8)
    torch.testing.assert_close(answer, 2 * images[:, :1])


def test_no_tile_is_larger_than_asked_for_and_neighbours_fade_into_each_other() -> None:
    sizes, number = [], iter(range(100))

    def work(part: Tensor) -> Tensor:
        sizes.append(part.shape[2:])
        return torch.full_like(part, float(next(number)))

    answer = tiled(work, torch.zeros(1, 1, 16, 100), tile=40, overlap=16)
    assert set(sizes) == {(16, 40)}
    steps = answer[0, 0, 0].diff()
    assert steps.min() >= 0
    assert steps.max() < 0.2  # of the jump of 1 from tile to tile
