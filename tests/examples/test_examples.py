from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

import modelguard as mg
from modelguard import networks
from modelguard.networks import DnCNN
from modelguard.weights import dump_state

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def small(**settings: object) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return DnCNN(5, width=24, batch_norm=False).eval()


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `protect_and_verify` leaves, told with a small host and a cheap salt."""
    folder = tmp_path_factory.mktemp("example") / "story"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "dncnn", small)
        patch.setattr(mg, "protect", functools.partial(mg.protect, stretch=1))
        scheme = mg.TriggerKey(steps=120, leaves=8, lr=2e-3, fidelity=10.0, batch=2)
        example("protect_and_verify").main(folder, scheme)
    return folder


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("MODELGUARD_PASSPHRASE", example("protect_and_verify").PASSPHRASE)
    module = example("release_gate")
    monkeypatch.setattr(module, "build", small)
    return module


def test_the_story_ends_in_evidence_of_a_match(story: Path) -> None:
    checked = mg.check(story / "evidence", trust=[story / "acme.pub.pem"])
    assert checked.verdict == "match"
    assert (checked.multiplicity.suspects, checked.suspect.label) == (2, "vendor X")


def test_the_gate_tells_marked_from_unmarked(
    story: Path, gate: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key, unmarked = story / "protected" / "key.mgkey", tmp_path / "unmarked.safetensors"
    unmarked.write_bytes(dump_state(small()))
    assert gate.main(story / "protected" / "model.safetensors", key, 1e-6) == 0
    assert gate.main(unmarked, key, 1e-6) == 1
    assert "unmarked.safetensors: inconclusive" in capsys.readouterr().out


def test_the_gate_does_not_pass_what_it_cannot_read(
    story: Path, gate: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key, torn = story / "protected" / "key.mgkey", tmp_path / "torn.safetensors"
    torn.write_bytes(b"torn")
    assert gate.main(torn, key, 1e-6) == 2
    assert gate.main(tmp_path / "missing.safetensors", key, 1e-6) == 2
    assert "not a safetensors file" in capsys.readouterr().err
