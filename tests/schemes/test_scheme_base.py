from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from modelguard.errors import EvidenceError, MalformedEvidenceError, ModelContractError
from modelguard.evidence import Decoder
from modelguard.networks import VDSR, DnCNN, Upscaled
from modelguard.protecting import Protected
from modelguard.schemes import Contract, keyed_cells, probe, read, reader_of


class Wrong(nn.Module):
    """A model whose answer is made from its input by any function."""

    def __init__(self, answer: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.weight, self.answer = nn.Parameter(torch.ones(1)), answer

    def forward(self, image: Tensor) -> object:
        return self.answer(image)


def fail(image: Tensor) -> Tensor:
    raise RuntimeError("expected 4 channels")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("scale", [1, 2, 3])
def test_a_model_is_asked_for_its_contract(channels: int, scale: int) -> None:
    net = Upscaled(VDSR(3, channels, 4), scale).train()
    assert probe(net, torch.rand(channels, 20, 12)) == Contract(channels, scale)
    assert net.training


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (nn.Identity(), "no parameters"),
        (Wrong(fail), "expected 4 channels"),
        (DnCNN(3, 3, 4), "fails on an input of shape"),
        (Wrong(lambda x: (x, x)), "tuple"),
        (Wrong(lambda x: x[0]), "came back as"),
        (Wrong(lambda x: x.repeat(1, 3, 1, 1)), "came back as"),
        (Wrong(lambda x: x.repeat(2, 1, 1, 1)), "came back as"),
        (Wrong(lambda x: x[..., 1:]), "px came back"),
        (Wrong(lambda x: x[..., 1:, 1:]), "px came back"),
        (Wrong(lambda x: x[..., ::2, ::2]), "px came back"),
        (Wrong(lambda x: x.repeat(1, 1, 2, 1)), "px came back"),
        (Wrong(lambda x: x[..., :0, :0]), "px came back"),
        (Wrong(lambda x: x / 0), "NaN"),
        (Wrong(lambda x: x * 255), r"in \[0, 1\] with values from"),
        (Wrong(lambda x: x * 255 - 128), r"in \[0, 1\] with values from"),
        (Wrong(lambda x: 2 * x - 1), r"in \[0, 1\] with values from"),
        (Wrong(lambda x: x).to("meta"), "meta, without values"),
    ],
)
def test_a_model_that_breaks_the_contract_is_told_how(model: nn.Module, says: str) -> None:
    with pytest.raises(ModelContractError, match=says) as caught:
        probe(model, torch.rand(1, 16, 16))
    assert caught.value.remedy


def test_answers_may_leave_the_range_a_little() -> None:
    for model in (Wrong(lambda x: 1.5 * x - 0.2), Wrong(lambda x: x + 90 * (x > 0.9))):
        assert probe(model, torch.rand(1, 16, 16)) == Contract(1, 1)


def test_answers_to_images_that_a_model_is_not_meant_for_may_be_anything() -> None:
    wild = Wrong(lambda x: 7 * x - 3)
    assert probe(wild, torch.rand(1, 16, 16), ordinary=False) == Contract(1, 1)
    with pytest.raises(ModelContractError, match="NaN"):
        probe(Wrong(lambda x: x / 0), torch.rand(1, 16, 16), ordinary=False)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_model_is_asked_in_its_precision(dtype: torch.dtype) -> None:
    assert probe(DnCNN(3, 1, 4).to(dtype), torch.rand(1, 16, 16)) == Contract(1, 1)


def test_a_reader_is_found_by_its_id() -> None:
    assert read({"id": "mg.keyed-cells/1"}) is keyed_cells
    for unknown in ({"id": "mg.keyed-cells/2"}, {"id": 1}, {}):
        with pytest.raises(MalformedEvidenceError, match="unknown"):
            read(unknown)


def test_a_registration_of_another_decoder_is_not_read(protected: Protected) -> None:
    assert reader_of(protected.registration) is keyed_cells
    fields = dict(protected.registration.fields)
    fields["watermark"] = {**fields["watermark"], "decoder": Decoder("mg.other/1", "0" * 64)._asdict()}
    with pytest.raises(EvidenceError, match=r"mg\.other/1"):
        reader_of(replace(protected.registration, fields=fields))
