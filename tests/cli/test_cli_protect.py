"""`modelguard protect`, and all that can be wrong with its input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from workshop import PASSPHRASE, Run, everything_in

import modelguard as mg

NEW_OWNER = ("--data", "photos", "--owner", "new.pem", "--create-owner", "New Ltd")


def test_a_new_owner_protects_a_model_though_some_images_are_broken(run: Run, workshop: Path) -> None:
    (workshop / "photos" / "cut.png").write_bytes((workshop / "photos" / "0.png").read_bytes()[:200])
    Image.fromarray(np.full((80, 80), 40_000, np.uint16)).save("photos/deep.png")
    Image.fromarray(np.zeros((20, 20), np.uint8)).save("photos/tiny.png")
    words = (*NEW_OWNER, "--steps", 400, "--leaves", 4, "--name", "net", "--version", "7", "--json")
    result = run("protect", "tinynet:Net", "out", *words)
    assert result.code == 0, result.err
    assert "note: skipped 3 files in photos" in result.err
    assert "cut.png" in result.err
    found = json.loads(result.out)
    assert found["leaves"] == 4
    assert found["report"]["log10_p"] < -6
    assert everything_in(workshop / "out") == {
        "key.mgkey",
        "model.safetensors",
        "registration.dsse.json",
        "report.txt",
    }
    owner = mg.PublicKey.load("new.pub.pem")
    assert mg.Key.load("out/key.mgkey", PASSPHRASE).owner == owner.der
    from modelguard.evidence import Registration

    registration = Registration.load("out/registration.dsse.json", [owner])
    assert registration.record_id == found["registration"]
    assert (registration.fields["model"]["name"], registration.fields["model"]["version"]) == ("net", "7")
    assert run("verify", "tinynet:Net", "--weights", "out", "--key", "out/key.mgkey").code == 0
    assert run("verify", "tinynet:Net", "--weights", "protected", "--key", "out/key.mgkey").code == 1


@pytest.mark.parametrize(
    ("model", "code", "part"),
    [
        ("tinynet:Cropping", 2, "came back as"),
        ("tinynet:Broken", 2, "NaN or infinity"),
        ("tinynet:blur", 3, "let the factory return an nn.Module"),
    ],
)
def test_models_that_break_the_contract(run: Run, workshop: Path, model: str, code: int, part: str) -> None:
    before = everything_in(workshop)
    result = run("protect", model, "out", *NEW_OWNER)
    assert result.code == code
    assert part in result.err
    assert everything_in(workshop) == before  # no owner either


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"--data": "empty"}, "no usable image"),
        ({"--data": "nowhere"}, "there is no folder nowhere"),
        ({"--data": "one"}, "1 image is too few"),
        ({"--owner": "nobody.pem"}, "there is no file nobody.pem"),
        ({"--create-owner": "Acme"}, "leave out --create-owner"),
        ({"--owner": "new.pem", "--create-owner": ""}, "name"),
        ({"--leaves": "2"}, "per_query"),
        ({"out": "photos"}, "OUT: photos exists already"),
    ],
)
def test_arguments_that_cannot_be_used(run: Run, workshop: Path, change: dict[str, str], part: str) -> None:
    (workshop / "empty").mkdir()
    (workshop / "one").mkdir()
    (workshop / "one" / "0.png").write_bytes((workshop / "photos" / "0.png").read_bytes())
    words = {"out": "out", "--data": "photos", "--owner": "acme.pem"} | change
    before = everything_in(workshop)
    out, options = words.pop("out"), [word for pair in words.items() for word in pair]
    result = run("protect", "tinynet:Net", out, *options)
    assert result.code == 3, result.err
    assert part in result.err
    assert everything_in(workshop) == before


def test_a_wrong_passphrase_is_noticed_before_training(
    run: Run, workshop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELGUARD_PASSPHRASE", "wrong")
    words = ("--data", "photos", "--owner", "acme.pem", "--steps", 10**6)
    result = run("protect", "tinynet:Net", "out", *words)
    assert result.code == 2
    assert "passphrase" in result.err


def test_images_from_0_to_255_are_refused(workshop: Path) -> None:
    from modelguard.networks import DnCNN

    owner = mg.Owner.load("acme.pem")
    images = [255 * mg.ImageSet.from_folder("photos")[0] for _ in range(2)]
    with pytest.raises(mg.ModelGuardError, match=r"values 0\.\.255|values .*\.\.255") as caught:
        mg.protect(DnCNN(depth=3, width=4), mg.TriggerKey(steps=1), data=images, owner=owner)
    assert "divide 8-bit images by 255" in caught.value.diagnostics()


def test_ctrl_c_in_mid_training_leaves_nothing(spawn: Run, workshop: Path) -> None:
    before = everything_in(workshop)
    result = spawn("protect", "tinynet:Interrupted", "out", *NEW_OWNER, "--steps", 10**5)
    assert result.code == 130, result.err
    assert "error: interrupted" in result.err
    assert "Traceback" not in result.err
    assert result.out.strip() == ""
    assert everything_in(workshop) == before


def test_a_barrier_is_not_trained(run: Run, workshop: Path) -> None:
    result = run("protect", "tinynet:Net", "out", *NEW_OWNER, "--scheme", "barrier", "--steps", 5)
    assert result.code == 3
    assert "steps: a barrier is not trained" in result.err
    assert run("protect", "tinynet:Net", "out", *NEW_OWNER, "--scheme", "fence").code == 3
    assert not (workshop / "new.pem").exists()
