from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from service import BRIEF, Smoother, psnr

from modelguard.attacks import (
    Loot,
    Surrogate,
    SurrogateReport,
    surrogate_cells,
    surrogate_matrix,
)
from modelguard.attacks.surrogate_report import Exam
from modelguard.datasets import Downscale, GaussianNoise, ImageSet, mixed_seed, to_uint8
from modelguard.distortions import Blur, Jpeg
from modelguard.errors import InputError
from modelguard.networks import CNet
from modelguard.weights import load_state


def test_the_protected_model_keeps_all_and_the_host_nothing(light_loot: Loot) -> None:
    service, host = Smoother(0.05), Smoother()
    exam = Exam(service, light_loot, host, lambda model: -3.0)
    assert exam.protected.retained == 1
    assert exam.protected.fidelity == float("inf")
    assert exam.protected.log10_p == -3
    assert exam.grade(host).retained == 0
    half = exam.grade(Smoother(0.025))
    assert half.retained == pytest.approx(0.5, abs=0.05)
    assert exam.grade(service, "blur", Blur(1.0)).fidelity < 60
    assert Exam(service, light_loot).grade(host).retained is None
    assert Exam(host, light_loot, host).grade(service).retained is None  # no mark to retain


def test_a_picture_shows_what_was_taken(light_loot: Loot) -> None:
    service, host = Smoother(0.04), Smoother()
    exam = Exam(service, light_loot, host)
    shown = exam.picture(host)
    assert shown is not None
    asked, marked, stolen, mark, taken = shown.chunk(5, 2)
    assert torch.equal(asked[:, :64], exam.asked.inputs[0].float() / 255)
    assert torch.equal(taken, torch.full_like(taken, 0.5))
    assert (mark - 0.5).abs().max() == pytest.approx(10 * float((marked - stolen).abs().max()), abs=1e-5)
    assert Exam(service, light_loot).picture(host) is None


def test_quality_is_taken_against_the_ground_truth(light_loot: Loot) -> None:
    exam = Exam(Smoother(), light_loot)
    task = GaussianNoise(10)
    values = []
    for number, clean in enumerate(light_loot.images):
        noisy, target = task(clean, torch.Generator().manual_seed(mixed_seed(1, number)))
        answer = Smoother()(to_uint8(noisy)[None].float() / 255)[0]
        values.append(psnr(to_uint8(answer).float() / 255, to_uint8(target).float() / 255))
    assert exam.protected.psnr == pytest.approx(sum(values) / len(values), abs=1e-3)


def test_a_task_of_another_size_is_named(photos: ImageSet) -> None:
    with pytest.raises(InputError, match="task"):
        Exam(Smoother(), Loot(photos, Downscale(2)))


@pytest.fixture
def cells() -> list[Surrogate]:
    return surrogate_cells(BRIEF, ["cnet-4", "cnet-5"], augmentations=["none", "flips"], shares=[1.0, 0.5])


def test_cells_are_all_combinations(cells: list[Surrogate]) -> None:
    assert len({cell.name for cell in cells}) == len(cells) == 8
    assert "cnet-5_l1_flips_share0.5" in {cell.name for cell in cells}


def test_every_cell_leaves_a_report_and_weights(
    cells: list[Surrogate], light_loot: Loot, photos: ImageSet, tmp_path: Path
) -> None:
    reports = surrogate_matrix(
        cells[:2],
        Smoother(0.05),
        light_loot,
        photos,
        tmp_path / "m",
        host=Smoother(),
        strength=lambda model: -2.5,
        channels={"jpeg 75": Jpeg(75)},
    )
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == sorted(
        f"{cell.name}.{ending}" for cell in cells[:2] for ending in ("json", "png", "safetensors")
    )
    for cell, report in zip(cells, reports, strict=False):
        assert SurrogateReport.from_json((tmp_path / "m" / f"{cell.name}.json").read_text()) == report
        assert report.settings["share"] == cell.share
        assert [one.channel for one in report.survival] == ["none", "jpeg 75"]
        assert all(one.log10_p == -2.5 and one.retained is not None for one in report.survival)
        net = CNet(1, 4)
        load_state(net, (tmp_path / "m" / f"{cell.name}.safetensors").read_bytes())
        exam = Exam(Smoother(0.05), Loot(photos, light_loot.task), Smoother(), lambda model: -2.5)
        assert exam.grade(net.eval()) == report.survival[0]
        shown = ImageSet.from_folder(tmp_path / "m").images
        assert shown[0].shape == (1, 4 * 64, 5 * 48)
    assert [report.pairs for report in reports] == [6, 3]


def test_a_full_disk_loses_nothing(
    cells: list[Surrogate],
    light_loot: Loot,
    photos: ImageSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The disk fills while the second cell saves; the first stays, the second goes on where it was."""
    expected = surrogate_matrix(cells[:3], Smoother(), light_loot, photos, tmp_path / "whole")
    calls, sync = 0, os.fsync

    def full(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 12:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(InputError, match=r"the disk of .* is full") as caught:
            surrogate_matrix(cells[:3], Smoother(), light_loot, photos, tmp_path / "m")
    assert "resume" in caught.value.remedy
    assert (tmp_path / "m" / f"{cells[0].name}.json").is_file()
    assert not list((tmp_path / "m").rglob(".*"))
    before = (tmp_path / "m" / f"{cells[0].name}.json").stat().st_mtime_ns
    started: list[int] = []
    reports = surrogate_matrix(
        cells[:3],
        Smoother(),
        light_loot,
        photos,
        tmp_path / "m",
        resume=True,
        on_cell=lambda number, cell: started.append(number),
    )
    assert started == [1, 2]
    assert (tmp_path / "m" / f"{cells[0].name}.json").stat().st_mtime_ns == before
    assert [one.survival for one in reports] == [one.survival for one in expected]


def test_finished_thieves_are_measured_again_with_something_else(
    cells: list[Surrogate], light_loot: Loot, photos: ImageSet, done: Path
) -> None:
    def again(test: ImageSet = photos, **options: Any) -> list[SurrogateReport]:
        return surrogate_matrix(
            cells[:1],
            Smoother(),
            light_loot,
            test,
            done,
            resume=True,
            on_cell=lambda number, cell: pytest.fail("trained again"),
            **options,
        )

    path = done / f"{cells[0].name}.json"
    first = SurrogateReport.from_json(path.read_text())
    assert again() == [first]
    (fewer,) = again(ImageSet(photos.images[:1]))
    assert fewer.survival != first.survival
    assert (
        replace(fewer, **{name: getattr(first, name) for name in ("survival", "protected", "measured")})
        == first
    )
    assert [one.channel for one in again(channels={"jpeg 50": Jpeg(50)})[0].survival] == ["none", "jpeg 50"]
    assert again(host=Smoother(0.1))[0].survival[0].retained is not None
    assert again(strength=lambda model: -1.0, measured_by="one")[0].survival[0].log10_p == -1
    assert again(strength=lambda model: -2.0, measured_by="two")[0].survival[0].log10_p == -2
    assert again() == [first] == [SurrogateReport.from_json(path.read_text())]


def test_a_cell_that_cannot_be_trained_is_refused_before_the_first_is(
    cells: list[Surrogate], light_loot: Loot, photos: ImageSet, tmp_path: Path
) -> None:
    for bad, said in (({"patch": 400}, "patch"), ({"share": 0.01}, "too few")):
        with pytest.raises(InputError, match=said):
            surrogate_matrix(
                [cells[0], replace(cells[1], **bad)], Smoother(), light_loot, photos, tmp_path / "m"
            )
    assert not (tmp_path / "m").exists()


@pytest.fixture
def done(cells: list[Surrogate], light_loot: Loot, photos: ImageSet, tmp_path: Path) -> Path:
    """A folder with one finished cell."""
    surrogate_matrix(cells[:1], Smoother(), light_loot, photos, tmp_path / "done")
    return tmp_path / "done"


def test_results_of_something_else_are_not_taken_up(
    cells: list[Surrogate], light_loot: Loot, photos: ImageSet, done: Path
) -> None:
    with pytest.raises(InputError, match="is not empty"):
        surrogate_matrix(cells[:1], Smoother(), light_loot, photos, done)
    with pytest.raises(InputError, match="another steps"):
        surrogate_matrix([replace(cells[0], steps=4)], Smoother(), light_loot, photos, done, resume=True)
    started = replace(cells[0], start=CNet(1, 4))
    with pytest.raises(InputError, match="another start"):
        surrogate_matrix([started], Smoother(), light_loot, photos, done, resume=True)
    with pytest.raises(InputError, match="other pairs"):
        surrogate_matrix(cells[:1], Smoother(0.1), light_loot, photos, done, resume=True)
    (done / f"{cells[0].name}.json").write_text("{}")
    with pytest.raises(InputError, match="no report"):
        surrogate_matrix(cells[:1], Smoother(), light_loot, photos, done, resume=True)


def test_a_cell_twice_is_refused(light_loot: Loot, photos: ImageSet, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="twice"):
        surrogate_matrix([BRIEF, replace(BRIEF, seed=1)], Smoother(), light_loot, photos, tmp_path / "m")
