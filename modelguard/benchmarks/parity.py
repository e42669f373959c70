"""Deployment parity: one marked model in every form it is shipped in, with mark and quality in each."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor, nn
from torchvision.transforms.functional import center_crop

from modelguard.benchmarks import hosts, record
from modelguard.benchmarks.trigger_key import Keep, figures, kept
from modelguard.datasets import ImageSet
from modelguard.evidence import Key
from modelguard.metrics import quality
from modelguard.suspects import OnnxSuspect, as_suspect
from modelguard.verifying import verify

CROP = 64
"""Side of the part of each test picture that PSNR is taken on: fp16 takes minutes a photo on a CPU."""
FORMS = ("eager", "channels last", "compile", "export", "ONNX", "fp16", "bf16")


class Runtime(nn.Module):
    """An ONNX file as a module that takes floats, so that its quality is measured like the others'."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        import onnxruntime

        self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        self.name = self.session.get_inputs()[0].name

    def forward(self, image: Tensor) -> Tensor:
        """Return the answer (1, C, H', W')."""
        return torch.from_numpy(np.asarray(self.session.run(None, {self.name: image.numpy()})[0]))


def deploy(model: nn.Module, form: str, channels: int, folder: Path) -> nn.Module:
    """Return a copy of `model` as it is deployed in one of `FORMS`; files go to `folder`."""
    model = copy.deepcopy(model).eval()
    if form == "channels last":
        return model.to(memory_format=torch.channels_last)
    if form == "compile":
        return torch.compile(model, dynamic=True)  # type: ignore[return-value]
    if form in ("fp16", "bf16"):
        return model.to(torch.float16 if form == "fp16" else torch.bfloat16)
    if form == "eager":
        return model
    example, auto = (torch.rand(1, channels, 64, 72),), torch.export.Dim.AUTO
    shapes = ({2: auto, 3: auto},)
    if form == "export":
        torch.export.save(torch.export.export(model, example, dynamic_shapes=shapes), folder / "model.pt2")
        return torch.export.load(folder / "model.pt2").module()
    path = folder / "model.onnx"
    torch.onnx.export(model, example, path, dynamic_shapes=shapes, external_data=False, verbose=False)
    return Runtime(path)


def rows(source: hosts.Host, model: nn.Module, key: Key, tests: Path, sets: int) -> list[dict[str, Any]]:
    """Measure the marked and the unmarked host in every form.

    Args:
        source: the unmarked host.
        model: the marked one.
        key: of the mark.
        tests: folder of test sets.
        sets: on how many of them PSNR is taken.
    """
    channels, found = int(key.scheme["channels"]), []
    centres = {
        test: ImageSet.of([center_crop(image, [CROP, CROP]) for image in source.images(tests, test)])
        for test in source.sets[:sets]
    }
    for form in FORMS:
        row: dict[str, Any] = {"form": form}
        for name, one in (("marked", model), ("unmarked", source.model)):
            with tempfile.TemporaryDirectory() as folder:
                deployed = deploy(one, form, channels, Path(folder))
                file = Path(folder) / "model.onnx"
                asked = OnnxSuspect(file) if file.exists() else as_suspect(deployed)
                row[name] = figures(verify(asked, key))
                row[f"psnr_{name}"] = {
                    test: round(quality(deployed, centre, source.task, border=source.border).psnr, 3)
                    for test, centre in centres.items()
                }
        found.append(row)
    return found


def main(
    train: hosts.Train,
    tests: hosts.Tests,
    host: Annotated[str, typer.Option(help="dncnn, red, vdsr-2")] = "dncnn",
    sets: Annotated[int, typer.Option(help="test sets measured")] = 1,
    keep: Keep = None,
    out: record.Out = Path("docs/results"),
) -> None:
    """Protect a host once, then deploy it in every form: p-value of one query, and PSNR."""
    hosts.reproducible()
    source = hosts.load(host)
    model, key, facts = kept(source, hosts.photos(train, 600), keep)
    result = {"host": host, **facts, "forms": rows(source, model, key, tests, sets)}
    notes = f"one query; PSNR after rounding to 8 bits, on the inner {CROP} x {CROP} pixels of each picture"
    record.write(f"parity-{host}", out, result, seed=0, notes=notes)


if __name__ == "__main__":
    typer.run(main)
