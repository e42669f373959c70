from __future__ import annotations

import json
from pathlib import Path

import torch

from modelguard.benchmarks import host_quality
from modelguard.datasets import write_image


def test_a_denoiser_is_measured_beside_its_noisy_input(tmp_path: Path) -> None:
    ramp = torch.linspace(0.2, 0.8, 48).expand(1, 40, 48)
    for test in ("Set12", "BSD68"):
        write_image(tmp_path / test / "ramp.png", ramp)
    host_quality.main(tmp_path, host=["dncnn"], out=tmp_path)
    rows = json.loads((tmp_path / "hosts.json").read_text())["results"]
    seen = [(row["set"], row["images"], row["published"]) for row in rows]
    assert seen == [("Set12", 1, 30.41), ("BSD68", 1, 29.20)]
    for row in rows:
        assert row["parameters"] == 556097
        assert 19.5 < row["without_model"] < 21  # 25 grey levels of noise: 20.17 dB
        assert row["psnr"] > row["without_model"] + 8
