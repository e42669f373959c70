from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch
from PIL import Image
from test_examples import example

import modelguard as mg
from modelguard import weights
from modelguard.datasets import read_image
from modelguard.networks import RISTN, RISTNSizes

pytest.importorskip("av")
TINY = RISTNSizes(width=8, stages=((2,), (2, 1)), layers=2, growth=4, features=8, skip=True)


def test_a_film_goes_in_and_evidence_comes_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    weights.publish(RISTN(TINY), "ristn-tiny", {}, tmp_path, config={"ristn": vars(TINY)})
    monkeypatch.setattr(mg, "protect", functools.partial(mg.protect, stretch=1))
    scheme = mg.TriggerKey(5, 5, steps=120, batch=1, patch=40, lr=1e-2, amplitude=0.1, fidelity=1.0)
    folder = tmp_path / "film"
    example("protect_video").main(folder, str(tmp_path / "ristn-tiny.safetensors"), None, scheme)
    frames = sorted((folder / "large").iterdir())
    assert len(frames) == 12
    assert read_image(frames[0]).shape == (3, 192, 192)
    with Image.open(folder / "side-by-side.png") as sheet:
        assert sheet.width > 3 * 256
    checked = mg.check(folder / "evidence", trust=[folder / "acme.pub.pem"])
    assert checked.verdict == "match"
    assert checked.suspect.label == "vendor X"
