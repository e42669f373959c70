from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from modelguard.benchmarks import logos
from modelguard.benchmarks import train_logo_barrier as bench
from modelguard.datasets import ImageSet, write_image
from modelguard.errors import InputError
from modelguard.schemes.logo_barrier import Embedder, Extractor, Sizes


def test_logos_are_drawn_from_their_seed_and_differ() -> None:
    one, again, other = (logos.draw(seed, 32) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert one.shape == (1, 32, 32)
    assert 0 <= one.min() < 0.5 < one.mean() < 0.98
    assert not torch.equal(one, other)
    colour = logos.draw(1, 32, 3)
    assert colour.shape == (3, 32, 32)
    assert not torch.equal(colour[0], colour[1])


def test_the_median_host_removes_specks() -> None:
    image = torch.full((1, 3, 9, 9), 0.5)
    image[..., 4, 4] = 1
    assert torch.equal(bench.median(image), torch.full_like(image, 0.5))


@pytest.fixture
def folders(tmp_path: Path, make_photo: Callable[..., Tensor]) -> Path:
    """Folders of three training and two test photos."""
    for number in range(5):
        name = "train" if number < 3 else "tests"
        write_image(tmp_path / name / f"{number}.png", make_photo(number, 1, 40, 48))
    return tmp_path


def test_a_run_is_trained_measured_kept_and_resumed(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELGUARD_PASSPHRASE", "secret words")
    monkeypatch.setattr(bench, "LIGHT", Sizes(levels=2, width=4, extractor=4, discriminator=4))
    options: dict[str, Any] = {
        "data": folders / "train",
        "tests": folders / "tests",
        "run": folders / "run",
        "out": folders,
        "side": 32,
        "logo_side": 16,
        "marks": 2,
        "pairs": 4,
        "steps": 2,
        "proxy_steps": 1,
        "refine_steps": 1,
        "batch": 2,
        "precision": "fp32",
        "host": "median",
    }
    bench.main(**options)
    path = folders / "logo_barrier-grey.json"
    first = json.loads(path.read_text())["results"]
    rows = {(row["case"], row["mark"]): row for row in first["cases"]}
    own = {(case, mark) for case in ("own outputs", "proxy surrogate") for mark in (0, 1)}
    alone = ("inputs", "unmarked outputs", "innocent surrogate", "own outputs, whole photos")
    assert set(rows) == own | {(case, 0) for case in (*alone, "unmarked outputs, whole photos")}
    assert first["host"] == "median"
    assert rows["unmarked outputs", 0]["psnr"] is None
    assert rows["own outputs", 0]["psnr"] < 30
    assert all(row["images"] == 2 for row in first["cases"])
    assert 0.7 < rows["own outputs", 0]["blank_nc"] < rows["own outputs, whole photos", 0]["blank_nc"] < 1
    embedder = Embedder.load(folders / "run" / "embedder.safetensors")
    extractor = Extractor.load(folders / "run" / "extractor.sealed", "secret words")
    assert embedder.pair == extractor.pair == first["pair"]
    kept = (folders / "run" / "embedder.safetensors").read_bytes()
    attacker = folders / "run" / "embedder.safetensors"
    nets: dict[str, Any] = {"thief": ["cnet-2:l2"], "innocent": ["cnet-2:l2"], "thief_steps": 1}
    bench.main(**options, resume=True, attacker=attacker, **nets)
    again = json.loads(path.read_text())["results"]
    added = ["overwritten", "cnet-2, l2", "cnet-2, l2, innocent"]
    assert [row for row in again["cases"] if row["case"] not in added] == first["cases"]
    assert [row["case"] for row in again["cases"] if row["case"] in added] == [*added[:2], *added[::2]]
    assert set(first["cases"][0]["before_refining"]) == {"nc", "centred_nc", "sr_nc", "sr_centred"}
    assert (folders / "run" / "embedder.safetensors").read_bytes() == kept


def test_without_the_adversarial_stage_no_class_is_named(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELGUARD_PASSPHRASE", "secret words")
    monkeypatch.setattr(bench, "LIGHT", Sizes(levels=2, width=4, extractor=4, discriminator=4))
    train, tests, run = (folders / name for name in ("train", "tests", "run"))
    bench.main(
        train, tests, run, side=32, pairs=4, steps=2, proxy_steps=1, refine_steps=0, batch=2, out=folders
    )
    cases = json.loads((folders / "logo_barrier-grey.json").read_text())["results"]["cases"]
    assert all(row["sr_c"] is None and row["before_refining"] is None for row in cases)


def test_no_passphrase_is_an_error_before_the_hours_of_training(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MODELGUARD_PASSPHRASE", raising=False)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    with pytest.raises(InputError, match="passphrase"):
        bench.main(folders / "train", folders / "tests", folders / "run")
    assert not (folders / "run").exists()


def test_images_are_compared_after_rounding() -> None:
    one = ImageSet.of([torch.full((1, 20, 20), 0.4)])
    other = ImageSet.of([torch.full((1, 20, 20), 0.4) + 1 / 255])
    assert bench.compare(one, other)[0] == pytest.approx(48.13, abs=0.01)
    assert bench.middle(one, 6).images[0].shape == (1, 6, 6)
