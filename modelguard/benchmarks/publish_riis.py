"""Write the last checkpoint of a RIIS training as weights and a card.

`python -m modelguard.benchmarks.publish_riis RUN`
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from modelguard import weights
from modelguard.benchmarks.runs import publish
from modelguard.benchmarks.train_riis import FIRST, SECOND, TESTED, held_out, validate
from modelguard.codecs.riis import PREFIX
from modelguard.errors import InputError
from modelguard.networks.riis import RIISNet, RIISSizes
from modelguard.training import load_checkpoint
from modelguard.training.loop import CHECKPOINT


def main(
    run: Annotated[Path, typer.Argument(help="folder that train_riis wrote")],
    name: Annotated[str | None, typer.Option(help="of the weights; by default the setting's")] = None,
    valid: Annotated[Path | None, typer.Option(help="folder of images; default: the shipped photos")] = None,
    data: Annotated[str, typer.Option(help="what the card shall say of the training images' licence")] = "",
    out: Annotated[Path, typer.Option(help="folder for the weights and their card")] = weights.FOLDER,
) -> None:
    """Round the weights of a run to fp16, validate those, and publish them."""
    about = json.loads((run / "config.json").read_text())
    sizes = RIISSizes(**about["sizes"])
    steps, rolled = 0, []
    for stage in (FIRST, SECOND):
        path = run / stage / CHECKPOINT
        if path.is_file():
            net = RIISNet(replace(sizes, decoupled=stage == SECOND))
            counters = load_checkpoint(path, net)
            steps += counters["step"]
            rolled += counters["rolled"]
    if not steps:
        raise InputError(f"run: {run} holds no checkpoint", "train first, up to a first validation")
    about |= {"sizes": vars(net.sizes), "steps": steps, "rollbacks": len(rolled), "licence": data}
    name = name or about["setting"]
    images = held_out(valid, sizes.secrets)
    config = {"riis": vars(net.sizes), "name": name}
    publish(net, f"{PREFIX}{name}", about, lambda: validate(net, images, TESTED), run, out, config)


if __name__ == "__main__":
    typer.run(main)
