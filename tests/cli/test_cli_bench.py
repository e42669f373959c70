"""`modelguard bench`: the benchmarks found in the package."""

from __future__ import annotations

from pathlib import Path

import pytest
from workshop import Run


@pytest.fixture
def benchmarks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of benchmarks with one that multiplies, and a helper that is none."""
    import modelguard.benchmarks

    (tmp_path / "times.py").write_text(
        '"""Multiply."""\nimport typer\ndef main(a: int, b: int = 2) -> None:\n    print(a * b)\n'
    )
    (tmp_path / "helper.py").write_text("def mainly():\n    pass\n")
    monkeypatch.setattr("modelguard.cli.bench.FOLDER", tmp_path)
    monkeypatch.setattr(modelguard.benchmarks, "__path__", [str(tmp_path)])
    return tmp_path


def test_benchmarks_are_found_and_run_with_their_own_options(run: Run, benchmarks: Path) -> None:
    listed = run("bench", "--help").out
    assert "times" in listed
    assert "Multiply" in listed
    assert "helper" not in listed
    assert "--b" in run("bench", "times", "--help").out
    result = run("bench", "times", "6", "--b", "7")
    assert (result.code, result.out) == (0, "42\n")


def test_wrong_options_of_a_benchmark_are_usage_errors(run: Run, benchmarks: Path) -> None:
    assert run("bench", "times", "six").code == 3
    assert run("bench", "helper").code == 3


def test_the_real_ones_are_there(run: Run) -> None:
    listed = run("bench", "--help").out
    assert "trigger_key" in listed
    assert "record" not in listed.split("Commands")[1].split()
