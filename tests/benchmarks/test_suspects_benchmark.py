from __future__ import annotations

import json
from pathlib import Path

from modelguard.benchmarks import suspects


def test_suspects_are_counted_timed_and_weighed(tmp_path: Path) -> None:
    suspects.main(count=4, queries=2, answers=5, out=tmp_path)
    results = json.loads((tmp_path / "suspects.json").read_text())["results"]
    assert results["many"]["outcomes"] == {"marked: match": 1, "innocent: inconclusive": 3}
    assert results["many"]["suspects_per_second"] > 0
    assert results["memory"]["answers"] == 5
    assert results["memory"]["outcome"] == "match"
    assert results["overhead"]["service_processor_ms_a_query"] > 0
