"""`modelguard demo`, with a small model in place of the one that ships."""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path

import pytest
from PIL import Image
from workshop import Run, everything_in

import modelguard as mg
from modelguard import photos


def test_an_existing_folder_is_an_error_before_any_work(run: Run, workshop: Path) -> None:
    began = time.monotonic()
    result = run("demo", "--out", "photos")
    assert result.code == 3
    assert "photos exists already" in result.err
    assert time.monotonic() - began < 1


@pytest.fixture
def small_host(workshop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the demo run on the small model, and with salts that cost nothing."""
    import tinynet

    from modelguard.cli import story

    monkeypatch.setattr("modelguard.networks.dncnn", lambda pretrained: tinynet.Net())
    monkeypatch.setattr("modelguard.schemes.TriggerKey", partial(mg.TriggerKey, fidelity=100))
    tell = story.tell
    short = {"theft_steps": 3, "stretch": 10}
    monkeypatch.setattr(story, "tell", lambda *given, **named: tell(*given, **named, **short))


@pytest.mark.usefixtures("small_host")
def test_three_thefts_match_and_two_innocents_do_not(run: Run, workshop: Path) -> None:
    result = run("demo", "--out", "demo", "--steps", 360, "--json")
    assert result.code == 0, result.err
    found = json.loads(result.out)
    assert [(row["stolen"], row["verdict"]) for row in found["suspects"]] == [
        (True, "match"),
        (True, "match"),
        (True, "match"),
        (False, "inconclusive"),
        (False, "inconclusive"),
    ]
    assert all(row["suspects"] == 5 for row in found["suspects"])
    assert found["certificate"]["verdict"] == "match"
    folder = workshop / "demo"
    assert json.loads((folder / "results.json").read_text()) == found

    checked = run("check", "demo/evidence", "--trust", "demo/acme.pub.pem", "--suspects", 5)
    assert checked.code == 0
    passphrase = result.err.strip().rsplit(" ", 1)[1]
    key = mg.Key.load(folder / "protected" / "key.mgkey", passphrase)
    assert key.burnt == set(found["certificate"]["leaves"])
    assert mg.Owner.load(folder / "acme.pem", passphrase).name == "Acme Imaging"
    assert not any(passphrase.encode() in path.read_bytes() for path in folder.rglob("*") if path.is_file())
    with Image.open(folder / "picture.png") as picture:
        assert picture.width > 1200
        assert len(picture.getcolors(1 << 24)) > 200  # photos, not an empty sheet
    assert [path.name for path in workshop.iterdir() if path.name.startswith(".")] == []


@pytest.mark.usefixtures("small_host")
def test_ctrl_c_leaves_no_folder(run: Run, workshop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tinynet

    monkeypatch.setattr("modelguard.networks.dncnn", lambda pretrained: tinynet.Interrupted())
    before = everything_in(workshop)
    result = run("demo", "--out", "demo", "--steps", 500)
    assert result.code == 130
    assert everything_in(workshop) == before


@pytest.mark.slow
def test_the_real_demo_catches_all_in_four_minutes(spawn: Run, tmp_path: Path) -> None:
    began = time.monotonic()
    result = spawn("demo", "--out", tmp_path / "demo", "--json")
    assert result.code == 0, result.err
    assert time.monotonic() - began < 240
    report = json.loads(result.out)["report"]
    assert report["psnr_after"] > report["psnr_before"] - 0.1
    assert report["images"] == len(photos.load().images[1::3])
