"""The whole way from commitment to checked bundle, many times, on a network that carries no mark."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from modelguard.benchmarks import hosts, record
from modelguard.benchmarks.false_claims import rejections
from modelguard.checking import check
from modelguard.evidence import Key, Owner, register
from modelguard.schemes import Contract, TriggerKey
from modelguard.suspects import ModuleSuspect, Suspect
from modelguard.verifying import verify

INFO = {
    "name": "unmarked",
    "version": "1",
    "task": "denoise",
    "input": "u8 gray HxW",
    "output": "u8 gray HxW",
}


def claim(owner: Owner, suspect: Suspect, folder: Path) -> tuple[float, str]:
    """Commit to a fresh key, register, ask, certify and check; return log10 p and the checked verdict."""
    scheme = TriggerKey(leaves=1, per_query=1)
    public = scheme.public(Contract(1, 1))
    # a cheap salt: what is tested is chance, not an owner who searches
    key = Key.create(owner, public, scheme.leaves, decoder=scheme.decoder, log2_n=1)
    weights = folder / "weights"
    weights.write_bytes(b"the model is not asked for its weights")
    registration = register(owner, key, [("model.safetensors", weights)], INFO)
    verdict = verify(suspect, replace(key, extras={"registration": registration.envelope}))
    verdict.certify(owner, folder / "evidence")
    checked = check(folder / "evidence", [owner.public])
    return verdict.test.log10_p, checked.verdict


def main(
    claims: Annotated[int, typer.Option(help="fresh commitments")] = 1000,
    out: record.Out = Path("docs/results"),
) -> None:
    """Count rejections at .05, .01 and .001, with Clopper-Pearson bounds, and checked matches."""
    hosts.reproducible()
    suspect = ModuleSuspect(hosts.load("dncnn").model)
    owner = Owner("Stranger", Ed25519PrivateKey.generate())
    values, matches = [], 0
    for _ in range(claims):
        with tempfile.TemporaryDirectory() as folder:
            log10_p, verdict = claim(owner, suspect, Path(folder))
        values.append(log10_p)
        matches += verdict == "match"
    rows = [
        {"suspect": "unmarked host, whole way to a checked bundle", **rejections(values), "matches": matches}
    ]
    notes = "Clopper-Pearson intervals at 99 %; one leaf of 64 bits a query"
    record.write("calibration", out, rows, seed=0, notes=notes)


if __name__ == "__main__":
    typer.run(main)
