from __future__ import annotations

import json
from pathlib import Path

from command import app

from modelguard import photos
from modelguard.benchmarks import forging, tables
from modelguard.datasets import write_image


def test_a_barrier_is_fitted_taken_off_and_moved_but_not_averaged(tmp_path: Path) -> None:
    for number, image in enumerate(photos.load(3)):
        write_image(tmp_path / "tests" / "few" / f"{number}.png", image)
    app(forging.main)("--tests", tmp_path / "tests", "--set", "few=7", "--read", 3, "--out", tmp_path)
    found = json.loads((tmp_path / "forging.json").read_text())["results"]["hosts"]
    for host in found:
        read = {cell["answers"]: cell for cell in host["cases"]}
        whole = read["as they are"]["log10_p_adj"]
        assert whole < -6
        assert read["the same put on the unmarked host's"]["log10_p_adj"] > -6
        assert read["mean change of 4 others taken off"]["log10_p_adj"] < -6
        cleaned = read["signs of 3 answers taken off"]
        assert cleaned["log10_p_adj"] > whole / 2
        assert cleaned["to_host"] > read["as they are"]["to_host"]
    colour = {cell["answers"]: cell for cell in found[1]["cases"]}
    assert colour["signs of 3 answers put on the unmarked host's"]["log10_p_adj"] < -6
    assert "| median filter, colour | as they are | " in tables.render("forging", tmp_path)
