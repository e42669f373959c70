"""Write the last checkpoint of a RIIS training as weights and a card.

`python -m modelguard.benchmarks.publish_riis RUN`
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from modelguard import weights
from modelguard.benchmarks.runs import Licence, Name, Shipped, Valid, publish
from modelguard.benchmarks.train_riis import FIRST, SECOND, TESTED, held_out, validate
from modelguard.codecs.riis import PREFIX
from modelguard.errors import InputError
from modelguard.networks.riis import RIISNet, RIISSizes
from modelguard.training import load_checkpoint
from modelguard.training.loop import CHECKPOINT


def finished(run: Path) -> tuple[RIISNet, dict[str, Any]]:
    """Return the net of a run's last checkpoint, in fp32, and what a card says of the run.

    Raises:
        InputError: there is no checkpoint yet.
    """
    about = json.loads((run / "config.json").read_text())
    sizes = RIISSizes(**about["sizes"])
    steps, rolled, net = 0, 0, None
    for stage in (FIRST, SECOND):
        path = run / stage / CHECKPOINT
        if path.is_file():
            net = RIISNet(replace(sizes, decoupled=stage == SECOND))
            counters = load_checkpoint(path, net)
            steps += counters["step"]
            rolled += len(counters["rolled"])
    if net is None:
        raise InputError(f"run: {run} holds no checkpoint", "train first, up to a first validation")
    return net, {**about, "sizes": vars(net.sizes), "steps": steps, "rollbacks": rolled}


def main(
    run: Annotated[Path, typer.Argument(help="folder that train_riis wrote")],
    name: Name = None,
    valid: Valid = None,
    data: Licence = "",
    out: Shipped = weights.FOLDER,
) -> None:
    """Round the weights of a run to fp16, validate those, and publish them."""
    net, about = finished(run)
    about["licence"] = data
    name = name or about["setting"]
    images = held_out(valid, net.sizes.secrets)
    config = {"riis": vars(net.sizes), "name": name}
    publish(net, f"{PREFIX}{name}", about, lambda: validate(net, images, TESTED), run, out, config)


if __name__ == "__main__":
    typer.run(main)
