from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from command import app
from torch import Tensor

import modelguard as mg
from modelguard import weights
from modelguard.benchmarks import clip_barrier, clips, tables
from modelguard.datasets import ImageSet, write_image
from modelguard.evidence import Owner
from modelguard.networks import RISTN, RISTNSizes, bicubic
from modelguard.schemes import TriggerKey

pytest.importorskip("av")
TINY = RISTNSizes(width=8, stages=((2,), (2, 1)), layers=2, growth=4, features=8, skip=True)


class Lighter(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 0.1


def test_innocents_enlarge_clips_four_times() -> None:
    clip = torch.rand(1, 3, 3, 8, 10)
    assert torch.equal(clips.Bicubic()(clip)[0, 1], bicubic(clip[0, 1][None], (32, 40))[0])
    even = torch.rand(1, 3, 3, 1, 1).expand(1, 3, 3, 8, 10)
    brighter = torch.nn.Sequential(torch.nn.Upsample(scale_factor=4), Lighter())
    change = clips.luma((clips.LumaNet(brighter)(even) - clips.Bicubic()(even))[0]) - 16 / 255
    torch.testing.assert_close(change, torch.full((3, 1, 32, 40), 0.1), atol=1e-5, rtol=0)


def test_the_benchmark_writes_what_the_tables_read(
    make_photo: Callable[..., Tensor], tmp_path: Path, owner: Owner
) -> None:
    for number in range(3):
        write_image(tmp_path / "train" / f"{number}.png", make_photo(number, 3, 60, 64))
    for number in range(6):
        photo = make_photo(5, 3, 40, 60)[:, :33, 2 * number : 2 * number + 46]
        write_image(tmp_path / "tests" / "Vid4" / "walk" / f"frame_{number:04}.png", photo)
    torch.manual_seed(0)
    net = RISTN(TINY)
    weights.publish(net, "ristn-tiny", {}, tmp_path, config={"ristn": vars(TINY)})
    scheme = TriggerKey(5, 5, steps=120, batch=1, patch=40, lr=1e-2, amplitude=0.1, fidelity=1.0)
    strip, stills = clips.FilmStrip(net.eval(), 5), ImageSet.from_folder(tmp_path / "train", 3)
    marked = mg.protect(strip, scheme, data=stills, owner=owner, task=clips.TASK, stretch=1)
    marked.save(tmp_path / "kept", "benchmark")
    (tmp_path / "kept" / "facts.json").write_text("{}")
    words = ("--train", tmp_path / "train", "--tests", tmp_path / "tests", "--out", tmp_path)
    quick = ("--keep", tmp_path / "kept", "--patch", 40, "--tune-steps", 2, "--tune-batch", 1, "--frames", 4)
    app(clips.main)(*words, "--weights", tmp_path / "ristn-tiny.safetensors", *quick, "--keys", 1)
    result = json.loads((tmp_path / "clips.json").read_text())["results"]
    assert result["psnr"]["before"] > 10
    assert [row["channel"] for row in result["transport"]] == list(clips.CHANNELS)
    assert all(row["bits"] == 5 * 64 for row in [*result["transport"], *result["attacks"]])
    assert [row["attack"] for row in result["attacks"]][-1] == "fine-tune 2 steps"
    assert [(row["suspect"], row["keys"]) for row in result["innocents"]] == [
        ("RISTN, unmarked", 1),
        ("VDSR, frame by frame", 1),
        ("bicubic", 1),
    ]
    table = tables.render("clips", tmp_path)
    assert f"| unmarked | {result['psnr']['before']:.2f} |" in table
    assert "| answer: H.264, CRF 23 |" in table
    assert "| bicubic | 1 |" in tables.render("clips-innocents", tmp_path)


def test_a_barrier_behind_every_frame_is_measured(make_photo: Callable[..., Tensor], tmp_path: Path) -> None:
    for number in range(5):
        photo = make_photo(5, 3, 40, 60)[:, :33, 2 * number : 2 * number + 46]
        write_image(tmp_path / "Vid4" / "walk" / f"frame_{number:04}.png", photo)
    for number in range(3):
        write_image(tmp_path / "Kodak24" / f"{number}.png", make_photo(number, 3, 260, 260))
    torch.manual_seed(0)
    weights.publish(RISTN(TINY), "ristn-tiny", {}, tmp_path, config={"ristn": vars(TINY)})
    words = ("--tests", tmp_path, "--out", tmp_path, "--photos", 3, "--side", 64)
    app(clip_barrier.main)(*words, "--weights", tmp_path / "ristn-tiny.safetensors")
    result = json.loads((tmp_path / "clip_barrier.json").read_text())["results"]
    walk = result["sequences"][0]
    assert walk["mark"] > 0.5
    assert walk["to_unmarked"] > 35
    assert 0 < walk["mark_changes"] < walk["frames_change"]
    read = {row["channel"]: row["read"][-1] for row in result["read"]}
    assert read["8 bit"]["agree"] > read["unmarked"]["agree"]
    assert "| walk |" in tables.render("clip-barrier", tmp_path)
    assert "| H.264, CRF 23 |" in tables.render("clip-barrier-read", tmp_path)
