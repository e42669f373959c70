"""The whole story in Python: mark a denoiser, lose it, recognise it behind a service, prove it to a stranger.

Runs on the CPU in a few minutes, without a download: python examples/protect_and_verify.py FOLDER
"""

from __future__ import annotations

import argparse
from pathlib import Path

import modelguard as mg
from modelguard import attacks, photos
from modelguard.distortions import Jpeg
from modelguard.metrics import quality
from modelguard.suspects import ModuleSuspect

PASSPHRASE = "for this example only"


def main(folder: Path, scheme: mg.TriggerKey) -> None:
    """Play all parts, and leave what each of them keeps in `folder`."""
    task = mg.GaussianNoise(25)
    pictures = photos.load().images
    ours, theirs = mg.ImageSet(pictures[:9]), mg.ImageSet(pictures[9:])
    folder.mkdir(parents=True)

    # The owner: mark the model, keep the key, publish the registration, then ship the marked model.
    owner = mg.Owner.create(folder / "acme.pem", name="Acme Imaging", passphrase=PASSPHRASE)
    owner.save_public(folder / "acme.pub.pem")
    host = mg.networks.dncnn(pretrained="denoise-25")
    protected = mg.protect(host, scheme, data=ours, test=theirs, owner=owner, task=task, progress=True)
    protected.save(folder / "protected", PASSPHRASE)
    print(protected.report)

    # The thief: prune the model and put it behind a service that answers with JPEG files.
    stolen = attacks.Prune(0.2)(protected.model, attacks.Loot(theirs, task))
    service = ModuleSuspect(stolen, channel=Jpeg(75))
    print(f"\nthe stolen model is worth {quality(stolen, theirs, task).psnr:.2f} dB")

    # The owner: ask the service, and the model that was never marked. Two suspects are two trials.
    key = mg.Key.load(folder / "protected" / "key.mgkey", PASSPHRASE)
    verdict = mg.verify(service, key, suspects=2, label="vendor X", transcript=folder / "session")
    innocent = mg.verify(host, key, suspects=2, label="unmarked model")
    print(f"vendor X        {verdict}\nunmarked model  {innocent}")

    # The owner: sign evidence. It publishes the leaves that were asked, so they are burnt in the key file.
    evidence = verdict.certify(owner, folder / "evidence")
    key.burn(evidence.leaves).save(folder / "protected" / "key.mgkey", PASSPHRASE, overwrite=True)

    # A stranger who trusts Acme's public key, and nothing else.
    checked = mg.check(folder / "evidence", trust=[folder / "acme.pub.pem"])
    print(f"\nproven: {checked.statement}\nnot proven:", *checked.limits, sep="\n  ")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "folder", type=Path, nargs="?", default=Path("story"), help="new folder (default: story)"
    )
    try:
        main(parser.parse_args().folder, mg.TriggerKey())
    except mg.ModelGuardError as error:
        raise SystemExit(error.diagnostics()) from error
