"""Write the last checkpoint of a DBMARK training as weights and a card.

`python -m modelguard.benchmarks.publish_dbmark RUN`
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from modelguard import weights
from modelguard.benchmarks.runs import Licence, Name, Shipped, Valid, publish
from modelguard.benchmarks.train_dbmark import SETTINGS, held_out, validate
from modelguard.codecs.dbmark import PREFIX
from modelguard.networks.dbmark import DBMarkNet, DBMarkSizes
from modelguard.training import load_checkpoint
from modelguard.training.loop import CHECKPOINT


def main(
    run: Annotated[Path, typer.Argument(help="folder that train_dbmark wrote")],
    name: Name = None,
    valid: Valid = None,
    data: Licence = "",
    out: Shipped = weights.FOLDER,
) -> None:
    """Round the weights of a run to fp16, validate those, and publish them."""
    about = json.loads((run / "config.json").read_text())
    sizes, setting = about["sizes"], about["setting"]
    net = DBMarkNet(DBMarkSizes(**sizes))
    counters = load_checkpoint(run / CHECKPOINT, net)
    about |= {"steps": counters["step"], "rollbacks": counters["rolled"], "licence": data}
    name = name or setting
    images, kinds = held_out(valid, net.sizes.side), SETTINGS[setting].distortions
    config = {"dbmark": sizes, "name": name}
    publish(net, f"{PREFIX}{name}", about, lambda: validate(net, images, kinds), run, out, config)


if __name__ == "__main__":
    typer.run(main)
