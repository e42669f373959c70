"""`modelguard hide` and `modelguard reveal`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from workshop import Run

from modelguard import photos

CODEC = f"riis:{Path(__file__).parents[1] / 'codecs' / 'tiny-riis.safetensors'}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with three small photos."""
    monkeypatch.chdir(tmp_path)
    for name in ("cat", "coffee", "rocket"):
        with Image.open(photos.FOLDER / f"{name}.jpg") as picture:
            picture.convert("RGB").crop((40, 40, 136, 120)).save(tmp_path / f"{name}.png")
    return tmp_path


def test_pictures_are_hidden_and_revealed(run: Run, folder: Path) -> None:
    command = ("hide", "cat.png", "coffee.png", "rocket.png", "--out", "out.png", "--codec", CODEC)
    result = run(*command, "--preview", "hidden.png", "--json")
    assert result.code == 0, result.err
    said = json.loads(result.out)
    assert said["container_psnr"] > 15
    assert len(said["secret_psnr"]) == 2
    with Image.open("out.png") as container, Image.open("hidden.png") as sheet:
        assert container.size == (96, 80)
        assert sheet.width > 4 * 256

    result = run("reveal", "out.png", "--out", "back", "--codec", CODEC, "--preview", "back.png", "--json")
    said = json.loads(result.out)
    assert result.code == (0 if said["credible"] else 1)
    assert said["guessed"]
    names = ["back/host.png", "back/secret-1.png", "back/secret-2.png"]
    assert said["files"] == names
    for name in names:
        with Image.open(name) as picture:
            assert picture.size == (96, 80)
    assert Path("back.png").is_file()
    told = run("reveal", "out.png", "--out", "told", "--codec", CODEC, "--distortion", "jpeg:80")
    assert "told to be Jpeg(quality=80" in told.out


def test_a_picture_that_is_no_container_is_said_to_be_none(run: Run, folder: Path) -> None:
    result = run("reveal", "cat.png", "--out", "back", "--codec", CODEC)
    assert result.code == 1
    assert "nothing credible was found (score 0." in result.out
    assert Path("back/secret-1.png").is_file()  # for who wants to look


def test_an_edit_is_located(run: Run, folder: Path) -> None:
    secrets = ("coffee.png", "rocket.png")
    assert run("hide", "cat.png", *secrets, "--out", "out.png", "--codec", CODEC).code == 0
    with Image.open("out.png") as container, Image.open("rocket.png") as other:
        container.paste(other.crop((0, 0, 40, 40)), (40, 24))
        container.save("edited.png")
    words = (*secrets, "--codec", CODEC, "--distortion", "none", "--json")
    shares = []
    for name in ("out.png", "edited.png"):
        result = run("locate", name, *words, "--out", f"mask-{name}", "--preview", f"seen-{name}")
        said = json.loads(result.out)
        assert result.code == (0 if said["credible"] else 1)
        with Image.open(f"mask-{name}") as mask:
            assert (mask.mode, mask.size) == ("L", (96, 80))
            assert mask.histogram()[255] / (96 * 80) == pytest.approx(said["share"], abs=1e-3)
        assert Path(f"seen-{name}").is_file()
        shares.append(said["share"])
    assert shares[0] < shares[1]


def test_nothing_is_overwritten_without_force(run: Run, folder: Path) -> None:
    hide = ("hide", "cat.png", "coffee.png", "--out", "out.png", "--codec", CODEC)
    assert run(*hide).code == 0
    before = (folder / "out.png").read_bytes()
    result = run("hide", "rocket.png", *hide[2:])
    assert (result.code, (folder / "out.png").read_bytes()) == (3, before)
    shutil.copy("cat.png", "preview.png")
    assert run("hide", *hide[1:3], "--out", "new.png", *hide[5:], "--preview", "preview.png").code == 3
    for name in ("new.png", "sheet.jpg"):  # the container itself, and no PNG
        assert run("hide", *hide[1:3], "--out", "new.png", *hide[5:], "--preview", name, "--force").code == 3
    assert not Path("new.png").exists()
    assert run("hide", "rocket.png", *hide[2:], "--force").code == 0
    assert (folder / "out.png").read_bytes() != before
    reveal = ("reveal", "out.png", "--out", "back", "--codec", CODEC)
    (folder / "back").mkdir()
    shutil.copy("cat.png", "back/secret-2.png")
    assert run(*reveal).code == 3
    assert not Path("back/host.png").exists()
    assert run(*reveal, "--force").code in (0, 1)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["hide", "cat.png", "none.png", "--out", "out.png"], "none.png"),
        (["hide", "cat.png", "coffee.png", "cat.png", "rocket.png", "--out", "out.png"], "1 to 2"),
        (["hide", "cat.png", "coffee.png", "--out", "out.gif"], "ending"),
        (["hide", "grey.png", "coffee.png", "--out", "out.png"], "grey"),
        (["hide", "alpha.png", "coffee.png", "--out", "out.png"], "alpha"),
        (["hide", "cat.png", "coffee.png", "--out", "out.png", "--codec", "dbmark:x"], "riis:"),
        (["hide", "cat.png", "coffee.png", "--out", "out.png", "--codec", "riis:nonsense"], "nonsense"),
        (["reveal", "none.png", "--out", "back"], "none.png"),
        (["reveal", "cat.png", "--out", "back", "--distortion", "blur:1"], "distortion"),
        (["reveal", "cat.png", "--out", "back", "--distortion", "jpeg:x"], "distortion"),
        (["reveal", "cat.png", "--out", "back", "--distortion", "jpeg:101"], "quality"),
    ],
)
def test_bad_input_is_explained(run: Run, folder: Path, words: list[str], part: str) -> None:
    with Image.open("cat.png") as picture:
        picture.convert("L").save("grey.png")
        picture.convert("RGBA").save("alpha.png")
    result = run(*words, *([] if "--codec" in words else ["--codec", CODEC]))
    assert result.code == 3
    assert part in result.err
    assert not (folder / "out.png").exists()
    assert not (folder / "back").exists()
