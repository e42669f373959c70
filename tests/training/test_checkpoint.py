from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from modelguard.datasets import GaussianNoise, ImageSet, Patches
from modelguard.errors import InputError
from modelguard.networks import DnCNN
from modelguard.training import TrainConfig, fit, load_checkpoint, restoration, save_checkpoint

CONFIG = TrainConfig(steps=3, batch=2, precision="fp32")


def trained(net: nn.Module, photos: ImageSet, folder: Path, *, resume: bool = False) -> None:
    patches = Patches(photos, GaussianNoise(25), 12, 100)
    fit(net, patches, restoration(nn.functional.mse_loss), CONFIG, run_dir=folder, resume=resume)


def test_round_trip(tiny: nn.Module, tmp_path: Path) -> None:
    tiny.to(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(tiny.parameters())
    tiny(torch.rand(1, 1, 8, 8)).sum().backward()
    optimiser.step()
    save_checkpoint(tmp_path / "c", tiny, optimiser, {"step": 1, "note": "é"})
    other = DnCNN(depth=4, width=8).to(memory_format=torch.channels_last)
    empty = torch.optim.Adam(other.parameters())
    assert load_checkpoint(tmp_path / "c", other, empty) == {"step": 1, "note": "é"}
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in tiny.state_dict().items())
    one, two = optimiser.state_dict()["state"], empty.state_dict()["state"]
    assert one.keys() == two.keys()
    for i in one:
        for name, value in one[i].items():
            assert torch.equal(value, two[i][name])
            assert value.stride() == two[i][name].stride()


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "other file"])
def test_damaged_checkpoints_are_input_errors(
    damage: str, tiny: nn.Module, photos: ImageSet, tmp_path: Path
) -> None:
    trained(tiny, photos, tmp_path)
    path = tmp_path / "checkpoint.safetensors"
    whole = path.read_bytes()
    if damage == "other file":
        save_file({"x": torch.zeros(2)}, path)
    else:
        path.write_bytes({"cut": whole[: len(whole) // 2], "text": b"hello" * 99, "empty": b""}[damage])
    with pytest.raises(InputError, match=r"checkpoint\.safetensors"):
        trained(tiny, photos, tmp_path, resume=True)


@pytest.mark.parametrize("net", [DnCNN(depth=5, width=8), DnCNN(depth=4, width=6)], ids=["depth", "width"])
def test_checkpoints_of_other_models_are_input_errors(
    net: nn.Module, tiny: nn.Module, photos: ImageSet, tmp_path: Path
) -> None:
    trained(tiny, photos, tmp_path)
    with pytest.raises(InputError, match="does not fit"):
        trained(net, photos, tmp_path, resume=True)
