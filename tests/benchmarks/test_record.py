from __future__ import annotations

import json
from pathlib import Path

import pytest

from modelguard import __version__
from modelguard.benchmarks import record


def test_a_result_says_how_to_get_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/usr/bin/modelguard", "bench", "speed", "--train", "/data/photos"])
    path = record.write("speed", tmp_path / "results", {"ratio": 2.5}, seed=7, notes="best of 3")
    assert path == tmp_path / "results" / "speed.json"
    content = json.loads(path.read_text())
    assert content["benchmark"] == "speed"
    assert content["command"] == "modelguard bench speed --train photos"
    assert content["seed"] == 7
    assert content["notes"] == "best of 3"
    assert content["results"] == {"ratio": 2.5}
    assert content["versions"]["modelguard"] == __version__
    assert content["machine"]["threads"] >= 1
    assert len(content["date"]) == 10
    assert "/data" not in path.read_text()


def test_a_later_run_replaces_an_earlier_one(tmp_path: Path) -> None:
    for rows in ([1], [1, 2]):
        record.write("x", tmp_path, rows, seed=0)
    assert json.loads((tmp_path / "x.json").read_text())["results"] == [1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        (["modelguard", "bench", "hosts"], "modelguard bench hosts"),
        (
            ["/x/modelguard/benchmarks/trigger_key.py", "--host", "red", "--train", "/d/train"],
            "modelguard bench trigger_key --host red --train train",
        ),
        (["m", "bench", "a", "--out=/r/docs", "--steps=3"], "modelguard bench a --out=docs --steps=3"),
        (["m", "bench", "a", "--out", "docs/results"], "modelguard bench a --out docs/results"),
        (["m", "bench", "a", "--tag", "two words"], "modelguard bench a --tag 'two words'"),
        (["m", "bench", "a", "--kind", "bench"], "modelguard bench a --kind bench"),
    ],
)
def test_the_command_is_one_anyone_can_run(argv: list[str], command: str) -> None:
    assert record.command(argv) == command
