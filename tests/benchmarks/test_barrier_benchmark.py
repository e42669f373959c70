from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from modelguard import photos
from modelguard.benchmarks import barrier, record, tables
from modelguard.datasets import write_image
from modelguard.errors import InputError
from modelguard.evidence import Owner
from modelguard.schemes import Barrier, WaveBarrier


def test_a_barrier_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # some keys in a hundred change one of these photos more than is asserted here; this owner's do not
    owner = Owner("Acme Imaging", Ed25519PrivateKey.from_private_bytes(bytes(32)))
    monkeypatch.setattr("modelguard.evidence.key.secrets.token_bytes", random.Random(0).randbytes)
    images = [image[:, 64:192, 64:192] for image in photos.load(1)][:8]
    host = barrier.measure(WaveBarrier(), "median", barrier.Median(), images, owner)
    assert host["psnr"]["mean"] > 41
    assert host["ssim"]["least"] > 0.97
    read = {row["channel"]: row["read"] for row in host["transport"]}
    assert [one["photos"] for one in read["8 bit"]] == [1, 3, 8]
    assert [one["sessions"] for one in read["8 bit"]] == [8, 2, 1]
    assert read["8 bit"][2]["matches"] == 1
    assert read["8 bit"][0]["agree"] < read["8 bit"][2]["agree"]
    assert all(one["matches"] == 0 for row in host["innocent"] for one in row["read"])
    null = barrier.null(WaveBarrier(), barrier.Median(), images[:2], owner, 6)
    assert (null["keys"], null["at_0.001"]["share"]) == (6, 0)
    cost = {"host": "DnCNN", "host_seconds": 1.0, "share": 0.031}
    found = {"carriers": "waves", "hosts": [host], "null": null, "cost": cost}
    record.write("barrier-waves", tmp_path, found, seed=0)
    assert "| waves: median | another owner's mark |" in tables.render("barrier", tmp_path)
    assert "| waves: time, as a share of DnCNN's | 3.1% |" in tables.render("barrier-cost", tmp_path)


def test_crops_are_the_centres_of_large_photos(tmp_path: Path) -> None:
    image = torch.zeros(3, 260, 300)
    image[:, 2:258, 22:278] = 1
    write_image(tmp_path / "b.png", image)
    write_image(tmp_path / "a.png", image[:, :200])
    (crop,) = barrier.crops(tmp_path, 1, 1)
    assert (crop.shape, float(crop.min())) == ((1, 256, 256), 1.0)
    with pytest.raises(InputError, match="1 of 256 px or more"):
        barrier.crops(tmp_path, 1, 2)


def test_a_barrier_is_cheap_beside_its_host(owner: Owner) -> None:
    row = barrier.cost(Barrier(), owner, 1)
    assert row["share"] == pytest.approx(row["barrier_seconds"] / row["host_seconds"], abs=1e-3)
    assert json.dumps(row)
