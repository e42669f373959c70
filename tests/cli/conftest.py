"""A workshop to run commands in: a small model, a few photos, an owner and a protected model."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner
from workshop import MODELS, PASSPHRASE, Result, Run

import modelguard as mg
from modelguard.cli import app
from modelguard.datasets import write_image


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the module `tinynet`."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "tinynet.py").write_text(MODELS)
    return folder


@pytest.fixture(scope="session")
def built(models: Path, tmp_path_factory: pytest.TempPathFactory, make_photo: Callable[..., Any]) -> Path:
    """A folder made once: photos/, acme.pem, acme.pub.pem and protected/ (eight leaves)."""
    folder = tmp_path_factory.mktemp("built")
    for seed in range(4):
        write_image(folder / "photos" / f"{seed}.png", make_photo(seed=seed, height=80, width=96))
    sys.path.insert(0, str(models))
    import tinynet

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODELGUARD_PASSPHRASE", PASSPHRASE)
        owner = mg.Owner.create(folder / "acme.pem", "Acme Imaging")
        owner.save_public(folder / "acme.pub.pem")
        scheme = mg.TriggerKey(leaves=8, steps=400, fidelity=100)
        protected = mg.protect(tinynet.Net(), scheme, data=folder / "photos", owner=owner, stretch=10)
        protected.save(folder / "protected")
    sys.path.remove(str(models))
    return folder


@pytest.fixture
def workshop(built: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A fresh copy of `built` as the current folder, with the module `tinynet` and the passphrase set."""
    folder = tmp_path / "workshop"
    shutil.copytree(built, folder)
    shutil.copy(models / "tinynet.py", folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MODELGUARD_PASSPHRASE", PASSPHRASE)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    state = torch.get_rng_state()
    yield folder
    torch.set_rng_state(state)


@pytest.fixture
def run() -> Run:
    """A function that runs a command line in this process."""

    def command(*words: object) -> Result:
        result = CliRunner().invoke(app, [str(word) for word in words])
        return Result(result.exit_code, result.stdout, result.stderr)

    return command


@pytest.fixture
def spawn() -> Run:
    """A function that runs a command line in a process of its own."""

    def command(*words: object) -> Result:
        paths = [str(Path(mg.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        result = subprocess.run(
            [sys.executable, "-m", "modelguard", *map(str, words)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return Result(result.returncode, result.stdout, result.stderr)

    return command
