"""What each process of `test_deployment` runs: wrap the protected model of FOLDER for DDP, and verify it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from accelerate import Accelerator

import modelguard as mg
from modelguard.networks import DnCNN
from modelguard.weights import load_state


def main(folder: Path) -> None:
    model = DnCNN(depth=3, width=24, batch_norm=False)
    load_state(model, (folder / "protected" / "model.safetensors").read_bytes())
    accelerator = Accelerator(cpu=True)
    wrapped = accelerator.prepare(model)
    verdict = mg.verify(wrapped, folder / "protected" / "key.mgkey")
    seen = {
        "processes": accelerator.num_processes,
        "wrapper": type(wrapped).__name__,
        "verdict": verdict.outcome,
    }
    (folder / f"{accelerator.process_index}.json").write_text(json.dumps(seen))
    accelerator.end_training()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
