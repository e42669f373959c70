from __future__ import annotations

import json
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from modelguard import weights
from modelguard.benchmarks import plots
from modelguard.errors import InputError

CODECS = {
    "notes": "Kodak24 at 42 dB",
    "results": [
        {"codec": "ours", "surprise": {"none": 9.0, "blur 2": 8.5}},
        {"codec": "theirs", "surprise": {"none": 9.0, "blur 2": 0.5}},
    ],
}
FOUND = {"crops": 1000, "found_at": {"0.1": 80, "1e-06": 0}, "bits_found_at": {"0.1": 99, "1e-06": 0}}
UNMARKED = {"results": {"codec": "c", "unmarked": FOUND}}
CURVE = {"sigma 1": 30.0, "sigma 10": 28.0, "JPEG 40": 27.0, "JPEG 90": 28.5}
LEVELS = {"results": {"codec": "r", "sets": {"Kodak": {"curve": {"secret": CURVE, "blind": CURVE}}}}}
VIDEO = {"results": {"weights": "x4", "learning": [{"step": 1, "psnr": 28.0, "bicubic": 27.0}]}}
CARD = {"name": "dbmark-c", "curve": [{"step": 1, "psnr": 20.0, "jpeg 50": 0.5}]}
SECRET = {"clean": 30.0, "sigma 10": 25.0, "JPEG 80": 24.0}
HIDING = {"name": "riis-r", "curve": [{"step": 1, "container": 31.0, "secret": SECRET}]}


@pytest.fixture
def cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setattr(weights, "FOLDER", folder)
    return folder


def test_what_is_measured_is_drawn_the_same_each_time(tmp_path: Path, cards: Path) -> None:
    results = tmp_path / "docs" / "results"
    results.mkdir(parents=True)
    plots.main(tmp_path)
    assert not (tmp_path / "docs" / "figures").exists()

    (results / "codecs.json").write_text(json.dumps(CODECS))
    (results / "dbmark-c.json").write_text(json.dumps(UNMARKED))
    (results / "riis-r.json").write_text(json.dumps(LEVELS))
    (results / "ristn.json").write_text(json.dumps(VIDEO))
    (cards / "dbmark-c.json").write_text(json.dumps(CARD))
    (cards / "riis-r.json").write_text(json.dumps(HIDING))
    plots.main(tmp_path)
    drawn = {path.stem: path.read_bytes() for path in (tmp_path / "docs" / "figures").iterdir()}
    assert drawn.keys() == plots.FIGURES.keys()
    words = {name: " ".join(ElementTree.fromstring(data).itertext()) for name, data in drawn.items()}
    assert "theirs" in words["codecs"]
    assert "blur 2" in words["codecs"]
    assert "c, random bits, 1,000 squares" in words["dbmark-unmarked"]
    assert "r, Kodak, guessed" in words["riis-levels"]
    assert "jpeg 50" in words["dbmark-learning"]
    assert "secret, JPEG 80" in words["riis-learning"]
    assert "RISTN, x4" in words["ristn-learning"]
    plots.main(tmp_path)
    assert {path.stem: path.read_bytes() for path in (tmp_path / "docs" / "figures").iterdir()} == drawn


def test_matplotlib_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match="matplotlib is not installed"):
        plots.svg(plots.codecs, [CODECS])
