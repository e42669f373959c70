"""A protected model is an ordinary module: whatever its owner does to deploy it, the mark still verifies."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import modelguard as mg
from modelguard.errors import EmbeddingError, ModelContractError, SuspectError
from modelguard.networks import DnCNN
from modelguard.protecting import Protected
from modelguard.schemes import TriggerKey
from modelguard.suspects import ModuleSuspect

AUTO = torch.export.Dim.AUTO
SHAPES = ({2: AUTO, 3: AUTO},)


def reloaded(model: nn.Module, folder: Path) -> Any:
    again = DnCNN(depth=3, width=24, batch_norm=False)
    again.load_state_dict(model.state_dict())
    return again


def compiled(model: nn.Module, folder: Path) -> Any:
    return torch.compile(model, backend="aot_eager")


def exported(model: nn.Module, folder: Path) -> Any:
    return torch.export.export(model, (torch.rand(1, 1, 40, 44),), dynamic_shapes=SHAPES).module()


def in_onnx(model: nn.Module, folder: Path) -> Any:
    path = folder / "model.onnx"
    torch.onnx.export(model, (torch.rand(1, 1, 40, 44),), path, dynamic_shapes=SHAPES, verbose=False)
    return path


def half(model: nn.Module, folder: Path) -> Any:
    return model.half()


def bfloat16(model: nn.Module, folder: Path) -> Any:
    return model.to(torch.bfloat16)


def double(model: nn.Module, folder: Path) -> Any:
    return model.double()


def channels_last(model: nn.Module, folder: Path) -> Any:
    return model.to(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    "deploy", [reloaded, compiled, exported, in_onnx, half, bfloat16, double, channels_last]
)
def test_the_mark_survives_deployment(
    deploy: Callable[[nn.Module, Path], Any], protected: Protected, unmarked: nn.Module, tmp_path: Path
) -> None:
    deployed = deploy(copy.deepcopy(protected.model).eval(), tmp_path)
    assert mg.verify(deployed, protected.key).match
    innocent = deploy(copy.deepcopy(unmarked).eval(), tmp_path)
    assert not mg.verify(innocent, protected.key).match


@pytest.mark.slow
def test_the_mark_survives_the_default_compiler(protected: Protected) -> None:
    assert mg.verify(torch.compile(copy.deepcopy(protected.model)), protected.key).match


def test_a_file_is_named_by_its_digest_in_the_record(protected: Protected, tmp_path: Path) -> None:
    path = in_onnx(copy.deepcopy(protected.model), tmp_path)
    suspect = mg.verify(path, protected.key).suspect
    assert (suspect.kind, suspect.endpoint) == ("onnx", "model.onnx")
    assert len(bytes.fromhex(suspect.model_digest)) == 32


def test_the_mark_survives_data_parallel_processes(protected: Protected, tmp_path: Path) -> None:
    protected.save(tmp_path / "protected", "a passphrase")
    config = Path(__file__).parents[1] / "examples" / "two_cpu_processes.yaml"
    script = Path(__file__).parent / "two_processes_verify.py"
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config)]
    launch += ["--main_process_port", "0", str(script), str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MODELGUARD_PASSPHRASE": "a passphrase"}
    done = subprocess.run(launch, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for rank in (0, 1):
        seen = json.loads((tmp_path / f"{rank}.json").read_text())
        assert seen == {"processes": 2, "wrapper": "DistributedDataParallel", "verdict": "match"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_host_in_half_precision_is_marked_and_stays_in_it(
    dtype: torch.dtype, unmarked: nn.Module, quick: TriggerKey, photos: mg.ImageSet, owner: mg.Owner
) -> None:
    host = copy.deepcopy(unmarked).to(dtype)
    before = copy.deepcopy(host.state_dict())
    protected = mg.protect(host, quick, data=photos, owner=owner, stretch=1)
    assert all(torch.equal(before[name], value) for name, value in host.state_dict().items())
    assert {value.dtype for value in protected.model.state_dict().values()} == {dtype}
    assert mg.verify(protected.model, protected.key).match
    assert not mg.verify(host, protected.key).match


def test_precisions_of_a_mixed_host_stay_where_they_were(
    tiny: nn.Module, quick: TriggerKey, photos: mg.ImageSet, owner: mg.Owner
) -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(1, 1, 1).bfloat16(), copy.deepcopy(tiny)

        def forward(self, image: Tensor) -> Tensor:
            weight = self.first.weight
            return self.second(image.float() + 1e-3 * self.first(image.to(weight.dtype)).float())

    host = Mixed()
    protected = mg.protect(host, quick, data=photos, owner=owner, stretch=1)
    kinds = {name: value.dtype for name, value in host.state_dict().items()}
    assert kinds == {name: value.dtype for name, value in protected.model.state_dict().items()}
    assert set(kinds.values()) == {torch.bfloat16, torch.float32, torch.int64}


def test_a_model_in_another_range_is_marked_inside_its_wrapper(
    unmarked: nn.Module, quick: TriggerKey, photos: mg.ImageSet, owner: mg.Owner
) -> None:
    class Bytes(nn.Module):
        """A model that works in 0..255."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = copy.deepcopy(unmarked)

        def forward(self, image: Tensor) -> Tensor:
            answer: Tensor = self.inner(image / 255) * 255
            return answer

    class InUnitRange(nn.Module):
        """A model that works in 0..255, as one that works in [0, 1]."""

        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, image: Tensor) -> Tensor:
            answer: Tensor = self.net(image * 255) / 255
            return answer

    protected = mg.protect(InUnitRange(Bytes()), quick, data=photos, owner=owner, stretch=1)
    marked = protected.model.net
    again = mg.verify(lambda image: to_bytes(marked, image), protected.key)
    assert again.match


def to_bytes(model: nn.Module, image: Any) -> Any:
    """Ask a grey model that works in 0..255."""
    with torch.no_grad():
        answer = model(torch.from_numpy(image).permute(2, 0, 1)[None].float())
    return answer.round().clamp(0, 255).byte()[0].permute(1, 2, 0).contiguous().numpy()


def test_a_mark_that_rounding_takes_away_is_told(
    unmarked: nn.Module, quick: TriggerKey, photos: mg.ImageSet, owner: mg.Owner
) -> None:
    class Coarse(DnCNN):
        def forward(self, image: Tensor) -> Tensor:
            answer: Tensor = super().forward(image)
            return answer if image.dtype == torch.float32 else image + 0 * answer

    host = Coarse(depth=3, width=24, batch_norm=False)
    host.load_state_dict(unmarked.state_dict())
    with pytest.raises(EmbeddingError, match="too weak"):
        mg.protect(host.bfloat16(), quick, data=photos, owner=owner, stretch=1)


def test_a_model_without_values_or_on_two_devices_is_told_so(
    protected: Protected, quick: TriggerKey, photos: mg.ImageSet, owner: mg.Owner
) -> None:
    nowhere = copy.deepcopy(protected.model).to("meta")
    split = copy.deepcopy(protected.model)
    split.body[0].to("meta")
    for model, says in ((nowhere, "meta, without values"), (split, "on cpu, meta")):
        with pytest.raises(ModelContractError, match=says):
            mg.protect(model, quick, data=photos, owner=owner, stretch=1)
        with pytest.raises(SuspectError, match=says):
            ModuleSuspect(model).ask(torch.zeros(16, 16, 1, dtype=torch.uint8).numpy())
