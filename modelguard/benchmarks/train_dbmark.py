"""Train a DBMARK codec: `python -m modelguard.benchmarks.train_dbmark SETTING --data DIR`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, nn
from torch.utils.data import Dataset

from modelguard import photos
from modelguard.benchmarks.runs import claim, note_validation
from modelguard.codecs import DBMark
from modelguard.datasets import ImageSet, Patches, Thumbnail, to_uint8
from modelguard.distortions import (
    AgainstCover,
    Blur,
    CropMasked,
    Cropout,
    Dropout,
    ForwardASL,
    Grey,
    Jpeg,
    Quantise,
    Resize,
    SimulatedJpeg,
)
from modelguard.errors import InputError
from modelguard.networks import evaluating
from modelguard.networks.dbmark import DBMarkNet, DBMarkSizes
from modelguard.training import Backward, Objective, Optimiser, TrainConfig, fit

# Table 3 of the paper; the parts are areas, and the crop keeps the size
COMBINED: dict[str, nn.Module] = {
    "identity": nn.Identity(),
    "cropout .3": Cropout(0.3),
    "dropout .3": Dropout(0.3),
    "crop .035": CropMasked(0.035),
    "blur 2": Blur(2.0, kernel=7),
    "jpeg 50": ForwardASL(Jpeg(50)),
}
LIGHT = DBMarkSizes(levels=2, blocks=4, growth=16, layers=3, width=32, se_blocks=2)
PAPER = DBMarkSizes()


@dataclass(frozen=True)
class Setting:
    """What a codec carries, at which PSNR in dB, and what it is to survive; a batch sees one distortion.

    `more` are drawn in training too: JPEG is learnt last, and drawn once in six batches it was lost again.
    """

    bits: int
    psnr: float
    tile: int
    distortions: dict[str, nn.Module]
    more: tuple[nn.Module, ...] = (SimulatedJpeg(50), SimulatedJpeg(50), COMBINED["jpeg 50"])


SETTINGS = {
    "jpeg-64": Setting(64, 40.0, 32, {"jpeg 50": COMBINED["jpeg 50"]}),
    "combined-30": Setting(30, 35.0, 16, COMBINED),
    "robust-128": Setting(128, 34.0, 32, {**COMBINED, "resize .5": ForwardASL(Resize(0.5)), "grey": Grey()}),
}


def setting_of(name: str) -> Setting:
    """Return the setting of this name; raises InputError if there is none."""
    if name not in SETTINGS:
        raise InputError(f"setting: there is no {name!r}", f"choose one of {', '.join(SETTINGS)}")
    return SETTINGS[name]


class Covers(Dataset[tuple[Tensor, float]]):
    """Thumbnails, each with the part of training that is over when its turn comes."""

    def __init__(self, images: ImageSet, side: int, length: int, seed: int) -> None:
        self.patches = Patches(
            images, Thumbnail(side), min(min(i.shape[1:]) for i in images.images), length, seed
        )

    def __len__(self) -> int:
        """Return the number of thumbnails."""
        return len(self.patches)

    def __getitem__(self, index: int) -> tuple[Tensor, float]:
        """Return (C, side, side) and a number from 0 up to 1."""
        return self.patches[index][0], index / len(self)


def through(distortion: nn.Module, marked: Tensor, cover: Tensor) -> Tensor:
    """Return what becomes of a marked image that is saved in 8 bits, then distorted."""
    saved = ForwardASL(Quantise())(marked)
    distorted: Tensor = (
        distortion(saved, cover) if isinstance(distortion, AgainstCover) else distortion(saved)
    )
    return distorted


def hiding(
    bits: int, distortions: Iterable[nn.Module], psnr: float, start: float = 22.0, weight: float = 0.1
) -> Objective:
    """Return the objective of a codec: the squared error of the bits, with a bound on that of the image.

    The paper weighs the two errors by .1 and 100 and leaves open whether they are sums or means, a factor of
    1600. A bound needs no such weight: the image costs nothing up to it, and much beyond. It begins loose,
    because bits are learnt from a mark that can be seen (published trainers raise the weight of the bits in
    their first epochs), and tightens to `psnr` over the first 60 % of training.

    Args:
        bits: of a payload; each is drawn anew, uniformly.
        distortions: one is drawn a batch.
        psnr: of the marked image at the end, in dB.
        start: at the beginning, in dB.
        weight: of the part by which the image's error is over its bound.
    """
    kinds = list(distortions)

    def step(model: nn.Module, batch: Any, backward: Backward) -> dict[str, Tensor]:
        cover, progress = batch[0], float(batch[1].mean())
        kind = kinds[int(torch.randint(len(kinds), ()))] if progress > 0.04 else nn.Identity()
        payload = torch.randint(0, 2, (len(cover), bits)).to(cover.device)
        kind = kind.to(cover.device)
        marked, soft = model(cover, payload, lambda marked, cover: through(kind, marked, cover))
        message = (
            nn.functional.mse_loss(soft, 2 * payload.float() - 1) / 4
        )  # bits of 0 and 1, as in the paper
        image = nn.functional.mse_loss(marked, cover)
        bound = 10 ** (-(start + (psnr - start) * min(1.0, progress / 0.6)) / 10)
        loss = message + weight * torch.relu(image / bound - 1)
        backward(loss)
        wrong = ((soft > 0) != payload.bool()).float().mean()
        return {"loss": loss, "message": message, "image": image, "wrong": wrong}

    return step


def validate(
    net: DBMarkNet, images: Tensor, distortions: dict[str, nn.Module], payloads: int = 4
) -> dict[str, Any]:
    """Return PSNR in dB after rounding to 8 bits, and the bit error rate after each distortion.

    Args:
        net: put in evaluation mode meanwhile.
        images: (B, 3, side, side) in [0, 1].
        distortions: by name.
        payloads: random messages an image.
    """
    generator = torch.Generator().manual_seed(0)
    squares, errors = torch.zeros(len(images)), dict.fromkeys(distortions, 0.0)
    with evaluating(net), torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(payloads):
            bits = torch.randint(0, 2, (len(images), net.sizes.bits), generator=generator).to(images.device)
            marked = net.embed(images, bits)
            squares += (to_uint8(marked).float() / 255 - images).pow(2).mean((1, 2, 3)).cpu()
            for name, distortion in distortions.items():
                soft = net.extract(through(distortion, marked, images))
                errors[name] += float(((soft > 0) != bits.bool()).float().mean())
    psnr = float((-10 * torch.log10(squares / payloads)).mean())
    return {"psnr": round(psnr, 3), **{name: round(value / payloads, 6) for name, value in errors.items()}}


def held_out(folder: Path | None, side: int) -> Tensor:
    """Return thumbnails to validate on, of a folder or of the shipped photos, (B, 3, side, side)."""
    images = photos.load(3) if folder is None else ImageSet.from_folder(folder, 3, smallest=side)
    shrink = Thumbnail(side)
    return torch.stack([shrink(image, torch.Generator().manual_seed(0))[0] for image in images])


def begin_from(net: DBMarkNet, other: DBMarkNet) -> None:
    """Copy what fits from a trained net, all but the layers that depend on the length of the message.

    Raises:
        InputError: the invertible blocks differ.
    """
    own, given = net.state_dict(), other.state_dict()
    fitting = {name: value for name, value in given.items() if own[name].shape == value.shape}
    if not {name for name in own if name.startswith("blocks.")} <= fitting.keys():
        raise InputError(
            f"start: blocks of {other.sizes} do not fit {net.sizes}", "train with the same sizes"
        )
    net.load_state_dict(fitting, strict=False)


def main(
    setting: Annotated[str, typer.Argument(help=f"one of {', '.join(SETTINGS)}")],
    data: Annotated[Path, typer.Option(help="folder of training images")],
    valid: Annotated[Path | None, typer.Option(help="folder of images; default: the shipped photos")] = None,
    run: Annotated[
        Path | None, typer.Option(help="folder for checkpoints; default runs/dbmark-SETTING")
    ] = None,
    resume: Annotated[bool, typer.Option(help="continue from the last checkpoint")] = False,
    start: Annotated[
        str | None, typer.Option(help="trained codec to begin from, at 30 dB: a name that ships, or a file")
    ] = None,
    paper: Annotated[bool, typer.Option(help="16 blocks of the published sizes; else 4 light ones")] = False,
    steps: Annotated[int, typer.Option()] = 7000,
    batch: Annotated[int, typer.Option()] = 8,
    lr: Annotated[float, typer.Option(help="peak learning rate")] = 1e-3,
    optimiser: Annotated[Optimiser, typer.Option()] = "adam",
    psnr: Annotated[float | None, typer.Option(help="to be reached, in dB, instead of the setting's")] = None,
    blocks: Annotated[int | None, typer.Option(help="invertible blocks")] = None,
    growth: Annotated[int | None, typer.Option(help="of the dense sub-nets")] = None,
    layers: Annotated[int | None, typer.Option(help="convolutions of a dense sub-net")] = None,
    width: Annotated[int | None, typer.Option(help="of the message processors")] = None,
    side: Annotated[int | None, typer.Option(help="of the net's square, in pixels")] = None,
    tile: Annotated[int | None, typer.Option(help="side of the repeated message, in pixels")] = None,
    every: Annotated[int, typer.Option(help="steps between checkpoints and validations")] = 200,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Train one codec; weights, `log.jsonl` and `validation.jsonl` go to the run folder."""
    goal = setting_of(setting)
    asked = {"blocks": blocks, "growth": growth, "layers": layers, "width": width, "side": side}
    changed = {name: value for name, value in asked.items() if value is not None}
    sizes = replace(PAPER if paper else LIGHT, bits=goal.bits, tile=tile or goal.tile, **changed)
    # Rates of different distortions differ a hundredfold; what explodes does so by a million.
    config = TrainConfig(
        steps,
        batch,
        lr,
        lr_end=lr / 100,
        seed=seed,
        checkpoint_every=every,
        spike=1000.0,
        rollbacks=10,
        optimiser=optimiser,
    )
    torch.manual_seed(seed)
    net = DBMarkNet(sizes)
    if start is not None:
        begin_from(net, DBMark.from_pretrained(start).net)
    images = ImageSet.from_folder(data, 3, smallest=sizes.side)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    covers = Covers(images, sizes.side, steps * batch * processes, seed)
    fixed = held_out(valid, sizes.side)
    run = run or Path("runs") / f"dbmark-{setting}"
    about = {
        "setting": setting,
        "sizes": asdict(sizes),
        "training": asdict(config),
        "start": start,
        "psnr": psnr or goal.psnr,
        "data": f"{len(images)} images of the folder {data.name}",
    }
    claim(run, about, resume)

    def report(model: nn.Module, step: int) -> None:
        assert isinstance(model, DBMarkNet)
        device = next(model.parameters()).device
        note_validation(run, {"step": step, **validate(model, fixed.to(device), goal.distortions)})

    kinds = [*goal.distortions.values(), *goal.more]
    objective = hiding(goal.bits, kinds, psnr or goal.psnr, 22.0 if start is None else 30.0)
    fit(net, covers, objective, config, run_dir=run, resume=resume, progress=setting, on_checkpoint=report)


if __name__ == "__main__":
    typer.run(main)
