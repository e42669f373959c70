from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from modelguard.datasets import ClipPatches, Downscale, Motion, degraded, moved, to_uint8
from modelguard.errors import InputError


class Same:
    """The task of giving an image back."""

    def __call__(self, clean: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return clean, clean


@pytest.fixture
def still(make_photo: Callable[..., Tensor]) -> Tensor:
    return make_photo(5, 3, 60, 60)


@pytest.mark.parametrize("frames", [5, 4])
def test_whole_shifts_are_crops(frames: int, still: Tensor) -> None:
    clip = moved(still, frames, 20, (29.5, 30.5), shift=(2.0, -3.0))
    assert clip.shape == (frames, 3, 20, 20)
    for number, frame in enumerate(clip):
        top, left = 20 + 2 * (number - (frames - 1) // 2), 21 - 3 * (number - (frames - 1) // 2)
        torch.testing.assert_close(frame, still[:, top : top + 20, left : left + 20], atol=1e-4, rtol=0)


def test_a_quarter_turn_is_a_quarter_turn(still: Tensor) -> None:
    before, middle, after = moved(still, 3, 20, (30.0, 30.0), turn=90.0)
    torch.testing.assert_close(before, torch.rot90(middle, -1, (1, 2)), atol=1e-4, rtol=0)
    torch.testing.assert_close(after, torch.rot90(middle, 1, (1, 2)), atol=1e-4, rtol=0)


def test_parts_of_a_pixel_and_zoom_are_seen_on_a_ramp() -> None:
    ramp = torch.linspace(0, 1, 101).expand(1, 101, 101)
    shifted = moved(ramp, 3, 10, (50.5, 50.5), shift=(0.7, 0.25))
    torch.testing.assert_close(shifted[2] - shifted[1], torch.full((1, 10, 10), 0.0025), atol=6e-4, rtol=0)
    zoomed = moved(ramp, 3, 10, (50.5, 50.5), zoom=2.0)
    slopes = [float(frame[0, 4, 9] - frame[0, 4, 0]) / 0.09 for frame in zoomed]
    assert slopes == pytest.approx([0.5, 1.0, 2.0], rel=0.03)


def test_motions_stay_within_their_bounds_and_half_are_whole() -> None:
    generator, motion = torch.Generator().manual_seed(0), Motion(shift=4.0, turn=2.0, zoom=0.1)
    drawn = [motion.draw(generator) for _ in range(400)]
    assert all(down**2 + right**2 <= 4.8**2 for (down, right), _, _ in drawn)
    assert all(abs(turn) <= 2 and 1 / 1.1 <= zoom <= 1.1 for _, turn, zoom in drawn)
    whole = [shift for shift, turn, zoom in drawn if (turn, zoom) == (0.0, 1.0)]
    assert 150 < len(whole) < 250
    assert all(part.is_integer() for shift in whole for part in shift)


def test_stills_become_clips_of_their_own_pixels(still: Tensor) -> None:
    held = to_uint8(still)
    clips = ClipPatches([held[None]], Same(), 32, 60, motion=Motion(4.0, 0.0, 0.0))
    weight = torch.tensor([65536, 256, 1]).view(3, 1, 1)
    known, exact = (held * weight).sum(0).flatten(), 0
    for number in range(60):
        clip = to_uint8(clips[number][1])
        assert clip.shape == (5, 3, 32, 32)
        exact += bool(torch.isin((clip * weight).sum(1), known).all())
    assert 15 < exact < 45  # the whole shifts


def test_clips_are_a_function_of_seed_and_index(still: Tensor) -> None:
    sources = [to_uint8(still)[None], to_uint8(still.flip(1)).expand(7, -1, -1, -1)]
    one, two = (ClipPatches(sources, Downscale(4), 32, 10, seed=1) for _ in range(2))
    other = ClipPatches(sources, Downscale(4), 32, 10, seed=2)
    for number in range(10):
        low, high = one[number]
        assert (low.shape, high.shape) == ((5, 3, 8, 8), (5, 3, 32, 32))
        assert torch.equal(high, two[number][1])
        assert torch.equal(low, degraded(high, Downscale(4), torch.Generator())[0])
    assert not any(torch.equal(one[n][1], other[n][1]) for n in range(10))


def test_videos_give_consecutive_frames_and_short_ones_repeat_the_last() -> None:
    levels = torch.arange(0, 90, 10, dtype=torch.uint8).view(9, 1, 1, 1).expand(9, 3, 8, 8)
    seen = set()
    for low, _ in (ClipPatches([levels], Same(), 8, 40)[n] for n in range(40)):
        numbers = [round(float(frame.mean()) * 25.5) for frame in low]
        assert numbers in (
            [*range(min(numbers), min(numbers) + 5)],
            [*range(max(numbers), max(numbers) - 5, -1)],
        )
        seen.add((numbers[0], numbers[-1]))
    assert {(0, 4), (4, 0), (4, 8), (8, 4)} <= seen
    for low, _ in (ClipPatches([levels[:3]], Same(), 8, 20)[n] for n in range(20)):
        numbers = [round(float(frame.mean()) * 25.5) for frame in low]
        assert numbers in ([0, 1, 2, 2, 2], [2, 2, 2, 1, 0])


def test_odd_sizes_are_cut_to_what_can_be_shrunk() -> None:
    low, high = degraded(torch.rand(2, 3, 33, 19), Downscale(4), torch.Generator())
    assert (low.shape, high.shape) == ((2, 3, 8, 4), (2, 3, 32, 16))


def test_sources_that_cannot_be_used_are_named(still: Tensor) -> None:
    with pytest.raises(InputError, match="sources: there are none"):
        ClipPatches([], Same(), 8, 1)
    with pytest.raises(InputError, match="a side of 60 px, clips need 64"):
        ClipPatches([to_uint8(still)[None]], Same(), 64, 1)
