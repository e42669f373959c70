from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from modelguard.datasets import GaussianNoise, ImageSet, Patches


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two data-parallel processes on the CPU saw."""
    folder = tmp_path_factory.mktemp("two")
    script = Path(__file__).parent / "two_processes.py"
    config = Path(__file__).parents[2] / "examples" / "two_cpu_processes.yaml"
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config)]
    launch += ["--main_process_port", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launch, str(script), str(folder)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def test_there_are_two_that_talk(seen: list[dict[str, Any]]) -> None:
    assert [(one["processes"], one["backend"]) for one in seen] == [(2, "gloo")] * 2


def test_each_has_its_own_share_of_the_data(seen: list[dict[str, Any]]) -> None:
    ramp = torch.arange(24 * 24).reshape(1, 24, 24) / (24 * 24)
    patches = Patches(ImageSet.of([ramp]), GaussianNoise(25), 12, 1000)
    batches = [float(torch.stack([patches[2 * i][0], patches[2 * i + 1][0]]).sum()) for i in range(12)]
    assert seen[0]["batches"] == pytest.approx(batches[0::2])
    assert seen[1]["batches"] == pytest.approx(batches[1::2])


def test_replicas_and_reported_losses_stay_equal(seen: list[dict[str, Any]]) -> None:
    for name in ("weights", "weights after another fit", "loss"):
        assert seen[0][name] == seen[1][name]
    assert seen[0]["weights"] != seen[0]["weights after another fit"]


def test_an_interrupt_of_one_stops_both_at_one_step(seen: list[dict[str, Any]]) -> None:
    assert [(one["interrupted"], one["steps until the interrupt"]) for one in seen] == [(True, 4)] * 2


def test_resuming_is_exact(seen: list[dict[str, Any]]) -> None:
    assert seen[0]["resumed"] == seen[1]["resumed"] == seen[0]["weights"]


def test_both_end_where_the_main_process_says(seen: list[dict[str, Any]]) -> None:
    assert [one["ended at"] for one in seen] == [4, 4]
