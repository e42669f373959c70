"""The photos that ship with the package."""

from __future__ import annotations

import pytest
from PIL import Image

from modelguard import photos


@pytest.mark.parametrize("channels", [1, 3])
def test_twelve_different_photos_load(channels: int) -> None:
    loaded = photos.load(channels)
    assert {tuple(image.shape) for image in loaded.images} == {(channels, 256, 256)}
    assert len({image.numpy().tobytes() for image in loaded.images}) == 12
    assert loaded.skipped == ()


def test_they_are_small_and_every_one_is_credited() -> None:
    files = sorted(photos.FOLDER.glob("*.jpg"))
    lines = (photos.FOLDER / "CREDITS.md").read_text().splitlines()
    credited = [line.split("|")[1].strip() for line in lines if line.startswith("| ") and ".jpg |" in line]
    assert credited == [file.name for file in files]
    assert sum(file.stat().st_size for file in files) < 600_000
    assert {Image.open(file).mode for file in files} == {"RGB"}
