from __future__ import annotations

import pytest
from torch import nn

from modelguard.benchmarks import service
from modelguard.benchmarks.rows import evidence
from modelguard.networks import DnCNN
from modelguard.protecting import Protected


def small() -> nn.Module:
    return DnCNN(depth=3, width=24, batch_norm=False)


@pytest.mark.slow
def test_a_served_model_is_told_from_its_unmarked_host(protected: Protected, unmarked: nn.Module) -> None:
    found = service.rows(small, protected.model, unmarked, protected.key, 75)
    assert [(row["model"], row["queries"], row["verdict"]) for row in found] == [
        ("marked", 1, "match"),
        ("marked", 2, "match"),
        ("unmarked", 1, "inconclusive"),
        ("unmarked", 2, "inconclusive"),
    ]
    assert {media for row in found for media in row["answers"]} == {"image/jpeg"}
    header, cells = evidence.service([{"results": {"host": "dncnn", "jpeg": 75, "asked": found}}])
    assert [len(row) for row in cells] == [len(header)] * 4
