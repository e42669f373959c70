from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from command import app

from modelguard import photos
from modelguard.benchmarks import surrogates, tables
from modelguard.datasets import write_image


@pytest.mark.parametrize("inside", [False, True])
def test_the_benchmark_writes_what_the_tables_read(tmp_path: Path, inside: bool) -> None:
    for number, image in enumerate(photos.load(1)):
        write_image(tmp_path / "train" / f"{number}.png", image[:, :64, :64])
        write_image(tmp_path / "tests" / "Kodak24" / f"{number}.png", image)
        write_image(tmp_path / "tests" / "Set12" / f"{number}.png", image[:, :32, :32])
    words = ["--train", tmp_path / "train", "--tests", tmp_path / "tests", "--out", tmp_path]
    quick = [
        "--thief",
        "cnet-4",
        "--thief",
        "cnet-4:l2:flips:.5",
        "--pictures",
        tmp_path / "figures",
        "--steps",
        2,
        "--count",
        4,
        "--side",
        48,
        "--patch",
        32,
        "--photos",
        1,
    ]
    inside_words = ["--inside", "--embed-steps", 1] if inside else []
    app(surrogates.main)(*words, *quick, *inside_words)
    name = "surrogates-dncnn-inside" if inside else "surrogates-dncnn"
    cells = json.loads((tmp_path / f"{name}.json").read_text())["results"]["cells"]
    assert [cell["thief"] for cell in cells] == [
        "the marked model itself",
        "the unmarked host",
        "cnet-4",
        "cnet-4, l2, flips, .5",
        "cnet-4, innocent 1",
    ]
    assert len(list((tmp_path / "figures").iterdir())) == 5
    assert [cell["retained"] for cell in cells[:2]] == [1, 0]
    assert cells[1]["task"] > cells[2]["task"]  # two steps make no denoiser
    if not inside:
        assert cells[0]["read"][0]["log10_p"] < -6 < cells[1]["read"][0]["log10_p"]
        assert cells[0]["informed_log10_p"] < -6 < cells[1]["blind_log10_p"]
    assert cells[1]["informed_log10_p"] == 0  # the unmarked answers hold nothing beyond themselves
    assert all(cell["read"][0]["bits"] == 192 for cell in cells)
    scheme = "SelfWatermark" if inside else "Barrier"
    for table in ("surrogates", "references"):
        assert f"| {scheme}, DnCNN | cnet-4 | " in tables.render(table, tmp_path)


def test_pictures_are_the_centres_of_a_spread() -> None:
    images = photos.load(1)
    found = surrogates.centres(images, 32, 3)
    assert len(found) == 3
    assert torch.equal(found[1], images[4][:, 112:144, 112:144])
