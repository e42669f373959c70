from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import app
from PIL import Image
from torch import Tensor, nn

from modelguard import networks, weights
from modelguard.benchmarks import ristn, tables, train_ristn
from modelguard.benchmarks.ristn import compare, luma
from modelguard.benchmarks.train_ristn import Timed, enlarging, validate
from modelguard.datasets import ClipPatches, Downscale, to_uint8, write_image
from modelguard.errors import InputError
from modelguard.networks import RISTN, RISTNSizes, bicubic
from modelguard.training import TrainConfig, fit

TINY = RISTNSizes(width=8, stages=((2,), (2, 1)), layers=2, growth=4, features=8, skip=True)


@pytest.fixture
def stills(make_photo: Callable[..., Tensor], tmp_path: Path) -> Path:
    for number in range(3):
        write_image(tmp_path / "stills" / f"{number}.png", make_photo(number, 3, 136, 140))
    return tmp_path / "stills"


def test_luma_is_that_of_studio_video() -> None:
    colours = torch.tensor([[0.0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]]).view(5, 3, 1, 1)
    expected = torch.tensor([16, 235, 81.481, 144.553, 40.966])
    torch.testing.assert_close(luma(colours).flatten() * 255, expected, atol=1e-3, rtol=0)


def test_frames_are_compared_in_rounded_luma_with_and_without_border() -> None:
    target = torch.full((2, 3, 40, 40), 100 / 255)
    found = compare(torch.full((2, 3, 40, 40), 200 / 255), target)
    assert found.psnr == pytest.approx(20 * np.log10(255 / 86), abs=1e-3)  # from 102 to 188
    assert found.psnr_crop8 == pytest.approx(found.psnr)
    edged = target.clone()
    edged[:, :, 0] = 1.0
    found = compare(edged, target + 0.001)  # less than half a level is nothing
    assert found.psnr == pytest.approx(20 * np.log10(255 / 133) + 10 * np.log10(40), abs=1e-3)
    assert found.psnr_crop8 == float("inf")
    assert compare(luma(target), target).psnr == float("inf")


def test_bicubic_is_that_of_pillow_on_eight_bits(make_photo: Callable[..., Tensor]) -> None:
    photo = to_uint8(make_photo(3, 3, 64, 48))
    low, high = Downscale(4)(photo.float() / 255, torch.Generator())
    picture = Image.fromarray(photo.permute(1, 2, 0).numpy())
    small = picture.resize((12, 16), Image.Resampling.BICUBIC)
    assert (np.asarray(small).astype(int) - to_uint8(low).permute(1, 2, 0).numpy()).__abs__().max() <= 1
    large = np.asarray(small.resize((48, 64), Image.Resampling.BICUBIC))
    expected = compare(torch.from_numpy(large.copy()).permute(2, 0, 1)[None].float() / 255, high[None])
    ours = compare(bicubic(low[None], (64, 48)), high[None])
    assert ours.psnr == pytest.approx(expected.psnr, abs=0.02)


def test_the_loss_falls_and_the_statistics_settle(make_photo: Callable[..., Tensor]) -> None:
    torch.manual_seed(0)
    sizes, steps, batch = replace(TINY, skip=False), 24, 2
    net = RISTN(sizes)
    sources = [to_uint8(make_photo(seed, 3, 48, 48))[None] for seed in range(3)]
    clips = Timed(ClipPatches(sources, Downscale(4), 32, steps * batch, frames=3))
    modes: list[bool] = []
    step = enlarging(net, 1e-6, settled=0.5)

    def watched(model: nn.Module, *rest: Any) -> dict[str, Tensor]:
        scalars = step(model, *rest)
        modes.append(model.training)
        total = scalars["error"] + 1e-6 * scalars["penalty"]
        assert float(scalars["loss"].detach()) == pytest.approx(float(total.detach()))
        return scalars

    fit(net, clips, watched, TrainConfig(steps, batch, lr=5e-3, warmup=2, precision="fp32"))
    assert modes == [True] * 12 + [False] * 12
    fixed = ClipPatches(sources, Downscale(4), 32, 3, frames=3, seed=9)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        fresh = RISTN(sizes)
    assert validate(net, fixed)["psnr"] > validate(fresh, fixed)["psnr"] + 2


def test_a_run_resumes_exactly_and_gives_weights(
    stills: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(train_ristn.SETTINGS, "tiny", TINY)
    train, every = (
        app(train_ristn.main),
        ("--batch", 1, "--side", 32, "--frames", 3, "--every", 2, "--optimiser", "muon"),
    )
    words = ("tiny", "--data", stills, "--valid", stills, *every, "--precision", "fp32")
    train(*words, "--run", tmp_path / "once", "--steps", 4)
    run = tmp_path / "twice"

    calls = iter(range(2))

    def stopping(*given: Any) -> dict[str, float]:
        if next(calls):
            raise RuntimeError("the power went")
        return validate(*given)

    with monkeypatch.context() as patch:
        patch.setattr(train_ristn, "validate", stopping)
        with pytest.raises(RuntimeError, match="the power went"):
            train(*words, "--run", run, "--steps", 4)
    train(*words, "--run", run, "--steps", 4, "--resume")
    names = ("ristn-x4.safetensors", "validation.jsonl", "log.jsonl")
    assert all((run / name).read_bytes() == (tmp_path / "once" / name).read_bytes() for name in names)
    rows = [json.loads(line) for line in (run / "validation.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4]
    (run / "ristn-x4.safetensors").unlink()
    train(*words, "--run", run, "--steps", 4, "--resume")  # nothing is left to do but to write the weights
    card = json.loads((run / "ristn-x4.json").read_text())
    assert (run / names[0]).read_bytes() == (tmp_path / "once" / names[0]).read_bytes()
    assert (card["steps"], card["setting"]) == (4, "tiny")
    assert set(card["validation"]) == {"psnr", "bicubic"}
    assert networks.ristn(pretrained=run / "ristn-x4.safetensors").sizes == TINY
    with pytest.raises(InputError, match="holds a run already"):
        train(*words, "--run", run, "--steps", 4)
    with pytest.raises(InputError, match="another setting, of other sizes"):
        train(*words, "--run", run, "--steps", 4, "--resume", "--no-temporal")


@pytest.mark.parametrize(("words", "message"), [(("huge",), "no 'huge'"), (("light", "--side", 30), "30 px")])
def test_wrong_options_are_named_before_any_work(
    words: tuple[Any, ...], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        app(train_ristn.main)(*words, "--data", tmp_path, "--run", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_benchmark_writes_what_the_tables_read(make_photo: Callable[..., Tensor], tmp_path: Path) -> None:
    for name in ("calendar", "walk"):
        for number in range(5):
            photo = make_photo(len(name), 3, 40, 60)[:, :33, 2 * number : 2 * number + 46]
            write_image(tmp_path / "tests" / "Vid4" / name / f"frame_{number + 2:04}.png", photo)
    run = tmp_path / "run"
    net = RISTN(TINY)
    with torch.no_grad():
        net.fusion.weight.mul_(30)
        net.tail[-1].weight.normal_(std=0.2)
        for parameter in net.temporal.parameters():
            parameter.normal_(std=0.3)
    weights.publish(net, "ristn-mine", {}, run, config={"ristn": vars(TINY)})
    (run / "validation.jsonl").write_text('{"step": 2, "psnr": 20.5, "bicubic": 20.0}\n')
    file = run / "ristn-mine.safetensors"
    app(ristn.main)("--tests", tmp_path / "tests", "--weights", file, "--run", run, "--out", tmp_path)
    result = json.loads((tmp_path / "ristn.json").read_text())["results"]
    assert [(each["sequence"], each["frames"]) for each in result["sequences"]] == [
        ("calendar", 5),
        ("walk", 5),
    ]
    quality = result["sequences"][0]["quality"]
    assert list(quality) == [
        "bicubic",
        "vdsr-4",
        "ristn",
        "windows of 3, carried",
        "windows of 3, not carried",
    ]
    assert quality["ristn"] != quality["bicubic"]
    assert quality["windows of 3, carried"] != quality["windows of 3, not carried"]
    assert result["cost"]["size"] == "44 x 32"
    assert result["cost"]["bf16_ratio"] > 0
    assert result["learning"] == [{"step": 2, "psnr": 20.5, "bicubic": 20.0}]
    table = tables.render("ristn", tmp_path)
    assert "| PSNR / without 8 px / SSIM | calendar (5) | walk (5) | mean |" in table
    assert "| published frames | 22.99 / 22.92 / 0.752 | 29.28 / 29.22 / 0.878 | " in table
    assert "| RISTN, mine | " in table
    assert "| VDSR x4 | " in table
    assert " times as fast |" in tables.render("ristn-cost", tmp_path)


def test_without_weights_the_benchmark_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no weights called 'ristn-absent'"):
        app(ristn.main)("--tests", tmp_path, "--weights", "absent", "--out", tmp_path)
