from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from modelguard import weights
from modelguard.errors import InputError, WeightsError
from modelguard.networks import DnCNN


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in place of the one that ships."""
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    return tmp_path


@pytest.fixture
def blank() -> nn.Module:
    """A net of the sizes of `tiny`, with other weights."""
    return DnCNN(depth=4, width=8)


def test_publish_and_load_round_trip_in_fp16(folder: Path, tiny: nn.Module, blank: nn.Module) -> None:
    weights.publish(tiny, "tiny-25", {"task": "noise 25"}, folder)
    weights.load_into(blank, "tiny-25")
    for key, value in tiny.state_dict().items():
        loaded = blank.state_dict()[key]
        assert loaded.dtype == value.dtype
        assert torch.equal(loaded, value.half().to(value.dtype))
    assert weights.names() == ["tiny-25"]


def test_card_describes_the_file(folder: Path, tiny: nn.Module) -> None:
    path = weights.publish(tiny, "tiny-25", {"task": "noise 25"}, folder)
    card = weights.card("tiny-25")
    assert card == json.loads(path.read_text())
    assert card["task"] == "noise 25"
    assert card["parameters"] == sum(p.numel() for p in tiny.parameters())
    assert card["bytes"] == (folder / "tiny-25.safetensors").stat().st_size


def test_dump_state_is_exact_without_a_dtype(tiny: nn.Module, blank: nn.Module) -> None:
    tiny.to(memory_format=torch.channels_last)
    weights.load_state(blank, weights.dump_state(tiny))
    assert all(torch.equal(v, blank.state_dict()[k]) for k, v in tiny.state_dict().items())


@pytest.mark.parametrize("position", [9, -1])
def test_a_changed_byte_is_found(position: int, folder: Path, tiny: nn.Module) -> None:
    weights.publish(tiny, "tiny-25", {}, folder)
    file = folder / "tiny-25.safetensors"
    data = bytearray(file.read_bytes())
    data[position] ^= 1
    file.write_bytes(data)
    before = copy.deepcopy(tiny.state_dict())
    with pytest.raises(WeightsError, match="tiny-25"):
        weights.load_into(tiny, "tiny-25")
    assert all(torch.equal(v, before[k]) for k, v in tiny.state_dict().items())


def test_a_card_without_its_file(folder: Path, tiny: nn.Module) -> None:
    weights.publish(tiny, "tiny-25", {}, folder)
    (folder / "tiny-25.safetensors").unlink()
    with pytest.raises(WeightsError, match="tiny-25"):
        weights.load_into(tiny, "tiny-25")


def test_unknown_names_list_the_known(folder: Path, tiny: nn.Module) -> None:
    weights.publish(tiny, "tiny-25", {}, folder)
    with pytest.raises(InputError) as caught:
        weights.load_into(tiny, "nothing")
    assert "tiny-25" in caught.value.diagnostics()


@pytest.mark.parametrize(
    "data", [b"", b"PK\x03\x04 not weights", b"\x80\x04pickle" * 9], ids=["none", "zip", "pickle"]
)
def test_foreign_bytes(data: bytes, tiny: nn.Module) -> None:
    with pytest.raises(InputError, match="safetensors"):
        weights.load_state(tiny, data)


@pytest.mark.parametrize("net", [DnCNN(5, width=8), DnCNN(4, width=9)], ids=["names", "shapes"])
def test_other_sizes(net: nn.Module, tiny: nn.Module) -> None:
    with pytest.raises(InputError, match="do not match"):
        weights.load_state(tiny, weights.dump_state(net))
