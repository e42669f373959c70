"""A release gate for CI: fail when a model file has lost its mark.

    python examples/release_gate.py model.safetensors key.mgkey

Exit code 0: the mark is there. 1: it is not, do not ship. 2: the gate could not tell. The passphrase of the
key file comes from MODELGUARD_PASSPHRASE. Nothing is published: asking one's own model burns no leaf.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from torch import nn

import modelguard as mg
from modelguard.weights import load_state


def build() -> nn.Module:
    """Return the model the weights belong to; put your own here."""
    return mg.networks.dncnn()


def main(weights: Path, key: Path, alpha: float) -> int:
    """Load `weights`, ask the model once, and return the exit code."""
    try:
        model = build()
        load_state(model, weights.read_bytes())
        verdict = mg.verify(model, key, alpha=alpha, label=weights.name)
    except (mg.ModelGuardError, OSError) as error:
        print(error.diagnostics() if isinstance(error, mg.ModelGuardError) else error, file=sys.stderr)
        return 2
    print(f"{weights}: {verdict}")
    return 0 if verdict.match else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("weights", type=Path, help="safetensors file about to be released")
    parser.add_argument("key", type=Path, help="key file of its mark")
    parser.add_argument("--alpha", type=float, default=1e-6, help="level of the verdict (default: 1e-6)")
    given = parser.parse_args()
    sys.exit(main(given.weights, given.key, given.alpha))
