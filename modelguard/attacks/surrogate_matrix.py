"""Many thieves of one model: architectures, losses, augmentations and shares, one JSON file each."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from modelguard._files import atomic_write_bytes
from modelguard.attacks.base import Loot
from modelguard.attacks.stolen_pairs import scale_of
from modelguard.attacks.surrogate import Surrogate
from modelguard.attacks.surrogate_report import Exam, Strength, SurrogateReport, Survival
from modelguard.datasets import ImagePairs, ImageSet, write_image
from modelguard.errors import InputError
from modelguard.weights import dump_state, load_state

SETTINGS = "settings.json"


def surrogate_cells(
    base: Surrogate,
    networks: Sequence[str],
    losses: Sequence[str] = ("l1",),
    augmentations: Sequence[str] = ("none",),
    shares: Sequence[float] = (1.0,),
) -> list[Surrogate]:
    """Return `base` with every combination of these."""
    return [
        replace(base, network=network, loss=loss, augmentation=augmentation, share=share)
        for network, loss, augmentation, share in itertools.product(networks, losses, augmentations, shares)
    ]


def surrogate_matrix(
    cells: Sequence[Surrogate],
    model: nn.Module,
    loot: Loot,
    test: ImageSet,
    folder: str | Path,
    *,
    host: nn.Module | None = None,
    strength: Strength | None = None,
    measured_by: str = "",
    channels: Mapping[str, nn.Module] | None = None,
    resume: bool = False,
    on_cell: Callable[[int, Surrogate], None] | None = None,
) -> list[SurrogateReport]:
    """Train every thief and measure him; what is finished stays finished, whatever happens.

    In `folder`, NAME.json is the report of a cell, NAME.safetensors the thief's weights, and NAME.png shows
    what he took of the mark (see `surrogate_picture`); NAME/ holds the checkpoint of one in training.

    Args:
        cells: the thieves; `Surrogate.name` tells them apart.
        model: the protected model; left as it is.
        loot: images that the thieves have, and the task.
        test: clean images that they do not have.
        folder: new or empty, unless `resume`.
        host: the unmarked model, for the retained part of the mark and the pictures.
        strength: returns log10 of the adjusted p-value of the mark in a model.
        measured_by: what tells one `strength` from another, such as a key and a number of queries.
        channels: what a thief's service may do to its answers, by name; each is measured beside "none".
        resume: skip finished cells in `folder` and go on with one in training. Cells that were measured with
            other images, channels or `measured_by`, or beside another host, are measured again.
        on_cell: told the number (from 0) and the cell before each that is not finished.

    Returns:
        The reports, in the order of `cells`.

    Raises:
        InputError: two cells of one name; images too few or too small for one of them; files in the way, of
            other settings or of another model; the disk is full, after which `resume` goes on.
        SuspectError, ModelContractError: the model is not one that maps images to images; see `query`.
    """
    names = [cell.name for cell in cells]
    if len(set(names)) < len(names):
        raise InputError(f"cells: {max(names, key=names.count)} is there twice", "leave one out")
    folder = Path(folder)
    if not resume and folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"folder: {folder} is not empty", "resume, or choose another folder")
    gathered: dict[int, tuple[ImagePairs, str]] = {}
    for cell in cells:
        if id(cell.mark) not in gathered:
            pairs = cell.gather(model, loot)
            gathered[id(cell.mark)] = pairs, _digest(*pairs.inputs, *pairs.targets)
        cell.data(gathered[id(cell.mark)][0])  # so that no cell fails after hours of the others
    exam = Exam(model, Loot(test, loot.task), host, strength)
    seen = (*exam.asked.inputs, *exam.asked.targets, *exam.truth, *(exam.unmarked or ()))
    measured = _digest(*seen, about=repr((measured_by, list(channels or ()))))
    reports = []
    for number, cell in enumerate(cells):
        one = _Cell(cell, *gathered[id(cell.mark)], measured, folder)
        with _full_disk_named(folder):
            report = one.finished() if resume else None
            if report is None:
                if on_cell is not None:
                    on_cell(number, cell)
                report = one.run(exam, channels or {}, resume)
            elif report.measured != measured:
                report = one.again(report, exam, channels or {})
        reports.append(report)
    return reports


class _Cell:
    """One thief and his files."""

    def __init__(
        self, attack: Surrogate, pairs: ImagePairs, digest: str, measured: str, folder: Path
    ) -> None:
        self.attack, self.pairs, self.measured = attack, pairs, measured
        self.report, self.weights, self.picture, self.run_dir = (
            folder / f"{attack.name}{ending}" for ending in (".json", ".safetensors", ".png", "")
        )
        self.identity: dict[str, Any] = {"settings": _settings(attack), "digest": digest}

    def finished(self) -> SurrogateReport | None:
        """Return the report if it is there, and of this cell."""
        if not self.report.is_file():
            return None
        try:
            report = SurrogateReport.from_json(self.report.read_text())
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"folder: {self.report} is no report of a surrogate ({error})", "move it away"
            ) from error
        self._check({"settings": report.settings, "digest": report.digest}, self.report)
        return report

    def run(self, exam: Exam, channels: Mapping[str, nn.Module], resume: bool) -> SurrogateReport:
        note = self.run_dir / SETTINGS
        if resume and note.is_file():
            self._check(json.loads(note.read_text()), self.run_dir)
        atomic_write_bytes(note, json.dumps(self.identity).encode(), overwrite=True)
        stolen = self.attack.train(self.pairs, run_dir=self.run_dir, resume=resume)
        report = SurrogateReport(
            name=self.attack.name,
            settings=self.identity["settings"],
            parameters=sum(p.numel() for p in stolen.model.parameters()),
            pairs=self.attack.count(self.pairs),
            digest=self.identity["digest"],
            measured=self.measured,
            steps=stolen.steps,
            best_step=stolen.best_step,
            seconds=stolen.seconds,
            protected=exam.protected,
            survival=_grades(stolen.model, exam, channels),
        )
        atomic_write_bytes(self.weights, dump_state(stolen.model), overwrite=True)
        self._write(report, stolen.model, exam)
        shutil.rmtree(self.run_dir)
        return report

    def again(
        self, report: SurrogateReport, exam: Exam, channels: Mapping[str, nn.Module]
    ) -> SurrogateReport:
        """Measure a finished thief anew."""
        model = self.attack.fresh(self.pairs.inputs[0].shape[0], scale_of(self.pairs)).eval()
        load_state(model, self.weights.read_bytes())
        survival = _grades(model, exam, channels)
        report = replace(report, measured=self.measured, protected=exam.protected, survival=survival)
        self._write(report, model, exam)
        return report

    def _write(self, report: SurrogateReport, model: nn.Module, exam: Exam) -> None:
        if (shown := exam.picture(model)) is not None:
            write_image(self.picture, shown, overwrite=True)
        atomic_write_bytes(self.report, report.to_json().encode(), overwrite=True)

    def _check(self, found: Mapping[str, Any], where: Path) -> None:
        if found != self.identity:
            differing = [
                name
                for name, value in self.identity["settings"].items()
                if found["settings"].get(name) != value
            ]
            what = f"another {differing[0]}" if differing else "other pairs, from another model or data"
            raise InputError(f"folder: {where} was made with {what}", "choose another folder")


def _settings(attack: Surrogate) -> dict[str, Any]:
    settings = {one.name: getattr(attack, one.name) for one in fields(attack) if one.compare}
    start = None if attack.start is None else hashlib.sha256(dump_state(attack.start)).hexdigest()
    return {**settings, "start": start}


def _grades(model: nn.Module, exam: Exam, channels: Mapping[str, nn.Module]) -> tuple[Survival, ...]:
    return (exam.grade(model), *(exam.grade(model, name, channel) for name, channel in channels.items()))


def _digest(*images: Tensor, about: str = "") -> str:
    digest = hashlib.sha256(about.encode())
    for image in images:
        digest.update(repr(tuple(image.shape)).encode())
        digest.update(image.numpy().tobytes())
    return digest.hexdigest()


@contextmanager
def _full_disk_named(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InputError(
            f"folder: the disk of {folder} is full; what was finished is kept", "make room, then resume"
        ) from error
