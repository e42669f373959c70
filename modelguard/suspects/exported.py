"""A suspect that is a file of `torch.export.save` or TorchScript: a program, hence `trusted`."""

from __future__ import annotations

import hashlib
import json
import warnings
import zipfile
from pathlib import Path

import torch
from torch import nn

from modelguard.errors import InputError
from modelguard.suspects.base import Answer, Pixels
from modelguard.suspects.module import ModuleSuspect


class ExportedSuspect:
    """Asks an exported program that maps (1, C, H, W) in [0, 1] to (1, C, H', W') on the CPU.

    PyTorch evaluates expressions that stand in such a file as Python and lets it call any operator, so
    loading one is running its author's code. Take it from somebody you trust, or let it run elsewhere and
    ask it there; an ONNX file has no such power. Pickles are refused even so.

    Args:
        path: of a torch.export archive or a TorchScript file.
        trusted: that the file may run with your rights.

    Attributes:
        model_digest: sha256 of the file.

    Raises:
        InputError: it is not trusted, not there, neither kind of file, holds pickled objects, or PyTorch
            cannot load it.
    """

    kind = "exported"

    def __init__(self, path: str | Path, *, trusted: bool = False) -> None:
        path = Path(path)
        if not path.is_file():
            raise InputError(f"exported: there is no file {path}", "check the path")
        if not trusted:
            raise InputError(
                f"exported: {path} is a program, which would run with your rights",
                "ExportedSuspect(path, trusted=True) if you trust its author; else take ONNX, or ask it in a "
                "sandbox over HTTP",
            )
        with path.open("rb") as file:
            self.model_digest = hashlib.file_digest(file, "sha256").hexdigest()
        self.endpoint = path.name
        self._module = ModuleSuspect(_load(path))

    def ask(self, query: Pixels) -> Answer:
        """Put one query (H, W, C) to the program; see `Suspect`."""
        return self._module.ask(query)


def _load(path: Path) -> nn.Module:
    try:
        with zipfile.ZipFile(path) as archive:
            inside = {name.partition("/")[2]: name for name in archive.namelist()}
            if any(name.startswith("code/") for name in inside):
                return _script(path)
            configs = {name: archive.read(inside[name]) for name in inside if name.endswith("_config.json")}
        _refuse_pickles(list(inside), configs)
        return torch.export.load(path).module()
    except InputError:
        raise
    except Exception as error:  # PyTorch raises many kinds on files that are damaged or of another version
        raise InputError(
            f"exported: {path} cannot be loaded ({type(error).__name__}: {error})",
            "write it with torch.export.save or TorchScript, in this version of PyTorch",
        ) from error


def _script(path: Path) -> nn.Module:
    """Load TorchScript; its pickles are read by libtorch, which knows no Python objects."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # deprecated, yet what suspects are shipped in
        module: nn.Module = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
    return module


def _refuse_pickles(names: list[str], configs: dict[str, bytes]) -> None:
    """Raise unless weights and constants are plain tensors.

    Example inputs stay: PyTorch reads those with its `weights_only` unpickler.
    """
    folders, plain = ("data/weights/", "data/constants/"), ("weight_", "tensor_")
    entries = [entry for config in configs.values() for entry in json.loads(config)["config"].values()]
    pickled = [name for name in names if name.startswith(folders) and name.endswith(".pt")]
    pickled += [e["path_name"] for e in entries if e["use_pickle"] or not e["path_name"].startswith(plain)]
    if pickled or len(configs) < len(folders):
        what = f"holds the pickle {pickled[0]!r}" if pickled else "has no list of plain weights"
        raise InputError(
            f"exported: the file {what}", "write it with torch.export.save, weights as plain tensors"
        )
