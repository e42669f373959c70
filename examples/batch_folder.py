"""A batch job: denoise every picture of a folder with a protected model.

    python examples/batch_folder.py protected/model.safetensors noisy/ clean/

A picture that is done already is skipped, so that a job that was stopped goes on where it was; one that
cannot be read is named, and the job ends with exit code 1.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import nn

import modelguard as mg
from modelguard.datasets import read_image, write_image
from modelguard.weights import load_state

ENDINGS = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}


def build() -> nn.Module:
    """Return the model the weights belong to; put your own here."""
    return mg.networks.dncnn()


def main(weights: Path, given: Path, into: Path) -> int:
    """Denoise what is in `given` and not yet in `into`, and return the exit code."""
    model = build().eval()
    load_state(model, weights.read_bytes())
    failed = 0
    for path in sorted(one for one in given.rglob("*") if one.suffix.lower() in ENDINGS):
        target = into / path.relative_to(given).with_name(f"{path.name}.png")
        if target.exists():
            continue
        try:
            with torch.inference_mode():
                answer = model(read_image(path, 1)[None])[0]
            write_image(target, answer)  # whole or not at all
        except mg.ModelGuardError as error:
            print(error.diagnostics(), file=sys.stderr)
            failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("weights", type=Path, help="safetensors file of the protected model")
    parser.add_argument("given", type=Path, help="folder of noisy pictures")
    parser.add_argument("into", type=Path, help="folder for the denoised PNG files")
    asked = parser.parse_args()
    try:
        sys.exit(main(asked.weights, asked.given, asked.into))
    except mg.ModelGuardError as error:
        raise SystemExit(error.diagnostics()) from error
