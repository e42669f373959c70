from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from modelguard import photos
from modelguard.benchmarks import spread_spectrum, tables
from modelguard.benchmarks.spread_spectrum import SpreadSpectrum
from modelguard.datasets import to_uint8, write_image


def test_its_bits_are_read_from_one_photo_in_place_only() -> None:
    marked = SpreadSpectrum(nn.Identity(), 128, 41.0, seed=0)
    image = photos.load(1)[4][None, :, 60:188, 60:188]
    answer = to_uint8(marked(image)[0])
    error = (answer.float() - 255 * image[0]).square().mean()
    assert 10 * float(torch.log10(255**2 / error)) == pytest.approx(41, abs=0.3)
    assert (marked.read(answer) == marked.bits).float().mean() > 0.96
    for other in (to_uint8(image[0]), answer.roll(1, 2)):
        assert 0.25 < (marked.read(other) == marked.bits).float().mean() < 0.75


def test_thieves_are_measured(tmp_path: Path, make_photo: Callable[..., Tensor]) -> None:
    train, tests = tmp_path / "train", tmp_path / "tests"
    for number in range(5):
        folder = train if number < 3 else tests / "Two"
        write_image(folder / f"{number}.png", make_photo(number, 1, 70, 66))
    spread_spectrum.main(train, tests, thief=["cnet-2:l2"], steps=1, side=64, asked="Two", out=tmp_path)
    cells = json.loads((tmp_path / "spread_spectrum.json").read_text())["results"]["cells"]
    assert [cell["thief"] for cell in cells] == ["the marked model itself", "the unmarked host", "cnet-2, l2"]
    assert cells[0]["agree"] > 0.7 > cells[1]["agree"]
    assert (cells[0]["retained"], cells[1]["retained"]) == (1, 0)
    assert "| cnet-2, l2 | 1 |" in tables.render("spread-spectrum", tmp_path)
