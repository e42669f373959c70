"""A dishonest owner tries many keys on a suspect that carries none, and shows the best."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from modelguard.benchmarks import hosts, record
from modelguard.benchmarks.false_claims import blur
from modelguard.evidence import prf
from modelguard.schemes import keyed_cells
from modelguard.statistics import Multiplicity, clopper_pearson, sign_test
from modelguard.suspects import CallableSuspect, ModuleSuspect, Suspect

ALPHA = 1e-6
FAMILY = 256
SALT = bytes(32)  # fixed: the owner tries secrets


def ground_bits(suspect: Suspect, keys: int) -> list[float]:
    """Return log10 p of `keys` choices of bits for one trigger, asked once: all that can be done offline."""
    scheme = keyed_cells.public(channels=1, scale=1)
    secret_k, _ = prf.leaf_secrets(bytes(32), 0)
    answer = suspect.ask(keyed_cells.trigger(scheme, [secret_k], SALT)).image
    assert answer is not None
    scores = keyed_cells.decode(scheme, [secret_k], SALT, answer)
    masters = (number.to_bytes(32, "big") for number in range(keys))
    secrets = (prf.leaf_secrets(master, 0)[1] for master in masters)
    return [sign_test(keyed_cells.bits(scheme, x, SALT), scores).log10_p for x in secrets]


def ground_keys(suspect: Suspect, keys: int) -> list[float]:
    """Return log10 p of `keys` whole keys, each of which asks the suspect anew."""
    scheme = keyed_cells.public(channels=1, scale=1)
    values = []
    for number in range(keys):
        secret_k, secret_b = prf.leaf_secrets(number.to_bytes(32, "big"), 0)
        answer = suspect.ask(keyed_cells.trigger(scheme, [secret_k], SALT)).image
        assert answer is not None
        scores = keyed_cells.decode(scheme, [secret_k], SALT, answer)
        values.append(sign_test(keyed_cells.bits(scheme, secret_b, SALT), scores).log10_p)
    return values


def summary(name: str, values: list[float]) -> dict[str, Any]:
    """Return the best of all keys, and how often the best of a family of 256 passes once it is adjusted."""
    keys = len(values)
    tried = Multiplicity(1, 1, math.ceil(math.log2(keys)))
    best = min(values)
    families = np.array(values[: keys - keys % FAMILY]).reshape(-1, FAMILY).min(axis=1)
    adjusted = [Multiplicity(1, 1, int(math.log2(FAMILY))).adjust(float(value)) for value in families]
    passed = sum(value <= math.log10(0.05) for value in adjusted)
    low, high = clopper_pearson(passed, len(adjusted), 0.99)
    return {
        "suspect": name,
        "keys": keys,
        "best_log10_p": round(best, 2),
        "best_log10_p_adj": round(tried.adjust(best), 2),
        "verdict": "match" if tried.adjust(best) <= math.log10(ALPHA) else "inconclusive",
        "unadjusted_below_alpha": sum(value <= math.log10(ALPHA) for value in values),
        "families": len(adjusted),
        "families_below_0.05": passed,
        "low": low,
        "high": high,
    }


def main(
    log2_keys: Annotated[int, typer.Option(help="log2 of the keys tried on each suspect")] = 16,
    out: record.Out = Path("docs/results"),
) -> None:
    """Try 2^16 keys on innocent suspects and count all of them against the best."""
    keys = 1 << log2_keys
    host = ModuleSuspect(hosts.load("dncnn").model)
    rows = [
        summary("unmarked host, bits ground offline", ground_bits(host, keys)),
        summary("blur service, whole keys", ground_keys(CallableSuspect(blur), keys)),
    ]
    notes = "one leaf of 64 bits; the best of a family is adjusted by the size of the family"
    record.write("grinding", out, rows, seed=0, notes=notes)


if __name__ == "__main__":
    typer.run(main)
