"""Train RISTN for video super-resolution: `python -m modelguard.benchmarks.train_ristn SETTING --data DIR`.

Clips are made from still photos by a known motion; `--videos` adds real ones. Never give it Vid4, on which
`modelguard bench ristn` measures. Ctrl-C and `--resume` lose nothing; `--resume --steps N` with the N that
are done writes their weights.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import typer
from torch import Tensor, nn
from torch.utils.data import Dataset

from modelguard import photos
from modelguard.benchmarks.ristn import compare
from modelguard.benchmarks.runs import claim, main_process, note_validation, publish
from modelguard.datasets import ClipPatches, Downscale, ImageSet, Motion, VideoSet
from modelguard.errors import InputError
from modelguard.networks import RISTN, RISTNSizes, bicubic, device_of, evaluating
from modelguard.networks.ristn import FAMILY, SCALE
from modelguard.training import Backward, Objective, Optimiser, TrainConfig, fit
from modelguard.training.precision import Precision

SETTINGS = {
    "paper": RISTNSizes(),
    "skip": RISTNSizes(skip=True),
    "light": RISTNSizes(stages=((4,), (4, 4), (6, 6), (4, 6)), layers=6, growth=8, features=64, skip=True),
}
VALIDATION_SIDE = 128


class Timed(Dataset[tuple[Tensor, Tensor, float]]):
    """Clips, each with the part of training that is over when its turn comes."""

    def __init__(self, clips: ClipPatches) -> None:
        self.clips = clips

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.clips)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, float]:
        """Return (input, target) of clip `index` and a number from 0 up to 1."""
        return *self.clips[index], index / len(self)


def enlarging(net: RISTN, sparsity: float, settled: float) -> Objective:
    """Return the objective of RISTN: the mean absolute error, and the L1 norm of the fusion matrix.

    Args:
        net: whose fusion matrix it is.
        sparsity: weight of that norm, which is a sum over all entries. Batch norm follows the matrix, so its
            scale is free, and a small weight is enough.
        settled: part of training after which batch norm keeps its running statistics. A batch is a few
            scenes: what is learnt with its own statistics is not quite what evaluation uses. Fixed
            early, at the full rate, the head fell silent in a short run; not examined further.
    """

    def step(model: nn.Module, batch: Any, backward: Backward) -> dict[str, Tensor]:
        low, high, progress = batch
        model.train(float(progress.mean()) < settled)
        error = F.l1_loss(model(low), high)
        penalty = net.fusion_penalty()
        loss = error + sparsity * penalty
        backward(loss)
        return {"loss": loss, "error": error, "penalty": penalty}

    return step


def validate(net: RISTN, clips: ClipPatches) -> dict[str, float]:
    """Return the mean luma PSNR in dB of the enlarged clips, and of bicubic up-scaling."""
    device, ours, idle = device_of(net), [], []
    for number in range(len(clips)):
        low, high = clips[number]
        with evaluating(net):
            large = net(low[None].to(device))[0].cpu()
        ours.append(compare(large, high).psnr)
        idle.append(compare(bicubic(low, (high.shape[2], high.shape[3])), high).psnr)
    return {"psnr": round(sum(ours) / len(ours), 3), "bicubic": round(sum(idle) / len(idle), 3)}


def main(
    setting: Annotated[str, typer.Argument(help=f"one of {', '.join(SETTINGS)}")],
    data: Annotated[Path, typer.Option(help="folder of still photos")],
    videos: Annotated[Path | None, typer.Option(help="folder of videos to learn from as well")] = None,
    valid: Annotated[Path | None, typer.Option(help="folder of photos; default: the shipped ones")] = None,
    run: Annotated[
        Path | None, typer.Option(help="folder for checkpoints and weights; default runs/ristn-SETTING")
    ] = None,
    resume: Annotated[bool, typer.Option(help="continue from the last checkpoint")] = False,
    temporal: Annotated[bool, typer.Option(help="with the RDC-LSTM")] = True,
    steps: Annotated[int, typer.Option()] = 20_000,
    batch: Annotated[int, typer.Option()] = 8,
    side: Annotated[int, typer.Option(help="of the large frames, in pixels; a multiple of 4")] = 80,
    frames: Annotated[int, typer.Option(help="of a clip")] = 5,
    lr: Annotated[float, typer.Option(help="peak learning rate")] = 1e-3,
    optimiser: Annotated[Optimiser, typer.Option()] = "adam",
    sparsity: Annotated[float, typer.Option(help="weight of the fusion matrix's L1 norm")] = 1e-7,
    settled: Annotated[float, typer.Option(help="part of training after which batch norm stands")] = 0.8,
    checkpointing: Annotated[bool, typer.Option(help="save memory at the cost of time")] = False,
    precision: Annotated[Precision, typer.Option()] = "auto",
    every: Annotated[int, typer.Option(help="steps between checkpoints and validations")] = 500,
    seed: Annotated[int, typer.Option()] = 0,
    licence: Annotated[str, typer.Option(help="what the card shall say of the data's licence")] = "",
    name: Annotated[str, typer.Option(help="of the weights")] = "x4",
) -> None:
    """Train one net; weights and card, `log.jsonl` and `validation.jsonl` go to the run folder."""
    if setting not in SETTINGS:
        raise InputError(f"setting: there is no {setting!r}", f"choose one of {', '.join(SETTINGS)}")
    if side < SCALE or side % SCALE:
        raise InputError(f"side: {side} px is no multiple of {SCALE}", "use 96, 128 ...")
    sizes = replace(SETTINGS[setting], temporal=temporal)
    config = TrainConfig(
        steps,
        batch,
        lr,
        lr_end=lr / 100,
        seed=seed,
        precision=precision,
        checkpoint_every=every,
        optimiser=optimiser,
    )
    stills = ImageSet.from_folder(data, 3, smallest=side)
    clips = VideoSet.from_folder(videos, smallest=side).videos if videos else {}
    sources = [*(image[None] for image in stills.images), *clips.values()]
    processes, motion = int(os.environ.get("WORLD_SIZE", "1")), Motion()
    length = steps * batch * processes
    drawn = ClipPatches(sources, Downscale(SCALE), side, length, frames=frames, motion=motion, seed=seed)
    held_out = photos.load(3) if valid is None else ImageSet.from_folder(valid, 3, smallest=VALIDATION_SIDE)
    shown = [image[None] for image in held_out.images]
    fixed = ClipPatches(shown, Downscale(SCALE), VALIDATION_SIDE, 8, frames=frames, seed=2**31)
    torch.manual_seed(seed)
    net = RISTN(sizes, checkpointing=checkpointing)
    run = run or Path("runs") / f"{FAMILY}-{setting}{'' if temporal else '-still'}"
    about = {
        "setting": setting,
        "sizes": asdict(sizes),
        "training": asdict(config),
        "clips": {"side": side, "frames": frames, "motion": asdict(motion)},
        "loss": f"mean absolute error + {sparsity} * L1 norm of the fusion matrix",
        "settled": settled,
        "data": f"{len(stills)} stills of the folder {data.name} in motion, {len(clips)} videos",
        "licence": licence,
        "task": "Downscale(4): bicubic with antialias, rounded to 8 bits",
    }
    about = json.loads(json.dumps(about))  # as it will be read from the file
    claim(run, about, resume)

    def report(model: nn.Module, step: int) -> None:
        note_validation(run, {"step": step, **validate(net, fixed)})

    result = fit(
        net,
        Timed(drawn),
        enlarging(net, sparsity, settled),
        config,
        run_dir=run,
        resume=resume,
        progress=setting,
        on_checkpoint=report,
    )
    if main_process():
        about |= {"steps": result.steps, "rollbacks": list(result.rollbacks)}
        config_of = {FAMILY: asdict(sizes)}
        publish(net, f"{FAMILY}-{name}", about, lambda: validate(net, fixed), run, run, config_of)


if __name__ == "__main__":
    typer.run(main)
