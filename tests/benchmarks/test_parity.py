from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from modelguard.benchmarks import parity
from modelguard.benchmarks.hosts import Host
from modelguard.benchmarks.rows import trigger_key
from modelguard.datasets import GaussianNoise, ImageSet, write_image
from modelguard.protecting import Protected


def test_every_form_has_its_mark_and_its_quality(
    protected: Protected,
    unmarked: nn.Module,
    photos: ImageSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_image(tmp_path / "Set" / "one.png", photos[0])
    forms = [form for form in parity.FORMS if form != "compile"]  # the compiler takes half a minute
    monkeypatch.setattr(parity, "FORMS", forms)
    host = Host("dncnn", unmarked, GaussianNoise(25), ("Set",))
    found = parity.rows(host, protected.model, protected.key, tmp_path, 1)
    assert [row["form"] for row in found] == forms
    for row in found:
        assert row["marked"]["verdict"] == "match"
        assert row["unmarked"]["verdict"] == "inconclusive"
        for name in ("psnr_marked", "psnr_unmarked"):
            assert row[name]["Set"] == pytest.approx(found[0][name]["Set"], abs=0.1)
    header, cells = trigger_key.parity([{"results": {"host": "dncnn", "forms": found}}])
    assert [len(row) for row in cells] == [len(header)] * len(forms)
