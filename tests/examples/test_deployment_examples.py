from __future__ import annotations

import functools
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from test_examples import EXAMPLES, example
from torch import nn

import modelguard as mg
from modelguard.datasets import ImageSet, read_image, write_image
from modelguard.networks import DnCNN
from modelguard.protecting import Protected
from modelguard.schemes import TriggerKey
from modelguard.weights import dump_state

PATCH = """
import runpy, sys
from modelguard import networks
networks.dncnn = lambda: networks.DnCNN(3, width=24, batch_norm=False)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def small() -> nn.Module:
    return DnCNN(depth=3, width=24, batch_norm=False)


@pytest.fixture(scope="module")
def service(protected: Protected, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of `serve_fastapi`, in a process of its own, with the small protected model."""
    weights = tmp_path_factory.mktemp("serve") / "model.safetensors"
    weights.write_bytes(dump_state(protected.model))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-c", PATCH, str(EXAMPLES / "serve_fastapi.py"), str(weights)]
    process = subprocess.Popen([*command, "--port", str(port)], env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        for _ in range(600):
            with socket.socket() as knock:
                if knock.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/denoise"
    finally:
        process.terminate()
        process.wait(30)


def test_a_served_model_is_recognised_from_another_process(service: str, protected: Protected) -> None:
    verdict = mg.verify(service, protected.key)
    assert verdict.match
    assert (verdict.suspect.kind, verdict.transcript.lines[0].raw_type) == ("http-api", "image/jpeg")


@pytest.mark.parametrize(("body", "status"), [(b"<html>", 400), (bytes(9 << 20), 413)])
def test_the_service_refuses_what_is_no_picture(service: str, body: bytes, status: int) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(service, body, timeout=30)
    assert caught.value.code == status


@pytest.fixture
def batch(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = example("batch_folder")
    monkeypatch.setattr(module, "build", small)
    return module


def test_a_batch_job_resumes_and_names_what_it_cannot_read(
    batch: ModuleType,
    protected: Protected,
    photos: ImageSet,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    weights, given, into = tmp_path / "model.safetensors", tmp_path / "noisy", tmp_path / "clean"
    weights.write_bytes(dump_state(protected.model))
    for name, image in zip(("one.png", "deeper/two.png"), photos, strict=False):
        write_image(given / name, image)
    (given / "torn.jpg").write_bytes(b"torn")
    assert batch.main(weights, given, into) == 1
    assert "torn.jpg" in capsys.readouterr().err
    done = sorted(into.rglob("*.png"))
    assert [str(path.relative_to(into)) for path in done] == ["deeper/two.png.png", "one.png.png"]
    assert read_image(done[1], 1).shape == photos[0].shape
    (given / "torn.jpg").unlink()
    done[0].unlink()
    written = done[1].stat().st_mtime_ns
    assert batch.main(weights, given, into) == 0
    assert done[0].exists()
    assert done[1].stat().st_mtime_ns == written


def test_the_job_for_ci_runs_the_gate_that_is_there() -> None:
    jobs = yaml.safe_load((EXAMPLES / "release_gate.yml").read_text())["jobs"]
    script = jobs["mark"]["steps"][-1]["run"]
    used = re.search(r"python (examples/\S+)", script)
    assert used is not None
    assert (EXAMPLES.parent / used[1]).is_file()


def test_a_model_of_ones_own_is_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = example("own_model")
    monkeypatch.setattr(mg, "protect", functools.partial(mg.protect, stretch=1))
    scheme = TriggerKey(leaves=4, steps=80, batch=1, lr=3e-3, fidelity=1.0)
    module.main(tmp_path / "own", 2, scheme)
    key = mg.Key.load(tmp_path / "own" / "protected" / "key.mgkey", module.PASSPHRASE)
    unmarked = module.TimmUNet().eval()
    assert not mg.verify(unmarked, key).match
