from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from modelguard.datasets import ImageSet, read_image, to_uint8, write_image
from modelguard.errors import InputError


def test_to_uint8_rounds_and_clamps() -> None:
    values = torch.tensor([-0.3, 0.0, 0.6 / 255, 1.4 / 255, 254.6 / 255, 1.0, 7.0])
    assert to_uint8(values).tolist() == [0, 0, 1, 1, 255, 255, 255]


@pytest.mark.parametrize("channels", [1, 3])
def test_png_round_trip_is_exact_on_the_8_bit_grid(
    channels: int, tmp_path: Path, make_photo: Callable[..., Tensor]
) -> None:
    image = make_photo(0, channels, 11, 7)
    back = read_image(write_image(tmp_path / "a.png", image), channels)
    assert back.shape == (channels, 11, 7)
    assert torch.equal(to_uint8(back), to_uint8(image))


def test_write_image_keeps_what_is_there(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", torch.zeros(1, 2, 2))
    with pytest.raises(InputError, match="exists"):
        write_image(tmp_path / "a.png", torch.ones(1, 2, 2))
    write_image(tmp_path / "a.png", torch.ones(1, 2, 2), overwrite=True)
    assert read_image(tmp_path / "a.png", 1).min() == 1


@pytest.mark.parametrize(
    "image", [torch.zeros(1, 2, 2, dtype=torch.uint8), torch.zeros(1, 1, 2, 2), torch.zeros(2, 2, 2)]
)
def test_write_image_refuses_what_it_would_write_wrongly(image: Tensor, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"image: shape"):
        write_image(tmp_path / "a.png", image)
    assert not list(tmp_path.iterdir())


def test_grey_is_bt601_luma(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2), (200, 100, 50)).save(tmp_path / "c.png")
    luma = round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)
    assert to_uint8(read_image(tmp_path / "c.png", 1)).flatten().tolist() == [luma] * 4


def test_unreadable_files_are_input_errors(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    for name in ("missing.png", "text.png"):
        with pytest.raises(InputError, match=name):
            read_image(tmp_path / name)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_more_than_8_bits_is_refused_not_clipped(dtype: type, tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 3000, dtype)).save(tmp_path / "deep.tif")
    with pytest.raises(InputError, match="8 bits"):
        read_image(tmp_path / "deep.tif", 1)


def test_folder_skips_and_reports(tmp_path: Path, make_photo: Callable[..., Tensor]) -> None:
    (tmp_path / "below").mkdir()
    write_image(tmp_path / "b.png", make_photo(1, 1, 20, 20))
    write_image(tmp_path / "below" / "a.png", make_photo(2, 1, 30, 20))
    write_image(tmp_path / "small.png", make_photo(3, 1, 20, 5))
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "notes.txt").write_text("not looked at")
    with pytest.warns(UserWarning, match="skipped 2"):
        images = ImageSet.from_folder(tmp_path, 1, smallest=10)
    assert [tuple(image.shape) for image in images] == [(1, 20, 20), (1, 30, 20)]
    assert sorted(note.split(":")[0] for note in images.skipped) == ["broken.jpg", "small.png"]


def test_folder_without_images(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no usable image"):
        ImageSet.from_folder(tmp_path)
    with pytest.raises(InputError, match="nowhere"):
        ImageSet.from_folder(tmp_path / "nowhere")


def test_set_of_floats(make_photo: Callable[..., Tensor]) -> None:
    image = make_photo(5)
    images = ImageSet.of([image])
    assert len(images) == 1
    assert images.images[0].dtype == torch.uint8
    assert (images[0] - image).abs().max() <= 0.5 / 255 + 1e-6
    assert torch.equal(next(iter(images)), images[0])


@pytest.mark.parametrize(
    "bad",
    [
        torch.full((1, 2, 2), 255.0),
        torch.full((1, 2, 2), -0.1),
        torch.full((1, 2, 2), torch.nan),
        torch.rand(2, 2),
    ],
    ids=["0..255", "negative", "nan", "rank"],
)
def test_set_refuses_other_ranges(bad: Tensor) -> None:
    with pytest.raises(InputError, match=r"images\[1\]"):
        ImageSet.of([torch.rand(1, 2, 2), bad])


def test_set_refuses_nothing() -> None:
    with pytest.raises(InputError, match="empty"):
        ImageSet.of([])
