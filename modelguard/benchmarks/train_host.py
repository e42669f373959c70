"""Train a host that ships with the package: `python -m modelguard.benchmarks.train_host NAME --data DIR`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor, nn

from modelguard import networks, weights
from modelguard.benchmarks import hosts
from modelguard.datasets import BicubicLoss, GaussianNoise, ImageSet, Patches, Task
from modelguard.training import TrainConfig, fit, imitation, restoration


@dataclass(frozen=True)
class Recipe:
    """How one shipped host is built and trained."""

    build: Callable[[], nn.Module]
    task: Task
    patch: int
    loss: Callable[[Tensor, Tensor], Tensor]
    config: TrainConfig


RECIPES = {
    "dncnn-denoise-25": Recipe(
        networks.DnCNN,
        GaussianNoise(25),
        50,
        nn.functional.mse_loss,
        TrainConfig(steps=12500, batch=16, lr=1e-3),
    ),
    "red-denoise-25": Recipe(
        networks.RED,
        GaussianNoise(25),
        50,
        nn.functional.mse_loss,
        TrainConfig(steps=3000, batch=16, lr=5e-4, warmup=200),
    ),
    "vdsr-sr-234": Recipe(
        networks.VDSR,
        BicubicLoss((2, 3, 4)),
        48,
        nn.functional.l1_loss,
        TrainConfig(steps=4200, batch=16, lr=5e-4, warmup=300),
    ),
}


def main(
    name: Annotated[str, typer.Argument(help=f"one of {', '.join(RECIPES)}")],
    data: Annotated[Path, typer.Option(help="folder of clean training images")],
    run: Annotated[Path | None, typer.Option(help="folder for checkpoints; default runs/NAME")] = None,
    resume: Annotated[bool, typer.Option(help="continue from the last checkpoint")] = False,
    start: Annotated[Path | None, typer.Option(help="weights to start from, for a second stage")] = None,
    teacher: Annotated[
        Path | None, typer.Option(help="folder of independent weights whose DnCNN is imitated")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="instead of the recipe's")] = None,
    lr: Annotated[float | None, typer.Option(help="instead of the recipe's")] = None,
    out: Annotated[Path, typer.Option(help="folder for the weights and their card")] = weights.FOLDER,
) -> None:
    """Train one host and write its fp16 weights and card."""
    recipe = RECIPES[name]
    config = replace(recipe.config, steps=steps or recipe.config.steps, lr=lr or recipe.config.lr)
    torch.manual_seed(config.seed)
    net, images = recipe.build(), ImageSet.from_folder(data, 1, smallest=recipe.patch)
    card = out / f"{name}.json"
    earlier = json.loads(card.read_text())["stages"] if start is not None and card.is_file() else []
    if start is not None:
        weights.load_state(net, start.read_bytes())
    objective = restoration(recipe.loss)
    if teacher is not None:
        objective = imitation(hosts.load("kair", teacher).model, recipe.loss)
    # a later stage draws other patches
    patches = Patches(images, recipe.task, recipe.patch, 2**31, config.seed + len(earlier))
    net.train(start is None)  # later, the noise of batch statistics is what keeps the loss up
    run = run or Path("runs") / name
    run.mkdir(parents=True, exist_ok=True)
    result = fit(net, patches, objective, config, run_dir=run, resume=resume, progress=name)
    stage = {
        "training": asdict(config),
        "target": "answers of the MIT-licensed KAIR DnCNN" if teacher else "clean image",
        "rollbacks": list(result.rollbacks),
        "final_loss": result.scalars["loss"],
        "command": "python -m modelguard.benchmarks.train_host " + " ".join(_arguments()),
    }
    about = {
        "task": repr(recipe.task),
        "data": f"{len(images)} images of the folder {data.name}, luma",
        "patch": recipe.patch,
        "loss": recipe.loss.__name__,
        "stages": [*earlier, stage],
        "versions": {"python": sys.version.split()[0], "torch": torch.__version__},
    }
    weights.publish(net, name, about, out)


def _arguments() -> list[str]:
    return [Path(argument).name if "/" in argument else argument for argument in sys.argv[1:]]


if __name__ == "__main__":
    typer.run(main)
