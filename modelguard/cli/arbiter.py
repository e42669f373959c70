"""`modelguard arbiter`: an examination in two phases, for an examiner who never holds the secret bits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelguard._files import check_new
from modelguard.cli.app import INCONCLUSIVE, MATCH
from modelguard.cli.check import as_record, as_text
from modelguard.cli.naming import WEIGHTS_HELP
from modelguard.cli.output import emit, note
from modelguard.cli.secrets import ask_until_right, open_owner
from modelguard.cli.stamps import REVOCATION_HELP, TSA_HELP, TSA_ROOT_HELP, authority
from modelguard.cli.verify import (
    SUSPECT_HELP,
    SUSPECTS_HELP,
    MaxRequests,
    MaxSeconds,
    PerMinute,
    open_suspect,
)

if TYPE_CHECKING:
    from modelguard.evidence import PublicKey, Triggers

SuspectName = Annotated[str, typer.Argument(metavar="SUSPECT", help=SUSPECT_HELP)]
Folder = Annotated[
    Path, typer.Argument(metavar="SESSION", help="Folder of the session, made by `modelguard arbiter draw`.")
]
Weights = Annotated[Path | None, typer.Option(help=WEIGHTS_HELP)]
KeyFile = Annotated[Path, typer.Option(help="Key file of the owner, such as protected/key.mgkey.")]
TriggerFile = Annotated[Path, typer.Option(help="File with the triggers, from the owner.")]
Trust = Annotated[
    list[Path],
    typer.Option(help="Public key (PEM) of the owner, from elsewhere than the files; repeat it for several."),
]
TsaUrl = Annotated[str | None, typer.Option(metavar="URL", help=TSA_HELP)]
TsaRoots = Annotated[list[Path] | None, typer.Option(help=TSA_ROOT_HELP)]
Json = Annotated[bool, typer.Option("--json", help="Write one JSON object to stdout.")]


def draw(
    suspect: SuspectName,
    registration: Annotated[Path, typer.Option(help="The owner's registration.dsse.json.")],
    trust: Trust,
    out: Annotated[Path, typer.Option(help="New folder for the session.")],
    weights: Weights = None,
    queries: Annotated[int, typer.Option(min=1, help="Triggers, or photos, that will be sent.")] = 1,
    exclude: Annotated[
        list[int] | None,
        typer.Option(help="Leaf that the owner says was used; repeat it for several. Charged for."),
    ] = None,
    label: Annotated[str | None, typer.Option(help="Name of the suspect in the record.")] = None,
    tsa_root: TsaRoots = None,
    as_json: Json = False,
) -> int:
    """Step 1, examiner: draw the leaves of a session, before the owner knows them. Nobody is asked yet."""
    check_new(out, "out")
    asked = open_suspect(suspect, weights)

    from modelguard.arbitrating import draw as begin

    written = begin(
        out,
        registration,
        asked,
        trust=_trusted(trust),
        tsa_roots=tsa_root or (),
        queries=queries,
        label=label or suspect,
        exclude=exclude or (),
    )
    file = out / "session.json"
    text = f"{file}: {written.session.count} leaves drawn; send this file to the owner"
    emit({"session": str(file), "leaves": written.session.count}, text, as_json)
    return MATCH


def open_triggers(
    session: Annotated[Path, typer.Argument(metavar="SESSION", help="The examiner's session.json.")],
    key: KeyFile,
    out: Annotated[Path, typer.Option(help="New file for the triggers.")],
    as_json: Json = False,
) -> int:
    """Step 2, owner: open the triggers of a session, not their bits, and burn their leaves in the key."""
    check_new(out, "out")

    from modelguard.arbitrating import open_triggers as reveal
    from modelguard.evidence import Key

    _, opened = ask_until_right(lambda passphrase: Key.load(key, passphrase))
    triggers = reveal(opened, session)
    opened.burn_in_file(triggers.leaves)  # before anybody can see what was opened
    triggers.save(out)
    left = opened.leaves - len(opened.burnt.union(triggers.leaves))
    used = ", ".join(map(str, triggers.leaves))
    text = f"{out}: send this file to the examiner\nleaves {used} are burnt, {left} are left in {key}"
    emit({"triggers": str(out), "leaves": list(triggers.leaves), "leaves_left": left}, text, as_json)
    return MATCH


def ask(
    suspect: SuspectName,
    session: Folder,
    triggers: TriggerFile,
    trust: Trust,
    weights: Weights = None,
    photos: Annotated[
        Path | None, typer.Option(help="Folder of photos of your choice, for a mark that is in every answer.")
    ] = None,
    per_minute: PerMinute = None,
    max_requests: MaxRequests = None,
    max_seconds: MaxSeconds = None,
    tsa: TsaUrl = None,
    tsa_root: TsaRoots = None,
    as_json: Json = False,
) -> int:
    """Step 3, examiner: ask the suspect. The same command again goes on where it stopped."""
    opened = _triggers(triggers, trust, tsa_root)

    from modelguard.arbitrating import ask as put
    from modelguard.suspects import Pacing

    pacing = Pacing(per_minute, requests=max_requests, seconds=max_seconds)
    stamps, asked = authority(tsa, tsa_root), open_suspect(suspect, weights)
    written = put(asked, opened, session, stamps, pacing=pacing, photos=photos, progress=note)
    answered = sum(line.decoded is not None for line in written.lines)
    text = f"{session}: {answered} answers; send the folder to the owner"
    emit({"session": str(session), "questions": len(written.lines), "answers": answered}, text, as_json)
    return MATCH


def open_bits(
    session: Folder,
    key: KeyFile,
    owner: Annotated[Path, typer.Option(help="Signing key of the owner.")],
    out: Annotated[Path, typer.Option(help="New file for the bits, NAME.dsse.json.")],
    as_json: Json = False,
) -> int:
    """Step 4, owner: sign the bits for the finished session and no other. Do it once for a session."""
    check_new(out, "out")

    from modelguard.arbitrating import open_bits as reveal
    from modelguard.evidence import Key

    passphrase, opened = ask_until_right(lambda passphrase: Key.load(key, passphrase))
    bits = reveal(open_owner(owner, passphrase), opened, session)
    bits.save(out)
    text = f"{out}: send this file to the examiner"
    emit({"bits": str(out), "leaves": list(bits.secrets)}, text, as_json)
    return MATCH


def certify(
    session: Folder,
    triggers: TriggerFile,
    bits: Annotated[Path, typer.Option(help="File with the bits, from the owner.")],
    trust: Trust,
    owner: Annotated[Path, typer.Option(help="Signing key of the examiner.")],
    out: Annotated[Path, typer.Option(help="New folder for the bundle.")],
    suspects: Annotated[int, typer.Option(min=1, help=SUSPECTS_HELP)] = 1,
    tsa: TsaUrl = None,
    tsa_root: TsaRoots = None,
    revocation: Annotated[list[Path] | None, typer.Option(help=REVOCATION_HELP)] = None,
    as_json: Json = False,
) -> int:
    """Step 5, examiner: sign what the session showed, as a bundle that anyone can check offline.

    Exit code 0 is a match, 1 inconclusive, which does not mean innocent.
    """
    check_new(out, "out")
    opened = _triggers(triggers, trust, tsa_root)

    from modelguard.certifying import certify as sign
    from modelguard.evidence import Bits, Opened, Owner

    both = Opened(opened, Bits.load(bits, opened.registration))
    examiner = ask_until_right(lambda passphrase: Owner.load(owner, passphrase))[1]
    evidence = sign(
        session,
        both,
        examiner,
        out,
        suspects=suspects,
        tsa=authority(tsa, tsa_root),
        revocations=revocation or (),
    )
    emit({**as_record(evidence), "bundle": str(out)}, f"{as_text(evidence)}\n\n{out} is written", as_json)
    return MATCH if evidence.verdict == "match" else INCONCLUSIVE


def _trusted(files: Sequence[Path]) -> list[PublicKey]:
    from modelguard.evidence import PublicKey

    return [PublicKey.load(file) for file in files]


def _triggers(file: Path, trust: Sequence[Path], roots: Sequence[Path] | None) -> Triggers:
    from modelguard.evidence import Triggers, load_roots

    return Triggers.load(file, _trusted(trust), load_roots(roots or ()))


arbiter = typer.Typer()
for command in (draw, open_triggers, ask, open_bits, certify):
    arbiter.command()(command)
