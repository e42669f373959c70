from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from command import app
from torch import Tensor, nn

from modelguard import photos
from modelguard.benchmarks import codecs, dbmark, dbmark_fitted, publish_dbmark, train_dbmark
from modelguard.benchmarks.train_dbmark import COMBINED, Covers, hiding, through, validate
from modelguard.codecs import DBMark
from modelguard.errors import InputError
from modelguard.networks.dbmark import DBMarkNet, DBMarkSizes
from modelguard.training import TrainConfig, fit

TINY = Path(__file__).parents[1] / "codecs" / "tiny.safetensors"
SIZES = DBMarkSizes(30, 32, 16, levels=2, blocks=1, growth=4, layers=2, width=8, se_blocks=1)


def test_the_error_of_the_bits_falls() -> None:
    torch.manual_seed(0)
    net, batch, steps = DBMarkNet(replace(SIZES, bits=4, levels=1)), 4, 30
    covers = Covers(photos.load(3), 32, 10 * steps * batch, 0)
    errors: list[float] = []
    step = hiding(4, [nn.Identity()], psnr=30.0, start=15.0)

    def watched(*args: object) -> dict[str, Tensor]:
        scalars = step(*args)  # type: ignore[arg-type]
        errors.append(float(scalars["message"].detach()))
        return scalars

    fit(net, covers, watched, TrainConfig(steps, batch, lr=8e-3, warmup=5, spike=1000.0))
    assert sum(errors[-10:]) < 0.8 * sum(errors[:10])


def test_payloads_are_uniform_and_the_bound_tightens() -> None:
    seen: list[Tensor] = []

    class Watching(nn.Module):
        def forward(self, image: Tensor, bits: Tensor, channel: object) -> tuple[Tensor, Tensor]:
            seen.append(bits)
            return image + 0.1, torch.zeros(bits.shape)

    step, losses = hiding(64, [nn.Identity()], psnr=40.0, start=22.0), []
    for progress in (0.0, 0.3, 0.6, 1.0):
        batch = (torch.zeros(256, 3, 8, 8), torch.full((256,), progress))
        losses.append(float(step(Watching(), batch, lambda loss: None)["loss"]))
    expected = [0.25 + 0.1 * (0.01 * 10 ** (bound / 10) - 1) for bound in (22, 31, 40, 40)]
    assert losses == pytest.approx(expected, rel=1e-4)
    ones = torch.stack(seen).float().mean((0, 1))
    assert (ones - 0.5).abs().max() < 0.08  # no bit is constant


@pytest.mark.parametrize("name", COMBINED)
def test_every_distortion_keeps_the_size_and_passes_gradients(name: str) -> None:
    marked, cover = torch.rand(2, 3, 64, 64, requires_grad=True), torch.rand(2, 3, 64, 64)
    distorted = through(COMBINED[name], marked, cover)
    assert distorted.shape == cover.shape
    distorted.sum().backward()
    assert marked.grad is not None
    assert float(marked.grad.abs().sum()) > 0


def test_validation_is_the_same_each_time_and_leaves_the_randomness_alone() -> None:
    net = DBMarkNet(SIZES)
    images = train_dbmark.held_out(None, 32)
    state = torch.get_rng_state()
    first = validate(net, images, COMBINED, payloads=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert validate(net, images, COMBINED, payloads=1) == first
    assert set(first) == {"psnr", *COMBINED}


def test_a_run_resumes_and_is_published(tmp_path: Path) -> None:
    run = tmp_path / "run"
    sizes = ("--side", 32, "--blocks", 1, "--growth", 4, "--layers", 2, "--width", 8)
    options = (*sizes, "--batch", 2, "--every", 2, "--run", run, "--data", photos.FOLDER)
    train = app(train_dbmark.main)
    train("combined-30", *options, "--steps", 2)
    rows = [json.loads(line) for line in (run / "validation.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2]
    train("combined-30", *options, "--steps", 4, "--resume")
    rows = [json.loads(line) for line in (run / "validation.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4]
    about = (run / "config.json").read_bytes()
    for words in (("--steps", 2), ("--steps", 6, "--growth", 5, "--resume")):
        with pytest.raises(InputError, match=f"run: {run} holds a run"):
            train("combined-30", *options, *words)
    assert (run / "config.json").read_bytes() == about

    app(publish_dbmark.main)(run, "--name", "mine", "--out", tmp_path)
    card = json.loads((tmp_path / "dbmark-mine.json").read_text())
    assert (card["steps"], card["sizes"]["side"]) == (4, 32)
    assert set(card["validation"]) == {"psnr", *COMBINED}
    codec = DBMark.from_pretrained(tmp_path / "dbmark-mine.safetensors")
    assert (codec.name, codec.net.sizes.side, codec.bits) == ("mine", 32, 30)

    longer = DBMarkNet(replace(codec.net.sizes, bits=64))
    train_dbmark.begin_from(longer, codec.net)
    given = codec.net.state_dict()
    kept = {name for name, value in longer.state_dict().items() if torch.equal(value, given[name])}
    assert given.keys() - kept == {
        "processor.spread.weight",
        "processor.spread.bias",
        "processor.body.0.weight",
        "inverse_processor.body.2.weight",
        "inverse_processor.body.2.bias",
        "inverse_processor.gather.weight",
        "inverse_processor.gather.bias",
    }
    other = ("--run", tmp_path / "other", "--start", tmp_path / "dbmark-mine.safetensors", "--steps", 2)
    with pytest.raises(InputError, match="start: blocks"):
        train("jpeg-64", *options, *other, "--growth", 5)
    train("jpeg-64", *options, *other)
    assert json.loads((tmp_path / "other" / "config.json").read_text())["start"].endswith("mine.safetensors")


def test_the_benchmark_writes_what_the_tables_read(tmp_path: Path) -> None:
    from modelguard.benchmarks.tables import render

    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "Few").symlink_to(photos.FOLDER)
    words = ("--tests", tmp_path / "tests", "--set", "Few", "--codec", TINY, "--setting", "combined-30")
    app(dbmark.main)(*words, "--payloads", 1, "--crops", 20, "--folder", 1, "--out", tmp_path)
    result = json.loads((tmp_path / "dbmark-tiny.json").read_text())["results"]
    few = result["sets"]["Few"]
    assert few["bits"] == 12 * 30
    assert few["wrong"]["identity"] <= 6
    assert result["wrong"] == few["wrong"]
    assert result["upper"]["identity"] > few["wrong"]["identity"] / few["bits"]
    assert -1 <= result["averaging_leak"] <= 1
    assert [row["images"] for row in result["folders"]] == [1]
    assert result["unmarked"]["bits_found_at"]["0.1"] <= 8
    assert result["unmarked"]["crops"] == 20
    table = render("dbmark", tmp_path)
    assert "| tiny | wrong bits, crop .035 | 3.74 % |" in table
    assert "| tiny | 20 |" in render("dbmark-unmarked", tmp_path)


def test_strengths_are_fitted_to_what_is_tried(tmp_path: Path) -> None:
    from modelguard.benchmarks.tables import render

    (tmp_path / "tests" / "Few").mkdir(parents=True)
    for name in ("cat", "grass"):
        (tmp_path / "tests" / "Few" / f"{name}.jpg").symlink_to(photos.FOLDER / f"{name}.jpg")
    words = ("--tests", tmp_path / "tests", "--set", "Few", "--payloads", 3, "--out", tmp_path)
    app(dbmark_fitted.main)("--codec", "jpeg-64", *words)
    result = json.loads((tmp_path / "dbmark_fitted-jpeg-64.json").read_text())["results"]
    assert result["tried"] == ["jpeg 50"]
    fixed, fitted = result["fixed"], result["fitted"]
    assert fixed["wrong"]["jpeg 50"] > fitted["wrong"]["jpeg 50"] == 0
    assert (fixed["marks"], fixed["refused"], fixed["bits"]) == (6, 0, 6 * 64)
    assert fitted["marks"] + fitted["refused"] == 6
    assert fitted["least_psnr"] < fixed["least_psnr"]
    table = render("dbmark-fitted", tmp_path)
    assert "| jpeg-64 | wrong bits, jpeg 50 (tried) | 0.0018 % |" in table
    assert "| jpeg-64 | wrong bits, jpeg 40 |  |" in table


def test_codecs_are_compared_at_one_psnr(tmp_path: Path) -> None:
    from modelguard.benchmarks.tables import render

    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "Few").symlink_to(photos.FOLDER)
    words = ("--tests", tmp_path / "tests", "--set", "Few", "--limit", 2, "--codec", TINY, "--peer", "none")
    app(codecs.main)(*words, "--psnr", 26, "--out", tmp_path)
    (row,) = json.loads((tmp_path / "codecs.json").read_text())["results"]
    assert set(row["accuracy"]) == set(codecs.attacks(0))
    assert row["psnr"] == pytest.approx(26, abs=0.5)
    assert row["accuracy"]["none"] > 0.9
    assert 0 <= row["surprise"]["rotate 5"] < row["surprise"]["none"] <= 30 * 0.302
    assert "| modelguard tiny (30 bits, " in render("codecs", tmp_path)


def test_unknown_peers_are_named() -> None:
    with pytest.raises(InputError, match="nonsense"):
        codecs.contenders(["nonsense"], [])


def test_an_unknown_setting_is_named_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="setting: there is no 'tiny'"):
        app(dbmark.main)("--tests", tmp_path, "--codec", TINY, "--out", tmp_path)
    with pytest.raises(InputError, match="setting: there is no 'nonsense'"):
        app(train_dbmark.main)("nonsense", "--data", tmp_path, "--run", tmp_path / "run")
    assert not (tmp_path / "run").exists()
