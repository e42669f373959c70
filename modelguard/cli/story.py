"""What the demo does: two owners, three thefts, two innocents, one certificate."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from torch import nn

from modelguard.attacks import FineTune, Loot, Prune
from modelguard.checking import check
from modelguard.cli.output import note
from modelguard.cli.picture import draw
from modelguard.datasets import ImageSet, Task
from modelguard.distortions import Jpeg
from modelguard.evidence import CheckedEvidence, Owner
from modelguard.metrics import quality
from modelguard.protecting import Protected, Report, protect
from modelguard.schemes import TriggerKey
from modelguard.suspects import ModuleSuspect
from modelguard.verifying import Verdict, verify

SHARE = 0.35
SUSPECTS = 5


@dataclass(frozen=True)
class Row:
    """One suspect: what it is, what it is worth in dB, and what the owner's key says of it."""

    label: str
    stolen: bool
    psnr: float
    verdict: Verdict


@dataclass(frozen=True)
class Story:
    """How it ended; `evidence` is what a stranger finds in the bundle about the first suspect."""

    report: Report
    rows: tuple[Row, ...]
    evidence: CheckedEvidence


def tell(
    host: nn.Module,
    task: Task,
    photos: ImageSet,
    held_out: ImageSet,
    folder: Path,
    passphrase: str,
    *,
    scheme: TriggerKey,
    theft_steps: int = 100,
    stretch: int = 20,
) -> Story:
    """Mark, steal, ask, certify; write everything the owner keeps into `folder`.

    Args:
        host: the unmarked model.
        task: what it is for.
        photos: what the owners mark with and the thief fine-tunes with.
        held_out: what quality is measured on.
        folder: exists.
        passphrase: of the owner's key and the mark's.
        scheme: how Acme marks; Rival, who is asked once, does with fewer leaves and half the steps.
        theft_steps: of fine-tuning.
        stretch: see `modelguard.protect`.
    """
    acme = Owner.create(folder / "acme.pem", "Acme Imaging", passphrase)
    acme.save_public(folder / "acme.pub.pem")
    note("[2/6] Acme marks it with a secret key")
    ours = _marked(host, scheme, acme, photos, held_out, task, stretch)
    note("[3/6] Rival marks the same model with a key of his own")
    small = replace(scheme, leaves=scheme.per_query, steps=math.ceil(scheme.steps / 2))
    rival = Owner("Rival", Ed25519PrivateKey.generate())
    theirs = _marked(host, small, rival, photos, held_out, task, min(stretch, 10))  # nobody reads this key
    note("[4/6] a thief copies Acme's model, fine-tunes a copy and prunes another; Acme asks five suspects")
    suspects = _suspects(host, ours.model, theirs.model, Loot(photos, task), theft_steps)
    rows = tuple(_row(one, ours, held_out, task) for one in suspects)
    note("[5/6] Acme signs evidence against the first, and a stranger checks it")
    rows[0].verdict.certify(acme, folder / "evidence")
    evidence = check(folder / "evidence", [folder / "acme.pub.pem"], suspects=SUSPECTS)
    burnt = replace(ours, key=ours.key.burn(evidence.leaves))
    burnt.save(folder / "protected", passphrase)
    note("[6/6] drawing the picture")
    draw(folder / "picture.png", host, burnt.model, burnt.key, evidence.leaves, held_out[0], task)
    return Story(ours.report, rows, evidence)


def _marked(
    host: nn.Module,
    scheme: TriggerKey,
    owner: Owner,
    photos: ImageSet,
    held_out: ImageSet,
    task: Task,
    stretch: int,
) -> Protected:
    return protect(
        host,
        scheme,
        data=photos,
        test=held_out,
        owner=owner,
        task=task,
        name=type(host).__name__,
        progress=True,
        stretch=stretch,
    )


def _suspects(
    host: nn.Module, ours: nn.Module, theirs: nn.Module, loot: Loot, steps: int
) -> Iterator[tuple[str, bool, nn.Module, nn.Module]]:
    """Yield (label, whether stolen, model, what happens to its answers)."""
    yield "Acme's, behind a JPEG 75 service", True, ours, Jpeg(75)
    tuned = FineTune(steps, batch=16, progress="the thief fine-tunes")(ours, loot)
    yield f"Acme's, fine-tuned {steps} steps", True, tuned, nn.Identity()
    yield f"Acme's, {SHARE:.0%} of weights pruned", True, Prune(SHARE)(ours, loot), nn.Identity()
    yield "the unmarked model", False, host, nn.Identity()
    yield "Rival's model", False, theirs, nn.Identity()


def _row(
    case: tuple[str, bool, nn.Module, nn.Module], ours: Protected, held_out: ImageSet, task: Task
) -> Row:
    label, stolen, model, channel = case
    verdict = verify(ModuleSuspect(model, channel), ours.key, suspects=SUSPECTS, label=label)
    return Row(label, stolen, quality(nn.Sequential(model, channel), held_out, task).psnr, verdict)
