from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from modelguard.datasets import to_uint8
from modelguard.errors import InputError, SuspectError
from modelguard.suspects import ModuleSuspect, OnnxSuspect, Suspect

FLOAT, HALF, BYTE = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8


def network(
    folder: Path,
    node: Callable[[str, str], Any],
    takes: tuple[int, list[Any]] = (FLOAT, [1, 1, "h", "w"]),
    gives: tuple[int, list[Any]] = (FLOAT, [1, 1, "h", "w"]),
    weights: list[Any] | None = None,
) -> Path:
    """Write a network of one node from "image" to "out"."""
    graph = helper.make_graph(
        [node("image", "out")],
        "net",
        [helper.make_tensor_value_info("image", *takes)],
        [helper.make_tensor_value_info("out", *gives)],
        weights or [],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = folder / "net.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def scaled(source: str, target: str) -> Any:
    return helper.make_node("Mul", [source, "weight"], [target])


def external(location: str) -> Any:
    """A weight whose value is in another file."""
    weight = TensorProto(name="weight", data_type=FLOAT, dims=[1, 1, 1, 1])
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)
    return weight


def identity(source: str, target: str) -> Any:
    return helper.make_node("Identity", [source], [target])


@pytest.fixture
def grey(make_photo: Callable[..., Tensor]) -> Any:
    """A grey query (24, 17, 1)."""
    return to_uint8(make_photo(7, 1, 24, 17)).permute(1, 2, 0).contiguous().numpy()


def test_an_exported_model_answers_as_the_module_does(tmp_path: Path, tiny: nn.Module, grey: Any) -> None:
    path, auto = tmp_path / "tiny.onnx", torch.export.Dim.AUTO
    shapes = ({2: auto, 3: auto},)
    example = (torch.rand(1, 1, 20, 24),)
    torch.onnx.export(tiny.eval(), example, path, dynamic_shapes=shapes, external_data=False, verbose=False)
    suspect, answer = OnnxSuspect(path), ModuleSuspect(tiny).ask(grey).image
    assert isinstance(suspect, Suspect)
    assert (suspect.kind, suspect.endpoint) == ("onnx", "tiny.onnx")
    assert suspect.model_digest == hashlib.sha256(path.read_bytes()).hexdigest()
    found = suspect.ask(grey).image
    assert answer is not None
    assert found is not None
    assert np.abs(found.astype(int) - answer.astype(int)).max() <= 1


@pytest.mark.parametrize("kind", [FLOAT, HALF, BYTE])
def test_floats_are_images_in_0_1_and_bytes_in_0_255(tmp_path: Path, grey: Any, kind: int) -> None:
    shape = [1, 1, "h", "w"]
    path = network(tmp_path, identity, takes=(kind, shape), gives=(kind, shape))
    assert np.array_equal(OnnxSuspect(path).ask(grey).image, grey)


def test_answers_are_clipped_and_rounded(tmp_path: Path, grey: Any) -> None:
    tripled = helper.make_tensor("weight", FLOAT, [1], [3.0])
    path = network(tmp_path, scaled, weights=[tripled])
    expected = np.rint((grey / np.float32(255) * 3).clip(0, 1) * 255)
    assert np.array_equal(OnnxSuspect(path).ask(grey).image, expected)


def test_a_network_that_is_not_from_image_to_image_is_named(tmp_path: Path) -> None:
    for takes, gives in (
        ((FLOAT, [1, 10]), (FLOAT, [1, 10])),
        ((FLOAT, [4, 1, "h", "w"]), (FLOAT, [4, 1, "h", "w"])),
        ((TensorProto.INT64, [1, 1, "h", "w"]), (TensorProto.INT64, [1, 1, "h", "w"])),
    ):
        with pytest.raises(InputError, match="its input is 'image' tensor") as caught:
            OnnxSuspect(network(tmp_path, identity, takes=takes, gives=gives))
        assert "(1, C, H, W)" in caught.value.remedy


def test_a_query_of_another_size_or_colour_is_told_what_fits(tmp_path: Path, grey: Any) -> None:
    fixed = OnnxSuspect(
        network(tmp_path, identity, takes=(FLOAT, [1, 1, 64, 64]), gives=(FLOAT, [1, 1, 64, 64]))
    )
    with pytest.raises(SuspectError, match=r"\[1, 1, 64, 64\], the query \(1, 1, 24, 17\)") as caught:
        fixed.ask(grey)
    assert "dynamic" in caught.value.remedy
    with pytest.raises(SuspectError, match="the query") as caught:
        OnnxSuspect(network(tmp_path, identity)).ask(grey.repeat(3, 2))
    assert "channels" in caught.value.remedy


def test_an_answer_with_nan_is_refused(tmp_path: Path, grey: Any) -> None:
    weight = helper.make_tensor("weight", FLOAT, [1], [float("nan")])
    with pytest.raises(SuspectError, match="0% of it finite"):
        OnnxSuspect(network(tmp_path, scaled, weights=[weight])).ask(grey)


def test_external_data_beside_the_file_are_used_and_in_the_digest(tmp_path: Path, grey: Any) -> None:
    digests = []
    for value in (1.0, 0.5):
        np.full((1, 1, 1, 1), value, np.float32).tofile(tmp_path / "weights.bin")
        suspect = OnnxSuspect(network(tmp_path, scaled, weights=[external("weights.bin")]))
        digests.append(suspect.model_digest)
        expected = np.rint(grey / np.float32(255) * np.float32(value) * 255)
        assert np.array_equal(suspect.ask(grey).image, expected)
    assert digests[0] != digests[1]


@pytest.mark.parametrize("name", ["../weights.bin", "{outside}/weights.bin", "link.bin"])
def test_external_data_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    np.ones((1, 1, 1, 1), np.float32).tofile(tmp_path / "weights.bin")
    (inside / "link.bin").symlink_to(tmp_path / "weights.bin")
    path = network(inside, scaled, weights=[external(name.format(outside=tmp_path))])
    with pytest.raises(InputError, match="outside the folder"):
        OnnxSuspect(path)


def test_external_data_are_found_in_the_attributes_of_nodes_too(tmp_path: Path) -> None:
    def constant(source: str, target: str) -> Any:
        return helper.make_node("Constant", [], [target], value=external("/etc/hostname"))

    with pytest.raises(InputError, match="outside the folder"):
        OnnxSuspect(network(tmp_path, constant))


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file"):
        OnnxSuspect(tmp_path / "none.onnx")
    with pytest.raises(InputError, match=r"'gone\.bin' are missing"):
        OnnxSuspect(network(tmp_path, scaled, weights=[external("gone.bin")]))
    for content in (b"<html>", b"", onnx.ModelProto(ir_version=9).SerializeToString()):
        (tmp_path / "bad.onnx").write_bytes(content)
        with pytest.raises(InputError, match=r"bad\.onnx"):
            OnnxSuspect(tmp_path / "bad.onnx")


def test_without_the_extra_the_remedy_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = network(tmp_path, identity)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match="not installed") as caught:
        OnnxSuspect(path)
    assert "modelguard-sdk[onnx]" in caught.value.remedy


def test_networks_of_other_sizes_answer_in_theirs(tmp_path: Path, grey: Any) -> None:
    scales = helper.make_tensor("weight", FLOAT, [4], [1.0, 1.0, 2.0, 2.0])

    def resize(source: str, target: str) -> Any:
        return helper.make_node("Resize", [source, "", "weight"], [target], mode="nearest")

    path = network(tmp_path, resize, gives=(FLOAT, [1, 1, "h2", "w2"]), weights=[scales])
    answer = OnnxSuspect(path).ask(grey).image
    assert answer is not None
    assert answer.shape == (48, 34, 1)
