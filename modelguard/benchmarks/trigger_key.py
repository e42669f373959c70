"""Keyed trigger marks: fidelity, transport, and what survives a thief's work on the weights."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from torch import nn

from modelguard import attacks
from modelguard.attacks import Attack, Loot
from modelguard.benchmarks import hosts, record
from modelguard.benchmarks.hosts import Host
from modelguard.datasets import ImageSet
from modelguard.distortions import Blur, Jpeg, Noise, Quantise, Resize
from modelguard.errors import InputError
from modelguard.evidence import Key, Owner
from modelguard.protecting import protect
from modelguard.schemes import TriggerKey
from modelguard.suspects import ModuleSuspect
from modelguard.verifying import Verdict, verify
from modelguard.weights import load_state

Keep = Annotated[Path | None, typer.Option(help="folder of the protected model: used if there, else made")]
CHANNELS: dict[str, nn.Module] = {
    "8 bit": Quantise(),
    "JPEG 75": Jpeg(75),
    "JPEG 50": Jpeg(50),
    "JPEG 20": Jpeg(20),
    "resize 0.5": Resize(0.5),
    "noise 5": Noise(5),
    "noise 25": Noise(25),
    "blur 1": Blur(1.0),
}


class Theft(NamedTuple):
    """An attack and what the thief has; `further` ones start from the model the last one left."""

    label: str
    attack: Attack
    loot: Loot
    further: bool = False


def thefts(
    kinds: Sequence[str], steps: int, thief_steps: int, loot: Loot, textures: Path | None
) -> list[Theft]:
    """Return the attacks to measure, mild to strong within a kind.

    Args:
        kinds: of prune, int8, fp16, noise, finetune, textures, overwrite.
        steps: of fine-tuning.
        thief_steps: embedding steps of every overwriting key.
        loot: the owner's own data.
        textures: folder of foreign data, for the kind "textures".

    Raises:
        InputError: another kind, or no folder of textures.
    """
    tune = attacks.FineTune(steps=steps, progress="fine-tune")
    known: dict[str, list[Attack]] = {
        "prune": [attacks.Prune(rate) for rate in (0.25, 0.35, 0.4, 0.5)],
        "int8": [attacks.Int8()],
        "fp16": [attacks.HalfPrecision()],
        "noise": [attacks.WeightNoise(share) for share in (0.05, 0.1, 0.2)],
        "finetune": [tune],
    }
    found: list[Theft] = []
    for kind in kinds:
        if kind in known:
            found += [Theft(one.name, one, loot) for one in known[kind]]
        elif kind == "textures" and textures is not None:
            foreign = Loot(hosts.textures(textures), loot.task)
            found.append(Theft(f"{tune.name} on textures", tune, foreign))
        elif kind == "overwrite":
            for count in range(1, 6):  # one key after the other, as a thief would
                over = attacks.Overwrite(1, TriggerKey(steps=thief_steps), f"overwrite {count}")
                found.append(Theft(f"overwrite with {count} keys", over, loot, further=count > 1))
        else:
            raise InputError(
                f"attack: {kind!r} is unknown, or lacks --textures",
                f"choose from {', '.join(known)}, textures, overwrite",
            )
    return found


def kept(
    source: Host, photos: ImageSet, keep: Path | None, scheme: TriggerKey | None = None
) -> tuple[nn.Module, Key, dict[str, Any]]:
    """Return the marked host, its key and what marking took; from the folder `keep` if it is there.

    Several runs can so attack one marked model.
    """
    passphrase = "benchmark"  # guards nothing: the key is thrown away with the run
    if keep is not None and keep.exists():
        model = copy.deepcopy(source.model)
        load_state(model, (keep / "model.safetensors").read_bytes())
        facts: dict[str, Any] = json.loads((keep / "facts.json").read_text())
        return model, Key.load(keep / "key.mgkey", passphrase), facts
    owner = Owner("Benchmark", Ed25519PrivateKey.generate())
    protected = protect(
        source.model, scheme or TriggerKey(), data=photos, owner=owner, task=source.task, progress=True
    )
    embedding = protected.report.embedding
    facts = {
        "protect_seconds": round(protected.report.seconds, 1),
        "embed_seconds": round(embedding.seconds, 1),
        "rollbacks": list(embedding.rollbacks),
        "scalars": dict(embedding.scalars),
    }
    if keep is not None:
        protected.save(keep, passphrase)
        (keep / "facts.json").write_text(json.dumps(facts))
    return protected.model, protected.key, facts


def reading(
    model: nn.Module, key: Key, *, queries: int = 1, channel: nn.Module | None = None
) -> dict[str, Any]:
    """Return what a verification of `model` says: agreeing bits, log10 p, log10 adjusted p, verdict."""
    return figures(verify(ModuleSuspect(model, channel), key, queries=queries))


def figures(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict as a row of a result."""
    test = verdict.test
    return {
        "queries": verdict.queries,
        "agree": test.matches,
        "bits": test.bits,
        "log10_p": round(test.log10_p, 2),
        "log10_p_adj": round(verdict.log10_p_adj, 2),
        "verdict": verdict.outcome,
    }


def transport(model: nn.Module, key: Key) -> list[dict[str, Any]]:
    """Verify the marked model through each channel, one query each."""
    return [{"channel": name, **reading(model, key, channel=channel)} for name, channel in CHANNELS.items()]


def main(
    train: hosts.Train,
    tests: hosts.Tests,
    host: Annotated[str, typer.Option(help="dncnn, red, vdsr-2, kair, vdsr-public-2")] = "dncnn",
    weights: Annotated[Path | None, typer.Option("--hosts", help="folder of independent weights")] = None,
    textures: Annotated[
        Path | None, typer.Option(help="folder of texture pictures, a thief's own data")
    ] = None,
    attack: Annotated[
        list[str] | None, typer.Option(help="prune, int8, fp16, noise, finetune, textures, overwrite")
    ] = None,
    steps: Annotated[int, typer.Option(help="fine-tuning steps of the thief")] = 2000,
    thief_steps: Annotated[int, typer.Option(help="embedding steps of each overwriting key")] = 400,
    leaves: Annotated[int, typer.Option(help="committed leaves of 64 bits")] = TriggerKey.leaves,
    per_query: Annotated[int, typer.Option(help="leaves in one query")] = TriggerKey.per_query,
    embed_steps: Annotated[int, typer.Option(help="embedding steps of the owner")] = TriggerKey.steps,
    fidelity: Annotated[bool, typer.Option(help="measure PSNR on the published sets")] = True,
    keep: Keep = None,
    tag: Annotated[str, typer.Option(help="added to the name of the result")] = "",
    out: record.Out = Path("docs/results"),
) -> None:
    """Protect a host, then measure fidelity, transport and robustness."""
    hosts.reproducible()
    source = hosts.load(host, weights)
    photos = hosts.photos(train, 600)
    scheme = TriggerKey(leaves=leaves, per_query=per_query, steps=embed_steps)
    planned = thefts(attack or [], steps, thief_steps, Loot(photos, source.task), textures)
    model, key, facts = kept(source, photos, keep, scheme)
    rows: dict[str, Any] = {
        "host": host,
        "scheme": repr(scheme),
        **facts,
        "fidelity": [
            {
                "set": name,
                "before": round(source.psnr(source.model, tests, name), 3),
                "after": round(source.psnr(model, tests, name), 3),
            }
            for name in (source.sets if fidelity else ())
        ],
        "marked": reading(model, key),
        "unmarked": reading(source.model, key),
        "transport": transport(model, key),
        "attacks": [],
    }
    name = f"trigger_key-{host}{tag}"
    record.write(name, out, rows, seed=0)
    stolen = model
    for theft in planned:
        began = time.monotonic()
        stolen = theft.attack(stolen if theft.further else model, theft.loot)
        seconds = time.monotonic() - began
        rows["attacks"].append(
            {
                "attack": theft.label,
                "set": source.sets[0],
                "psnr": round(source.psnr(stolen, tests, source.sets[0]), 3),
                "one": reading(stolen, key),
                "all": reading(stolen, key, queries=scheme.leaves // scheme.per_query),
                "seconds": round(seconds, 1),
            }
        )
        record.write(name, out, rows, seed=0)


if __name__ == "__main__":
    typer.run(main)
