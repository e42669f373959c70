from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from modelguard.datasets import GaussianNoise, ImagePairs, ImageSet, mixed_seed, write_image
from modelguard.errors import InputError
from modelguard.metrics import pair_quality, quality


@pytest.fixture
def folders(tmp_path: Path, make_photo: Callable[..., Tensor]) -> tuple[Path, Path]:
    """Folders of three rainy and three clean colour images."""
    for seed in (2, 0, 1):
        clean = make_photo(seed, 3, 20 + seed, 30)
        write_image(tmp_path / "norain" / f"{seed:02}.png", clean)
        write_image(tmp_path / "rain" / f"{seed:02}.png", (clean + 0.1).clamp(max=1))
    return tmp_path / "rain", tmp_path / "norain"


def test_pairs_are_matched_by_name(folders: tuple[Path, Path]) -> None:
    pairs = ImagePairs.from_folders(*folders)
    assert [one.shape for one, _ in pairs] == [(3, 20 + seed, 30) for seed in range(3)]
    for rainy, clean in pairs:
        torch.testing.assert_close(rainy, (clean + 0.1).clamp(max=1), atol=0.003, rtol=0)
    assert ImagePairs.from_folders(*folders, channels=1)[0][0].shape == (1, 20, 30)


def test_pairs_can_be_picked(folders: tuple[Path, Path]) -> None:
    pairs = ImagePairs.from_folders(*folders)
    assert [one.shape[1] for one, _ in pairs.pick([2, 0])] == [22, 20]
    assert len(pairs.pick([])) == 0


def test_quality_on_pairs_is_that_of_the_task(photos: ImageSet, tiny: nn.Module) -> None:
    made = [
        GaussianNoise(25)(clean, torch.Generator().manual_seed(mixed_seed(4, number)))
        for number, clean in enumerate(photos)
    ]
    measured = pair_quality(tiny, made, with_ssim=True)
    assert measured == quality(tiny, photos, GaussianNoise(25), seed=4, with_ssim=True)


def test_what_does_not_pair_is_named(folders: tuple[Path, Path], make_photo: Callable[..., Tensor]) -> None:
    rainy, clean = folders
    write_image(clean / "07.png", make_photo())
    with pytest.raises(InputError, match="'07' is only in one"):
        ImagePairs.from_folders(*folders)
    write_image(rainy / "07.png", make_photo(height=9))
    with pytest.raises(InputError, match=r"'07' is \(9, 48\) px"):
        ImagePairs.from_folders(*folders)
    with pytest.raises(InputError, match="no image in"):
        ImagePairs.from_folders(rainy, clean / "none")
    with pytest.raises(InputError, match="1 inputs and 0 targets"):
        ImagePairs((torch.zeros(1, 2, 2, dtype=torch.uint8),), ())
