from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from modelguard import photos
from modelguard.benchmarks.riis_applications import EDITS, colouring, edited, locating, photographing
from modelguard.benchmarks.train_riis import psnr
from modelguard.codecs import RIIS, Revealed
from modelguard.distortions import Grey, Quantise

TINY = Path(__file__).parents[1] / "codecs" / "tiny-riis.safetensors"


@pytest.fixture(scope="module")
def groups() -> Tensor:
    """Four groups of a host and two secrets, (4, 3, 3, 96, 96)."""
    pictures = [one[:, 80:176, 80:176] for one in photos.load(3)]
    return torch.stack([torch.stack([pictures[(n + k) % 6] for k in range(3)]) for n in range(1, 5)])


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_changes_what_it_says_and_nothing_else(edit: str) -> None:
    generator = torch.Generator().manual_seed(1)
    picture, other = torch.rand(3, 64, 100), torch.rand(3, 64, 100)
    answer, inside = edited(picture, other, edit, generator)
    assert answer.shape == picture.shape
    differs = (answer != picture).any(0)
    assert not (differs & ~inside).any()
    assert (differs & inside).sum() > 0.95 * inside.sum()
    share = float(inside.float().mean())
    if edit.endswith("%"):
        assert share == pytest.approx(float(edit[:-1]) / 100, rel=0.15)
    else:
        assert 0.2 <= share <= 0.4


def test_what_is_trimmed_moves_and_what_is_stretched_is_wider() -> None:
    ramp = torch.linspace(0, 1, 100).expand(3, 64, 100)
    generator = torch.Generator().manual_seed(0)
    trimmed, inside = edited(ramp, torch.zeros_like(ramp), "trimmed", generator)
    cut = int(inside[0].float().argmax())
    assert trimmed[0, 0, cut] > ramp[0, 0, cut + 2]
    assert trimmed[0, 0, -1] == 0
    stretched, inside = edited(ramp, torch.zeros_like(ramp), "stretched", generator)
    cut = int(inside[0].float().argmax())
    wanted = ramp[0, 0, cut] + (1 - ramp[0, 0, cut]) * 0.8
    assert stretched[0, 0, -1] == pytest.approx(float(wanted), abs=0.01)


def test_edits_are_located_and_untouched_pictures_are_left_alone(groups: Tensor) -> None:
    rows = locating(RIIS.from_pretrained(TINY), groups[:2])
    assert set(rows) == {"8 bits", "JPEG 80"}
    found = rows["8 bits"]
    assert set(found["overlap"]) == set(EDITS)
    assert found["overlap"]["20%"] > 0.2  # these weights reveal badly
    assert found["overlap"]["trimmed"] > 0.1
    assert found["false_area"] < 0.05


def test_codes_are_counted_before_and_after_the_photo(
    groups: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = RIIS.from_pretrained(TINY)
    wide = torch.nn.functional.interpolate(groups.flatten(0, 1), scale_factor=2).unflatten(0, (4, 3))
    rows = photographing(codec, wide, 1)
    assert rows["trials"] == 1
    assert 0 <= rows["photographed"] <= rows["saved"] <= 1
    # were the code itself saved and photographed, every one would be read
    monkeypatch.setattr(codec, "hide", lambda host, secret: pil_to_tensor(secret).expand(3, -1, -1) / 255)
    monkeypatch.setattr(codec, "reveal", lambda picture: Revealed((picture,), picture, 1.0, Quantise()))
    assert photographing(codec, wide, 2) == {"trials": 2, "saved": 2, "photographed": 2}


def test_colours_are_measured_beside_the_grey_picture(groups: Tensor) -> None:
    rows = colouring(RIIS.from_pretrained(TINY), groups[1:3])  # hosts: cat and coffee
    assert rows["without"] == pytest.approx(psnr(Grey()(groups[1:3, 0]), groups[1:3, 0]), abs=1e-3)
    assert rows["grey"] > 15
    assert rows["colour"]["8 bits"] > rows["colour"]["JPEG 80"] > 12
