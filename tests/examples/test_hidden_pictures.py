from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from test_examples import example

from modelguard import photos

TINY = Path(__file__).parents[1] / "codecs" / "tiny-riis.safetensors"


def test_three_sheets_are_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = []
    for name in ("coffee", "cat"):
        pictures.append(tmp_path / f"{name}.png")
        with Image.open(photos.FOLDER / f"{name}.jpg") as photo:
            photo.crop((60, 60, 156, 156)).save(pictures[-1])
    words = ["--codec", str(TINY), "--host", str(pictures[0]), "--secret", str(pictures[1])]
    example("hidden_pictures").main([*words, "--out", str(tmp_path / "out")])
    said = capsys.readouterr().out
    assert "% is marked as edited" in said
    assert "the QR code says" in said
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"edit.png", "photo.png", "colours.png"}
    with Image.open(tmp_path / "out" / "photo.png") as sheet:
        assert sheet.width > 4 * 256
