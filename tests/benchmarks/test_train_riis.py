from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from command import app
from torch import Tensor, nn

from modelguard import photos
from modelguard.benchmarks import publish_riis, riis, riis_applications, riis_variants, train_riis
from modelguard.benchmarks.train_riis import (
    SETTINGS,
    TESTED,
    Groups,
    Weights,
    any_distortion,
    each_through,
    hiding,
    in_training,
    losses,
)
from modelguard.codecs import RIIS
from modelguard.distortions import Jpeg, Noise, Poisson, Quantise, level_of
from modelguard.errors import InputError
from modelguard.networks.riis import Passed, RIISNet, RIISSizes
from modelguard.training import TrainConfig, fit

TINY = Path(__file__).parents[1] / "codecs" / "tiny-riis.safetensors"
SIZES = RIISSizes(blocks=1, growth=6, layers=2, projection=1, features=4, enhancement=3, width=6)
FEW = ("clean", "sigma 10", "JPEG 40", "JPEG 80")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of test sets with one of three photos, which is quick to read."""
    (tmp_path / "tests" / "Few").mkdir(parents=True)
    for name in ("cat", "coffee", "rocket"):
        (tmp_path / "tests" / "Few" / f"{name}.jpg").symlink_to(photos.FOLDER / f"{name}.jpg")
    return tmp_path / "tests"


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only some of the distortions that are tested."""
    tested = {name: TESTED[name] for name in FEW}
    for module in (train_riis, publish_riis, riis):
        monkeypatch.setattr(module, "TESTED", tested)


def passed(host: Tensor, secrets: Tensor) -> Passed:
    """What a net gives that errs by .1, .2, .3 and .4 in container, restored, host and secrets."""
    z = torch.full((len(host), 12, 4, 4), 2.0)
    return Passed(host + 0.1, z, torch.full((len(host),), 0.5), host + 0.3, host + 0.3, secrets + 0.4, z, z)


@pytest.mark.parametrize("count", [1, 3])
def test_the_losses_are_those_of_the_paper_with_the_stated_reductions(count: int) -> None:
    host, secrets = torch.rand(2, 3, 8, 8), torch.rand(2, count, 3, 8, 8)
    made = passed(host, secrets)
    parts = {name: float(value) for name, value in losses(made, host, secrets).items()}
    assert parts["revealing"] == pytest.approx(count * 0.16 + 0.09, rel=1e-4)
    spectrum = torch.fft.fft2(made.container - host, norm="ortho").abs().square().mean()
    assert parts["container"] == pytest.approx(0.01 + float(spectrum), rel=1e-4)
    assert parts["enhancement"] == pytest.approx(0.04, rel=1e-4)
    assert parts["likelihood"] == pytest.approx(2.0**2 / 2 - 0.5, rel=1e-4)


def test_the_weight_of_the_container_grows_and_the_inspector_is_asked_about_both() -> None:
    class Net(nn.Module):
        def forward(
            self, host: Tensor, secrets: Tensor, distort: Callable[[Tensor], Tensor], level: Tensor
        ) -> Passed:
            zeros = torch.zeros(len(host), 4)
            return Passed(host + 0.1, zeros, zeros[:, 0], host + 0.1, host, secrets, zeros, zeros)

    step, found = hiding(Quantise, Weights(container=16.0)), []
    for progress in (0.0, 0.2, 0.4, 0.9):
        batch = (torch.rand(4, 2, 3, 8, 8), torch.full((4,), progress))
        scalars = step(Net(), batch, lambda loss: None)
        assert float(scalars["judging"]) == pytest.approx(torch.tensor(2.0).log().item(), rel=1e-4)
        found.append((float(scalars["loss"]) - 0.01 * float(scalars["judging"])) / 0.02)
    assert found == pytest.approx([0.5, 0.5 * 32**0.5, 16, 16], rel=1e-3)


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_draws_what_passes_gradients(name: str) -> None:
    torch.manual_seed(0)
    drawn = [SETTINGS[name].draw() for _ in range(4)]
    images = (0.2 + 0.6 * torch.rand(4, 3, 16, 16)).requires_grad_()
    answer = each_through([in_training(one) for one in drawn], images)
    assert answer.shape == images.shape
    answer.square().sum().backward()
    assert images.grad is not None
    assert (images.grad.flatten(1).abs().sum(1) > 0).all()


def test_levels_are_drawn_over_the_whole_range_and_noise_anew() -> None:
    torch.manual_seed(0)
    drawn = [any_distortion() for _ in range(300)]
    sigmas = [one.sigma for one in drawn if isinstance(one, Noise)]
    qualities = [one.quality for one in drawn if isinstance(one, Jpeg)]
    assert min(sigmas) < 2
    assert max(sigmas) > 10
    assert min(qualities) < 42
    assert max(qualities) > 90
    assert 30 < sum(isinstance(one, Quantise) for one in drawn) < 100
    assert sum(isinstance(one, Poisson) for one in drawn) > 20
    assert torch.stack([level_of(one) for one in drawn]).max() < 1.3
    grey = torch.full((1, 3, 8, 8), 0.5)
    for one in (Noise(5), Poisson()):
        assert not torch.equal(in_training(one)(grey), in_training(one)(grey))
    names = {type(in_training(Jpeg(50))).__name__ for _ in range(20)}
    assert names == {"ForwardASL", "SimulatedJpeg"}


def test_groups_are_hosts_with_other_secrets_and_repeat() -> None:
    groups = Groups(photos.load(3), 2, 32, 10, 0)
    pictures, progress = groups[5]
    assert pictures.shape == (3, 3, 32, 32)
    assert progress == 0.5
    assert torch.equal(groups[5][0], pictures)
    assert not torch.equal(pictures[0], pictures[1])
    assert not torch.equal(groups[6][0], pictures)


def test_the_error_of_the_secret_falls() -> None:
    torch.manual_seed(0)
    net, batch, steps = RIISNet(SIZES), 3, 16
    groups = Groups(photos.load(3), 1, 16, 10 * steps * batch, 0)
    some = torch.stack([groups[n][0] for n in range(8)])
    net.initialise(some[:, 0], some[:, 1:])
    errors: list[float] = []
    step = hiding(Quantise, Weights(container=1.0))

    def watched(*args: object) -> dict[str, Tensor]:
        scalars = step(*args)  # type: ignore[arg-type]
        errors.append(float(scalars["secret"].detach()))
        return scalars

    fit(net, groups, watched, TrainConfig(steps, batch, lr=1e-2, warmup=3, spike=1000.0))
    assert sum(errors[-4:]) < 0.7 * sum(errors[:4])


@pytest.mark.usefixtures("few")
def test_a_run_of_two_stages_resumes_and_is_published(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (train_riis, publish_riis):
        monkeypatch.setattr(module, "held_out", partial(train_riis.held_out, side=16, limit=1))
    run = tmp_path / "run"
    sizes = ("--blocks", 1, "--growth", 3, "--layers", 2, "--side", 16, "--no-cem")
    data = ("--data", folder / "Few", "--valid", folder / "Few")
    options = (*sizes, "--optimiser", "muon", "--batch", 2, "--every", 1, "--run", run, *data)
    train = app(train_riis.main)
    train("sigma-10", *options, "--steps", 2)
    rows = [json.loads(line) for line in (run / "validation.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2]
    assert set(rows[0]["secret"]) == set(rows[0]["blind"]) == set(FEW)
    assert json.loads((run / "config.json").read_text())["training"]["optimiser"] == "muon"
    for words in (("--steps", 2), ("--steps", 2, "--no-dgm", "--resume")):
        with pytest.raises(InputError, match=f"run: {run} holds a run"):
            train("sigma-10", *options, *words)
    (run / "second" / "checkpoint.safetensors").unlink()  # as if cut off between the stages
    train("sigma-10", *options, "--steps", 2, "--resume")
    again = [json.loads(line) for line in (run / "validation.jsonl").read_text().splitlines()]
    assert again == [*rows, rows[-1]]

    app(publish_riis.main)(run, "--name", "mine", "--out", tmp_path, *data[2:])
    card = json.loads((tmp_path / "riis-mine.json").read_text())
    assert (card["steps"], card["setting"]) == (2, "sigma-10")
    assert card["sizes"]["decoupled"]
    codec = RIIS.from_pretrained(tmp_path / "riis-mine.safetensors")
    assert (codec.name, codec.capacity) == ("mine", 1)
    assert codec.net.revealing is not None


@pytest.mark.usefixtures("few")
def test_nets_that_differ_in_one_part_or_distortion_are_compared(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from modelguard.benchmarks.tables import render

    for module in (train_riis, publish_riis, riis_variants):
        monkeypatch.setattr(module, "TESTED", {"clean": Quantise})
    centres = train_riis.held_out
    for module in (train_riis, riis_variants):
        monkeypatch.setattr(module, "held_out", lambda folder, secrets, *_: centres(folder, secrets, 16, 1))
    monkeypatch.setattr(train_riis, "LIGHT", replace(SIZES, levels=2))
    monkeypatch.setattr(riis_variants, "LEVELS", ("robust-1", "jpeg-40"))
    sets = ("--data", folder / "Few", "--tests", folder / "Few", "--out", tmp_path)
    compare, words = app(riis_variants.main), (*sets, "--steps", 2, "--side", 16, "--blocks", 1)
    compare("parts", *words, "--run", tmp_path / "parts")
    parts = json.loads((tmp_path / "riis_variants-parts.json").read_text())["results"]["variants"]
    assert list(parts) == list(riis_variants.PARTS)
    sizes = {
        name: publish_riis.finished(tmp_path / "parts" / name)[0].sizes
        for name in ("all-parts", "without-2DT", "without-CANP", "without-CEM", "without-DGM")
    }
    assert [one.decoupled for one in sizes.values()] == [True, False, True, True, True]
    assert [one.projection for one in sizes.values()] == [1, 1, 0, 1, 1]
    assert [one.enhancement for one in sizes.values()] == [3, 3, 3, 0, 3]
    assert [one.modulated for one in sizes.values()] == [True, True, True, True, False]

    app(publish_riis.main)(tmp_path / "parts" / "all-parts", "--name", "start", "--out", tmp_path)
    start = tmp_path / "riis-start.safetensors"
    levels = (*words, "--run", tmp_path / "levels", "--start", start)
    compare("levels", *levels)
    net, about = publish_riis.finished(tmp_path / "levels" / "jpeg-40")
    assert (about["setting"], about["steps"], about["start"]) == ("jpeg-40", 2, str(start))
    given = RIIS.from_pretrained(start).net.state_dict()
    assert net.sizes.decoupled
    assert 0 < max(float((value - given[name]).abs().max()) for name, value in net.state_dict().items()) < 0.1
    kept = (tmp_path / "levels" / "jpeg-40" / "validation.jsonl").read_text()
    compare("levels", *levels)  # all is there
    assert (tmp_path / "levels" / "jpeg-40" / "validation.jsonl").read_text() == kept
    assert "| without CEM | 2 | " in render("riis-parts", tmp_path)
    assert "| jpeg-40 | 2 | " in render("riis-levels", tmp_path)


@pytest.mark.usefixtures("few")
def test_the_benchmark_writes_what_the_tables_read(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from modelguard.benchmarks.tables import render

    monkeypatch.setattr(riis, "CURVE", {name: riis.CURVE[name] for name in ("sigma 4", "JPEG 50")})
    monkeypatch.setattr(riis_applications, "EDITS", ("20%", "trimmed"))
    words = ("--tests", folder, "--set", "Few", "--codec", TINY, "--limit", 2, "--side", 64)
    app(riis.main)(*words, "--trials", 1, "--no-speed", "--out", tmp_path)
    result = json.loads((tmp_path / "riis-tiny.json").read_text())["results"]
    few = result["sets"]["Few"]
    assert few["images"] == 2
    assert few["container"] > 18
    assert few["unrounded"]["container"] == pytest.approx(few["container"], abs=1)
    assert 25 < few["least_bits"]["container"] < 40
    assert few["least_bits"]["secret"]["JPEG 40"] < few["least_bits"]["secret"]["clean"] - 5
    assert few["seams"]["mean_levels"] < 2
    assert f"| tiny | Few | secret, JPEG 80 |  | {few['secret']['JPEG 80']:.2f} |" in render("riis", tmp_path)
    assert "| tiny | Few | guessed |" in render("riis-curve", tmp_path)
    assert 0 < few["locating"]["8 bits"]["overlap"]["20%"] <= 1
    assert "| tiny | Few | JPEG 80 | 20% 0" in render("riis-locating", tmp_path)
    assert "| tiny | Few | sigma 10 |" in render("riis-score", tmp_path)
    assert "| tiny | Few | 1 | " in render("riis-photographing", tmp_path)
    assert f"| tiny | Few | {few['colouring']['grey']:.4g} |" in render("riis-colouring", tmp_path)


def test_the_cost_is_listed_by_size() -> None:
    rows = riis.cost(RIIS.from_pretrained(TINY), [64, 32])
    assert [row["side"] for row in rows] == [32, 64]
    assert all(row["peak_megabytes"] > 0 for row in rows)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("nonsense",), "setting"),
        (("clean-1", "--side", 20), "side"),
        (("clean-1",), "data"),
        (("clean-5", "--start", TINY), "start: .* carries 2 secrets, the setting 5"),
        (("clean-5", "--start", TINY, "--blocks", 2), "start: the sizes"),
        (("clean-5", "--start", TINY, "--no-cem"), "start: the sizes"),
    ],
)
def test_bad_settings_are_named_before_any_work(tmp_path: Path, words: tuple[object, ...], part: str) -> None:
    with pytest.raises(InputError, match=part):
        app(train_riis.main)(*words, "--data", tmp_path, "--run", tmp_path / "run")
    assert not (tmp_path / "run").exists()
