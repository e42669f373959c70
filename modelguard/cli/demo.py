"""`modelguard demo`: the whole story on this machine, with a model and photos that ship with the package."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelguard._files import atomic_write_bytes, new_folder
from modelguard.cli.app import FAILURE, INCONCLUSIVE, MATCH
from modelguard.cli.check import as_record as evidence_record
from modelguard.cli.output import emit, note, table
from modelguard.cli.verify import as_record as verdict_record

if TYPE_CHECKING:
    from modelguard.cli.story import Story

WEIGHTS = "denoise-25"
CONTENTS = """What `modelguard demo` left here:

picture.png                        what the mark looks like
protected/model.safetensors        the marked model: what Acme ships
protected/key.mgkey                Acme's secret key, encrypted
protected/registration.dsse.json   what Acme publishes before shipping
acme.pem, acme.pub.pem             Acme's signing key, encrypted, and its public half
evidence/                          the certificate against the first suspect; check it with
                                   modelguard check evidence --trust acme.pub.pem
results.json                       all figures
"""


def demo(
    out: Annotated[Path, typer.Option(help="New folder for evidence and picture.")] = Path("modelguard-demo"),
    steps: Annotated[int, typer.Option(min=1, help="Training steps; a real mark takes twice as many.")] = 350,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON object to stdout.")] = False,
) -> int:
    """Protect a denoiser, steal it three ways, catch the thefts, spare two innocents, and sign the evidence.

    Takes a few minutes on two cores that multiply in bf16, some twenty on older ones, and no network. Exit
    code 0 if all five verdicts are as they should be.
    """
    with new_folder(out) as folder:
        note("[1/6] loading a denoiser (DnCNN) and twelve photos")
        import torch

        from modelguard import networks, photos
        from modelguard.cli.story import tell
        from modelguard.datasets import GaussianNoise, ImageSet
        from modelguard.schemes import TriggerKey
        from modelguard.training import resolve_precision

        if not torch.accelerator.is_available() and resolve_precision("auto", torch.device("cpu")) == "fp32":
            note("this processor does not multiply in bf16: expect some twenty minutes, not four")
        pictures = photos.load().images
        rest = tuple(picture for number, picture in enumerate(pictures) if number % 3 != 1)
        passphrase = secrets.token_urlsafe(12)
        story = tell(
            networks.dncnn(pretrained=WEIGHTS),
            GaussianNoise(25),
            ImageSet(rest),
            ImageSet(pictures[1::3]),
            folder,
            passphrase,
            scheme=TriggerKey(steps=steps),
        )
        result = _record(story, out)
        atomic_write_bytes(folder / "results.json", (json.dumps(result, indent=1) + "\n").encode())
        atomic_write_bytes(folder / "README.txt", CONTENTS.encode())
    rows = [
        (
            row.label,
            f"{row.psnr:.2f}",
            f"{row.verdict.test.matches}/{row.verdict.test.bits}",
            f"{row.verdict.log10_p_adj:.1f}",
            row.verdict.outcome,
        )
        for row in story.rows
    ]
    columns = ("suspect", "dB", "bits", "log10 p", "verdict")
    title = "Whose model is it? Secret bits that agree with Acme's key; all trials counted"
    emit(result, table(title, columns, rows), as_json)
    if not as_json:
        print(f"\n{story.report}\n\ncertificate against the first: {story.evidence.statement}\n")
    note(
        f"all in {out}: open {out}/picture.png; README.txt says what is what.\n"
        f"The passphrase of its key files is written nowhere else: {passphrase}"
    )
    if any(row.verdict.match for row in story.rows if not row.stolen):
        return FAILURE
    return MATCH if all(row.verdict.match for row in story.rows if row.stolen) else INCONCLUSIVE


def _record(story: Story, out: Path) -> dict[str, Any]:
    rows = [
        {"label": row.label, "stolen": row.stolen, "psnr": row.psnr, **verdict_record(row.verdict)}
        for row in story.rows
    ]
    return {
        "out": str(out),
        "report": asdict(story.report),
        "suspects": rows,
        "certificate": evidence_record(story.evidence),
    }
