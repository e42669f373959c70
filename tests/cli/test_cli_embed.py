"""`modelguard embed` and `modelguard extract`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from workshop import Run

from modelguard import photos

CODEC = f"dbmark:{Path(__file__).parents[1] / 'codecs' / 'tiny.safetensors'}"
BITS = "01" * 15


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a photo and a folder of two photos in a deeper one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos" / "deep").mkdir(parents=True)
    for target, name in (("one.jpg", "cat"), ("photos/fur.jpg", "fur"), ("photos/deep/coffee.jpg", "coffee")):
        shutil.copy(photos.FOLDER / f"{name}.jpg", tmp_path / target)
    return tmp_path


def test_an_id_is_embedded_and_found(run: Run, folder: Path) -> None:
    assert run("embed", "one.jpg", "out.png", "--id", 21, "--codec", CODEC).code == 0
    result = run("extract", "out.png", "--codec", CODEC)
    assert result.code == 0
    assert "found id 21" in result.out
    asked = run("extract", "out.png", "--id", 21, "--codec", CODEC, "--alpha", "1e-7", "--json")
    assert asked.code == 0
    assert json.loads(asked.out)["files"][0]["log10_p"] < -7
    assert run("extract", "out.png", "--id", 22, "--codec", CODEC).code == 1


@pytest.mark.parametrize(("option", "value"), [("--text", "k"), ("--bits", BITS)])
def test_texts_and_bits_are_embedded_and_asked_for(run: Run, folder: Path, option: str, value: str) -> None:
    assert run("embed", "one.jpg", "out.png", option, value, "--codec", CODEC).code == 0
    result = run("extract", "out.png", option, value, "--codec", CODEC)
    assert result.code == 0
    assert "found the payload asked for" in result.out


def test_a_mark_survives_the_quality_it_is_fitted_to(run: Run, folder: Path) -> None:
    bits, codec = "0110" * 16, "dbmark:jpeg-64"
    assert run("embed", "one.jpg", "out.png", "--bits", bits, "--codec", codec, "--jpeg", 30).code == 0
    Image.open("out.png").save("poor.jpg", quality=30)
    read = json.loads(run("extract", "poor.jpg", "--codec", codec, "--json").out)["files"][0]
    assert read["bits"] == bits
    refused = run("embed", "one.jpg", "not.png", "--bits", bits, "--codec", codec, "--jpeg", 1)
    assert refused.code == 2
    assert "does not hold it through Jpeg(quality=1" in refused.err
    assert not (folder / "not.png").exists()


def test_a_second_run_does_not_mark_what_the_first_wrote(run: Run, folder: Path) -> None:
    for _ in range(2):
        words = ("embed", "photos", "photos/marked", "--id", 7, "--codec", CODEC, "--force", "--json")
        assert len(json.loads(run(*words).out)["files"]) == 2
    assert not (folder / "photos" / "marked" / "marked").exists()


def test_nothing_found_is_said_plainly_with_exit_code_1(run: Run, folder: Path) -> None:
    result = run("extract", "one.jpg", "--codec", CODEC)
    assert result.code == 1
    assert result.out == "no mark found in this image, or too little of it is left\n"
    result = run("extract", "one.jpg", "--codec", CODEC, "--json")
    assert result.code == 1
    assert json.loads(result.out)["found"] == 0


def test_folders_keep_their_order_and_bad_files_are_reported(run: Run, folder: Path) -> None:
    (folder / "photos" / "broken.jpg").write_bytes((folder / "one.jpg").read_bytes()[:3000])
    Image.new("RGB", (20, 20)).save(folder / "photos" / "small.png")
    result = run("embed", "photos", "marked", "--id", 7, "--codec", CODEC, "--json")
    assert result.code == 2
    rows = {Path(row["file"]).name: row for row in json.loads(result.out)["files"]}
    assert "not a readable image" in rows["broken.jpg"]["error"]
    assert "too small" in rows["small.png"]["error"]
    assert "broken.jpg: " in result.err
    written = sorted(str(path.relative_to("marked")) for path in Path("marked").rglob("*.*"))
    assert written == ["deep/coffee.jpg", "fur.jpg"]

    result = run("extract", "marked", "--codec", CODEC, "--json", "--workers", 2)
    assert result.code == 0
    assert [row["id"] for row in json.loads(result.out)["files"]] == [7, 7]
    assert "found in 2 of 2 images" in run("extract", "marked", "--codec", CODEC).out
    assert run("extract", "photos", "--codec", CODEC).code == 2


def test_nothing_is_overwritten_without_force(run: Run, folder: Path) -> None:
    command = ("embed", "one.jpg", "out.png", "--codec", CODEC, "--id")
    assert run(*command, 1).code == 0
    before = (folder / "out.png").read_bytes()
    result = run(*command, 2)
    assert (result.code, (folder / "out.png").read_bytes()) == (3, before)
    assert "--force" in result.err
    assert run(*command, 2, "--force").code == 0
    assert (folder / "out.png").read_bytes() != before
    assert run("embed", "photos", "photos", "--id", 1, "--codec", CODEC).code == 2


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["embed", "one.jpg", "out.png"], "nothing to hide"),
        (["embed", "one.jpg", "out.png", "--id", "1", "--text", "a"], "one of them"),
        (["embed", "one.jpg", "out.png", "--id", "256"], "does not fit 8 bits"),
        (["embed", "one.jpg", "out.png", "--text", "long"], "4 bytes do not fit"),
        (["embed", "one.jpg", "out.png", "--bits", "012"], "other signs"),
        (["embed", "one.jpg", "out.png", "--bits", "01"], "30 bits"),
        (["embed", "one.jpg", "out.gif", "--id", "1"], "ending"),
        (["embed", "one.jpg", "out.png", "--id", "1", "--strength", "0"], "no factor"),
        (["embed", "none.jpg", "out.png", "--id", "1"], "there is no none.jpg"),
        (["extract", "none.jpg"], "there is no none.jpg"),
        (["extract", "one.jpg", "--alpha", "1e-8"], "cannot be reached"),
        (["extract", "one.jpg", "--alpha", "2"], "alpha"),
        (["extract", "one.jpg", "--codec", "dbmark:nonsense"], "nonsense"),
        (["extract", "one.jpg", "--codec", "nonsense"], "no dbmark codec"),
    ],
)
def test_bad_input_is_explained(run: Run, folder: Path, words: list[str], part: str) -> None:
    result = run(*words, *([] if "--codec" in words else ["--codec", CODEC]))
    assert result.code == 3
    assert part in result.err
    assert not (folder / "out.png").exists()


def test_a_folder_without_images_is_an_error(run: Run, folder: Path) -> None:
    (folder / "empty").mkdir()
    assert "no image file" in run("extract", "empty", "--codec", CODEC).err
