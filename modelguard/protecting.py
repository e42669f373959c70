"""The first verb: mark a model, keep a key, sign a registration."""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from modelguard._files import atomic_write_bytes, new_folder
from modelguard.datasets import Downscale, Filmed, GaussianNoise, ImageSet, Task
from modelguard.errors import EmbeddingError, InputError
from modelguard.evidence import Key, Owner, Registration, TimestampAuthority, register
from modelguard.metrics import quality
from modelguard.networks import FilmStrip, device_of
from modelguard.schemes import (
    AttachedScheme,
    Contract,
    EmbedReport,
    PhotoReader,
    Scheme,
    TrainedScheme,
    probe,
    read,
)
from modelguard.schemes.base import tone_ramp
from modelguard.verifying import verify
from modelguard.weights import dump_state

WEIGHTS_NAME = "model.safetensors"
REGISTRATION_NAME = "registration.dsse.json"


@dataclass(frozen=True)
class Report:
    """What protection cost and gave.

    Attributes:
        psnr_before: of the unmarked model on held-out images, dB.
        psnr_after: of the marked model on the same inputs.
        images: how many images both are means over.
        log10_p: of the mark in the marked model, trials counted.
        log10_p_unmarked: the same question put to the unmarked model, which must not match.
        embedding: steps, seconds and roll-backs; no steps for a scheme that needs no training.
        seconds: in all.
        queries: triggers or photos asked for it.
    """

    psnr_before: float
    psnr_after: float
    images: int
    log10_p: float
    log10_p_unmarked: float
    embedding: EmbedReport
    seconds: float
    queries: int = 1

    def __str__(self) -> str:
        """Return the report as a few lines for people."""
        queries = "one query" if self.queries == 1 else f"{self.queries} queries"
        return (
            f"quality  {self.psnr_before:.2f} dB before, {self.psnr_after:.2f} dB after "
            f"({self.psnr_after - self.psnr_before:+.3f} dB, {self.images} images)\n"
            f"mark     p <= 10^{self.log10_p:.0f} after {queries}, all trials counted; "
            f"unmarked model: 10^{self.log10_p_unmarked:.0f}\n"
            f"time     {self.seconds:.0f} s, "
            f"{self.embedding.seconds:.0f} s of it {self.embedding.steps} training steps"
        )


@dataclass(frozen=True)
class Protected:
    """A marked model and everything its owner keeps.

    Attributes:
        model: ship this.
        key: secret; save it encrypted with `key.save(path)`. It carries the registration.
        registration: public; publish it before the model.
        report: quality and mark strength.
    """

    model: nn.Module
    key: Key
    registration: Registration
    report: Report

    def save(self, folder: str | Path, passphrase: str | None = None) -> Path:
        """Write a new folder: model.safetensors, key.mgkey (encrypted), registration.dsse.json, report.txt.

        With a timestamp authority, registration.tsr is beside the registration.

        Raises:
            InputError: the folder exists, or there is no passphrase.
        """
        with new_folder(folder) as whole:
            atomic_write_bytes(whole / WEIGHTS_NAME, dump_state(self.model))
            self.key.save(whole / "key.mgkey", passphrase)
            self.registration.save(whole / REGISTRATION_NAME)
            atomic_write_bytes(whole / "report.txt", f"{self.report}\n".encode())
        return Path(folder)


def protect(
    model: nn.Module,
    scheme: Scheme,
    *,
    data: ImageSet | str | Path | Sequence[Tensor],
    owner: Owner,
    task: Task | None = None,
    test: ImageSet | None = None,
    name: str = "model",
    version: str = "1",
    progress: bool = False,
    stretch: int = 20,
    tsa: TimestampAuthority | None = None,
) -> Protected:
    """Mark a copy of `model` so that its owner can recognise it later; `model` itself stays as it is.

    Args:
        model: any module that maps (B, C, H, W) in [0, 1] to (B, C, sH, sW), s from 1 to 8, on one device.
            One in half precision is trained in float32, then rounded, and asked as it is rounded. `Barrier`
            takes modules without parameters too, say a classical filter, and s up to 4. A model of clips is
            given as a `FilmStrip`.
        scheme: how to mark it, such as `TriggerKey()`.
        data: ordinary clean images, as an ImageSet, a folder or float tensors (C, H, W) in [0, 1].
        owner: signs the registration; the key is bound to him.
        task: makes the model's inputs from `data`; by default noise of 25 grey levels for a model that keeps
            the size, bicubic down-scaling for one that enlarges. Of a `FilmStrip` it is applied to each frame
            of clips that a camera takes as it moves over `data`; see `Filmed`.
        test: images held out for the report, and asked for a mark that is read from photos; by default every
            tenth of `data`, which is then not trained on, and 20 of them at most. A barrier is not trained,
            and takes the first 20 of all.
        name: of the model, for the record.
        version: of the model, for the record.
        progress: show a progress bar.
        stretch: scrypt cost (log2) of the key's salt; 20 takes 1 GiB for some seconds. Less weakens the
            evidence.
        tsa: a timestamp authority, asked once for the key and once for the registration. Its first answer
            salts the key, so that only 24 bits are charged for keys that could have been tried, not 60.

    Returns:
        The marked copy, in evaluation mode, with its key, registration and report.

    Raises:
        InputError: unusable data, or a name or version that no record can hold.
        ModelContractError: the model breaks its contract; see `probe`.
        EmbeddingError: the mark could not be read back from the marked model; nothing is returned.
        TimestampError: the authority gave no good timestamp.
    """
    began = time.monotonic()
    images = _as_images(data, model)
    small = images[0][:, :64, :64].repeat(1, model.frames if isinstance(model, FilmStrip) else 1, 1)
    contract = probe(model, tone_ramp(small), trained=isinstance(scheme, TrainedScheme))
    task = task or (GaussianNoise(25) if contract.scale == 1 else Downscale(contract.scale))
    if contract.frames > 1 and not isinstance(task, Filmed):
        task = Filmed(task, contract.frames)
    _check_task(task, contract, images[0])
    if test is None:
        images, test = _hold_out(images, trained=isinstance(scheme, TrainedScheme))
    key = Key.create(
        owner, scheme.public(contract), scheme.leaves, decoder=scheme.decoder, log2_n=stretch, tsa=tsa
    )
    info = _info(contract, task, name, version)
    _register(model, key, owner, info)  # what the record cannot hold comes out now, not after the training
    marked, embedding = _mark(model, scheme, key, images, task, progress)
    registration = _register(marked, key, owner, info)
    extras = {**key.extras, "registration": registration.envelope}
    if tsa is not None:
        registration = registration.stamp(tsa)
        extras["registration.tsr"] = registration.token
    key = replace(key, extras=extras)
    border = contract.scale if contract.scale > 1 else 0
    before, after = (quality(one, test, task, border=border).psnr for one in (model, marked))
    asking: dict[str, Any] = {"queries": 1}
    if isinstance(reader := read(key.scheme), PhotoReader):
        photos = ImageSet(askable(test, reader).images[:20])
        asking = {"queries": len(photos), "photos": photos}
    verdict, innocent = (verify(one, key, **asking) for one in (marked, model))
    if not verdict.match:
        raise EmbeddingError(
            f"scheme: the mark reads at p <= 10^{verdict.log10_p_adj:.1f} after embedding, which is too weak",
            " and ".join(
                ["use more steps or a higher learning rate"] * isinstance(scheme, TrainedScheme)
                + ["give more and larger photos, or use a higher amplitude"] * ("photos" in asking)
            ),
        )
    seconds = time.monotonic() - began
    report = Report(
        before,
        after,
        len(test),
        verdict.log10_p_adj,
        innocent.log10_p_adj,
        embedding,
        seconds,
        verdict.queries,
    )
    return Protected(marked, key, registration, report)


def _mark(
    model: nn.Module, scheme: Scheme, key: Key, images: ImageSet, task: Task, progress: bool
) -> tuple[nn.Module, EmbedReport]:
    """Return a marked copy in evaluation mode, with the precision, device and frozen weights of `model`."""
    marked = copy.deepcopy(model)
    if isinstance(scheme, AttachedScheme):
        return scheme.attach(marked, key).eval(), EmbedReport(0, 0.0, (), {})
    if not isinstance(scheme, TrainedScheme):
        raise InputError(
            f"scheme: {scheme!r} cannot mark a model", "give one of modelguard.schemes, such as TriggerKey()"
        )
    marked.requires_grad_(True).float()
    embedding = scheme.embed(marked, key, images, task, "embedding the mark" if progress else None)
    marked.to(device_of(model)).eval()
    for mine, theirs in zip(_tensors(marked), _tensors(model), strict=True):
        mine.data = mine.data.to(theirs.dtype)
        mine.requires_grad_(theirs.requires_grad)
    return marked, embedding


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    return chain(model.parameters(), model.buffers())


def _as_images(data: ImageSet | str | Path | Sequence[Tensor], model: nn.Module) -> ImageSet:
    if isinstance(data, ImageSet):
        return data
    if isinstance(data, (str, Path)):
        return ImageSet.from_folder(data, 1 if _takes_grey(model) else 3, smallest=64)
    return ImageSet.of(list(data))


def _takes_grey(model: nn.Module) -> bool:
    """Return whether the first convolution, whose weights alone do not tell in groups, takes one channel."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            return module.in_channels == 1
    return next((one.shape[1] == 1 for one in model.parameters() if one.ndim == 4), False)


def _check_task(task: Task, contract: Contract, clean: Tensor) -> None:
    given, target = task(clean, torch.Generator().manual_seed(0))
    if tuple(side * contract.scale for side in given.shape[1:]) != tuple(target.shape[1:]):
        raise InputError(
            f"task: {task!r} turns {tuple(given.shape[1:])} px into {tuple(target.shape[1:])}, "
            f"the model enlarges {contract.scale} times",
            "give the task the model is for",
        )


def askable(images: ImageSet, reader: PhotoReader) -> ImageSet:
    """Return the different photos that a reader can use.

    Raises:
        InputError: it can use none.
    """
    found: dict[bytes, Tensor] = {}
    problem = None
    for image in images.images:
        try:
            reader.fitted(image.permute(1, 2, 0).contiguous().numpy())
        except InputError as error:
            problem = error
        else:
            found.setdefault(image.numpy().tobytes(), image)
    if not found and problem is not None:
        raise problem
    return ImageSet(tuple(found.values()))


def _hold_out(images: ImageSet, *, trained: bool) -> tuple[ImageSet, ImageSet]:
    if len(images) < 2:
        raise InputError(
            f"data: {len(images)} image is too few", "give two or more; some are held out for the report"
        )
    if not trained:  # nothing is learnt from them
        return images, ImageSet(images.images[:20])
    every = min(10, len(images))
    rest = tuple(image for number, image in enumerate(images.images) if number % every)
    return ImageSet(rest), ImageSet(images.images[::every][:20])


def _info(contract: Contract, task: Task, name: str, version: str) -> dict[str, str]:
    kind = "gray" if contract.channels == 1 else "rgb"
    kind += f" {contract.frames} frames of" if contract.frames > 1 else ""
    size = "HxW" if contract.scale == 1 else f"{contract.scale}H x {contract.scale}W"
    return {
        "name": name,
        "version": version,
        "task": " ".join(repr(task).split())[:200],  # a task of the user's may print as many lines
        "input": f"u8 {kind} HxW",
        "output": f"u8 {kind} {size}",
    }


def _register(model: nn.Module, key: Key, owner: Owner, info: dict[str, str]) -> Registration:
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / WEIGHTS_NAME
        weights.write_bytes(dump_state(model))
        return register(owner, key, [(WEIGHTS_NAME, weights)], info)
