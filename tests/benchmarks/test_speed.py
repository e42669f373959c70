from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import Tensor

from modelguard.benchmarks import speed
from modelguard.datasets import write_image
from modelguard.networks import DnCNN


def test_two_loops_are_timed_in_turns(
    tmp_path: Path, make_photo: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelguard.networks.DnCNN", lambda: DnCNN(depth=3, width=8))
    for seed in range(2):
        write_image(tmp_path / "photos" / f"{seed}.png", make_photo(seed, 1, 64, 64))
    speed.main(tmp_path / "photos", steps=1, rounds=1, out=tmp_path)
    row = json.loads((tmp_path / "speed.json").read_text())["results"]
    assert len(row["each_ours"]) == len(row["each_plain"]) == 1
    assert row["loop_images_per_second"] > 0
    ratio = row["loop_images_per_second"] / row["plain_fp32_images_per_second"]
    assert abs(row["ratio"] - ratio) < 0.02
