from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from modelguard.datasets import to_uint8
from modelguard.errors import InputError
from modelguard.suspects import ExportedSuspect, ModuleSuspect, Suspect


def save_exported(model: nn.Module, path: Path) -> Path:
    auto, example = torch.export.Dim.AUTO, torch.rand(1, 1, 20, 24)
    dtype = next(model.parameters()).dtype
    program = torch.export.export(model, (example.to(dtype),), dynamic_shapes=({2: auto, 3: auto},))
    torch.export.save(program, path)
    return path


def save_script(model: nn.Module, path: Path) -> Path:
    with pytest.warns(FutureWarning):
        torch.jit.save(torch.jit.trace(model, torch.rand(1, 1, 20, 24)), path)
    return path


@pytest.fixture(scope="module")
def grey(make_photo: Callable[..., Tensor]) -> Any:
    """A grey query (24, 17, 1)."""
    return to_uint8(make_photo(7, 1, 24, 17)).permute(1, 2, 0).contiguous().numpy()


@pytest.mark.parametrize("save", [save_exported, save_script])
def test_a_program_answers_as_the_module_does(
    tmp_path: Path, tiny: nn.Module, grey: Any, save: Callable[[nn.Module, Path], Path]
) -> None:
    path = save(tiny.eval(), tmp_path / "tiny.pt2")
    suspect = ExportedSuspect(path, trusted=True)
    assert isinstance(suspect, Suspect)
    assert (suspect.kind, suspect.endpoint) == ("exported", "tiny.pt2")
    assert suspect.model_digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert np.array_equal(suspect.ask(grey).image, ModuleSuspect(tiny).ask(grey).image)


def test_a_program_in_half_precision_is_asked_in_it(tmp_path: Path, tiny: nn.Module, grey: Any) -> None:
    half = tiny.to(torch.bfloat16).eval()
    suspect = ExportedSuspect(save_exported(half, tmp_path / "tiny.pt2"), trusted=True)
    assert np.array_equal(suspect.ask(grey).image, ModuleSuspect(half).ask(grey).image)


def changed(path: Path, change: Callable[[str, bytes], tuple[str, bytes]]) -> Path:
    """Write a copy of an archive with its members changed."""
    target = path.with_name("changed.pt2")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(*change(name, old.read(name)))
    return target


def test_a_file_can_run_code_without_any_pickle_so_trust_is_asked_for_first(
    tmp_path: Path, tiny: nn.Module
) -> None:
    mark = tmp_path / "code ran"
    call = f"__import__('os').mkdir({str(mark)!r})"

    def poison(name: str, content: bytes) -> tuple[str, bytes]:
        if name.endswith("models/model.json"):
            graph = json.loads(content)
            image = graph["graph_module"]["graph"]["tensor_values"]["image"]
            image["sizes"][2]["as_expr"]["expr_str"] = call
            content = json.dumps(graph).encode()
        return name, content

    path = changed(save_exported(tiny.eval(), tmp_path / "tiny.pt2"), poison)
    with pytest.raises(InputError, match="a program") as caught:
        ExportedSuspect(path)
    assert not mark.exists()
    assert "trusted=True" in caught.value.remedy
    with pytest.raises(InputError, match="cannot be loaded"):
        ExportedSuspect(path, trusted=True)
    assert mark.exists(), "PyTorch has become safer: relax `trusted` and the docs"


def pickled_weight(name: str, content: bytes) -> tuple[str, bytes]:
    if name.endswith("weights_config.json"):
        config = json.loads(content)
        next(iter(config["config"].values()))["use_pickle"] = True
        content = json.dumps(config).encode()
    return name, content


def opaque_constant(name: str, content: bytes) -> tuple[str, bytes]:
    if name.endswith("constants_config.json"):
        entry = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": False, "tensor_meta": None}
        content = json.dumps({"config": {"it": entry}}).encode()
    return name, content


def legacy_weights(name: str, content: bytes) -> tuple[str, bytes]:
    return name.replace("data/weights/weight_0", "data/weights/model.pt"), content


def no_lists(name: str, content: bytes) -> tuple[str, bytes]:
    return name.replace("_config.json", ".json"), content


@pytest.mark.parametrize("change", [pickled_weight, opaque_constant, legacy_weights, no_lists])
def test_pickles_are_refused_even_when_trusted(
    tmp_path: Path, tiny: nn.Module, change: Callable[[str, bytes], tuple[str, bytes]]
) -> None:
    path = changed(save_exported(tiny.eval(), tmp_path / "tiny.pt2"), change)
    with pytest.raises(InputError, match=r"the pickle|plain weights"):
        ExportedSuspect(path, trusted=True)


def test_other_files_are_named(tmp_path: Path, tiny: nn.Module) -> None:
    with pytest.raises(InputError, match="no file"):
        ExportedSuspect(tmp_path / "none.pt2", trusted=True)
    torch.save(tiny.state_dict(), tmp_path / "state.pt")
    (tmp_path / "page.pt2").write_bytes(b"<html>")
    for name in ("state.pt", "page.pt2"):
        with pytest.raises(InputError, match=name.replace(".", r"\.") + "|plain weights"):
            ExportedSuspect(tmp_path / name, trusted=True)
