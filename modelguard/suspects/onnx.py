"""A suspect that is an ONNX file, run by ONNX Runtime on the CPU. Such a file is data: none of it is code."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from modelguard.errors import InputError, SuspectError
from modelguard.suspects.base import Answer, Pixels, check_query, to_png
from modelguard.suspects.contract import to_contract

TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}


class OnnxSuspect:
    """Asks a network with one input and one output (1, C, H, W), of float32, float16 or uint8 each.

    Floats are images in [0, 1], uint8 in 0..255; answers are clipped and rounded to 8 bits. Needs the extra
    `onnx`.

    Args:
        path: the file; its external data, if any, must lie in the same folder or below.

    Attributes:
        model_digest: sha256 of the file; with external data, of the digests of the file and of its data
            files in the order of their names.

    Raises:
        InputError: there is no such file, it is no ONNX file that the runtime can load, its data lie
            elsewhere, its input or output is another, or the extra is not installed.
    """

    kind = "onnx"

    def __init__(self, path: str | Path) -> None:
        onnx, runtime = _library("onnx"), _library("onnxruntime")
        self.path = path = Path(path)
        self.endpoint = path.name
        if not path.is_file():
            raise InputError(f"onnx: there is no file {path}", "check the path")
        try:
            content = path.read_bytes()
            data = sorted(set(_external(onnx.load_from_string(content))))
        except Exception as error:  # protobuf's errors differ between its versions
            raise InputError(
                f"onnx: {path} cannot be read as ONNX ({type(error).__name__}: {error})",
                "give the file that torch.onnx.export or another exporter wrote",
            ) from error
        files = [_inside(path.parent, name) for name in data]
        self.model_digest = _digest(content, files)
        try:
            self._session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime raises its own kinds, which have no base of their own
            raise InputError(
                f"onnx: the runtime cannot load {path} ({error})", "look at it with onnx.checker"
            ) from error
        self._input = _one(self._session.get_inputs(), "input")
        self._output = _one(self._session.get_outputs(), "output")

    def ask(self, query: Pixels) -> Answer:
        """Put one query (H, W, C) to the network; see `Suspect`."""
        check_query(query)
        image = np.ascontiguousarray(query.transpose(2, 0, 1)[None])
        for axis, (side, wanted) in enumerate(zip(image.shape, self._input.shape, strict=True)):
            if isinstance(wanted, int) and wanted != side:
                raise SuspectError(
                    f"suspect: input {self._input.name!r} is {self._input.shape}, the query {image.shape}",
                    "ask a model of as many channels" if axis == 1 else "export it with dynamic H and W",
                )
        kind = TYPES[self._input.type]
        given = image if kind is np.uint8 else (image / np.float32(255)).astype(kind)
        try:
            answer = self._session.run([self._output.name], {self._input.name: given})[0]
        except Exception as error:
            raise SuspectError(
                f"suspect: the network failed on {image.shape} with {error}", "run it once by hand"
            ) from error
        if answer.ndim != 4 or len(answer) != 1 or not np.isfinite(answer).all():
            raise SuspectError(
                f"suspect: it answered {answer.shape}, {np.isfinite(answer).mean():.0%} of it finite",
                "it must return finite values (1, C, H, W)",
            )
        if answer.dtype != np.uint8:
            answer = np.rint(answer.astype(np.float32).clip(0, 1) * 255).astype(np.uint8)
        pixels, converted = to_contract(answer[0].transpose(1, 2, 0), query)
        return Answer(pixels, to_png(pixels), "image/png", 200, converted=converted)


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"onnx: {name} is not installed", "pip install 'modelguard-sdk[onnx]'") from error


def _external(message: Any) -> Iterator[str]:
    """Yield the files named anywhere in a protobuf message: graphs hold tensors in many places."""
    if message.DESCRIPTOR.name == "TensorProto":
        yield from (entry.value for entry in message.external_data if entry.key == "location")
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if hasattr(value, "__len__") else [value]:
                yield from _external(part)


def _inside(folder: Path, name: str) -> Path:
    place = (folder / name).resolve()
    if not place.is_relative_to(folder.resolve()):
        raise InputError(
            f"onnx: its external data {name!r} lie outside the folder of the file",
            "save the model and its data in one folder, and trust no file that points elsewhere",
        )
    if not place.is_file():
        raise InputError(
            f"onnx: its external data {name!r} are missing", f"put the file beside it in {folder}"
        )
    return place


def _digest(content: bytes, files: list[Path]) -> str:
    first = hashlib.sha256(content)
    if not files:
        return first.hexdigest()
    whole = hashlib.sha256(first.digest())
    for path in files:
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()


def _one(found: list[Any], what: str) -> Any:
    described = ", ".join(f"{one.name!r} {one.type} {one.shape}" for one in found) or "none"
    shape = found[0].shape if len(found) == 1 else []
    if len(shape) != 4 or (shape[0] != 1 and isinstance(shape[0], int)) or found[0].type not in TYPES:
        raise InputError(
            f"onnx: its {what} is {described}",
            f"it needs one {what} (1, C, H, W) of float32, float16 or uint8; ask another through a function",
        )
    return found[0]
