from __future__ import annotations

import json
from pathlib import Path

import pytest

from modelguard.benchmarks import faults
from modelguard.benchmarks.faults import ANSWERED, FAULTS, faulty_run, killed_run, registered_key
from modelguard.evidence import Owner


@pytest.mark.parametrize("marked", [True, False])
def test_faults_change_no_verdict_and_each_is_recorded(owner: Owner, tmp_path: Path, marked: bool) -> None:
    run = faulty_run(registered_key(owner, tmp_path), marked, 57, tmp_path / "t", seconds=1)
    assert run["outcome"] == ("match" if marked else "inconclusive")
    assert run["requests"] == run["lines"] > 3
    assert run["refusals"] == run["refusals_recorded"] > 0
    assert run["asked_after_an_answer"] == 0


def test_there_are_fifteen_ways_to_fail() -> None:
    assert len(FAULTS.keys() - {ANSWERED}) == 15


def test_a_killed_session_is_resumed_and_asks_nothing_twice(owner: Owner, tmp_path: Path) -> None:
    run = killed_run(registered_key(owner, tmp_path, 16), owner, 1, tmp_path, queries=4)
    assert (run["killed"], run["outcome"], run["asked_twice"]) == (True, "match", 0)
    assert run["lines"] == 4
    assert run["lost"] <= 1


def test_results_are_written(tmp_path: Path) -> None:
    faults.main(runs=1, kills=0, out=tmp_path)
    results = json.loads((tmp_path / "faults.json").read_text())["results"]
    assert results["unmarked"]["outcomes"] == {"inconclusive": 1}
    assert results["marked"]["runs_with_a_difference"] == 0
