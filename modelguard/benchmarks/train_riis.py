"""Train a RIIS codec: `python -m modelguard.benchmarks.train_riis SETTING --data DIR`."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss
from torch.utils.data import Dataset, Subset

from modelguard import photos
from modelguard.benchmarks.runs import claim, note_validation
from modelguard.codecs import RIIS
from modelguard.datasets import ImageSet, Patches, to_uint8
from modelguard.distortions import (
    ForwardASL,
    Jpeg,
    Noise,
    Poisson,
    PrintAndPhoto,
    Quantise,
    SimulatedJpeg,
    level_of,
)
from modelguard.errors import InputError
from modelguard.networks import evaluating
from modelguard.networks.riis import Passed, RIISNet, RIISSizes
from modelguard.training import Backward, Objective, Optimiser, TrainConfig, fit

FIRST, SECOND = "first", "second"  # folders of the stages in a run
LIGHT = RIISSizes(levels=2, growth=32, layers=3)
PAPER = RIISSizes()
TESTED: dict[str, Callable[[], nn.Module]] = {
    "clean": Quantise,
    "sigma 1": partial(Noise, 1),
    "sigma 10": partial(Noise, 10),
    "Poisson": Poisson,
    "JPEG 40": partial(Jpeg, 40),
    "JPEG 80": partial(Jpeg, 80),
    "JPEG 90": partial(Jpeg, 90),
    "photo": PrintAndPhoto,
}
"""The distortions of Tables 1 and 3, and a photo of a print; each call makes one that draws the same."""


def any_distortion() -> nn.Module:
    """Draw a kind and a level: a fifth of the pictures is only saved, the others cover Figure 9 and more."""
    kind = int(torch.multinomial(torch.tensor([0.2, 0.3, 0.15, 0.35]), 1))
    if kind == 0:
        return Quantise()
    if kind == 1:
        return Noise(float(torch.empty(()).uniform_(0.5, 12)))
    return Poisson() if kind == 2 else Jpeg(int(torch.randint(35, 97, ())))


@dataclass(frozen=True)
class Setting:
    """How many pictures a codec hides, and what is drawn for a container in training."""

    secrets: int
    draw: Callable[[], nn.Module]


SETTINGS = {
    **{f"clean-{count}": Setting(count, TESTED["clean"]) for count in (1, 5)},
    **{f"robust-{count}": Setting(count, any_distortion) for count in (1, 3, 5)},
    **{name.lower().replace(" ", "-"): Setting(1, one) for name, one in TESTED.items() if name != "clean"},
}
"""`robust` is RIIS*, one net for all levels; those named after a distortion are tuned to it alone."""


@dataclass(frozen=True)
class Weights:
    """Of the parts of the loss, eq. 9; see `losses`."""

    revealing: float = 1.0
    container: float = 16.0
    enhancement: float = 1.0
    likelihood: float = 5e-4


class Groups(Dataset[tuple[Tensor, float]]):
    """Random patches, a host and its secrets in a group, with the part of training that is over."""

    def __init__(self, images: ImageSet, secrets: int, side: int, length: int, seed: int) -> None:
        self.size, self.length = 1 + secrets, length
        self.patches = Patches(images, lambda patch, _: (patch, patch), side, length * self.size, seed)

    def __len__(self) -> int:
        """Return the number of groups."""
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, float]:
        """Return (1 + secrets, C, side, side) and a number from 0 up to 1."""
        members = range(index * self.size, (index + 1) * self.size)
        return torch.stack([self.patches[member][0] for member in members]), index / self.length


def in_training(distortion: nn.Module) -> nn.Module:
    """Return a distortion with fresh noise and a gradient: JPEG is the real one or simulated, by chance."""
    seed = int(torch.randint(2**31, ()))
    if isinstance(distortion, Noise):
        return Noise(distortion.sigma, seed)
    if isinstance(distortion, Poisson):
        return ForwardASL(Poisson(seed))
    if isinstance(distortion, Jpeg):
        simulated = SimulatedJpeg(distortion.quality, distortion.subsampling, rounding="fourier")
        return simulated if seed % 2 else ForwardASL(distortion)
    if isinstance(distortion, PrintAndPhoto):
        fresh = copy.copy(distortion)
        fresh.generator = torch.Generator().manual_seed(seed)
        return fresh
    return nn.Identity()  # saved in 8 bits like all


def each_through(distortions: Sequence[nn.Module], images: Tensor) -> Tensor:
    """Return images that are saved in 8 bits, then distorted, one by one."""
    saved = ForwardASL(Quantise())(images)
    distorted = [distortion(one[None]) for distortion, one in zip(distortions, saved, strict=True)]
    return torch.cat(distorted)


def losses(passed: Passed, host: Tensor, secrets: Tensor) -> dict[str, Tensor]:
    """Return the parts of the loss, eq. 5 to 8, unweighted.

    All norms are squared. They are summed over what belongs to one host, averaged over a batch and divided
    by the values of one picture; five secrets, then, count five times one. The Fourier term of eq. 8 equals
    its pixel term with an orthonormal transform (Parseval), so it is a factor of 2. Eq. 6 takes the restored
    container, which the text means, for the distorted one it prints. Eq. 7 is the negative log-likelihood
    of the flow in nats a value of z: the cross-entropy alone is least where z is scaled to nothing.

    Args:
        passed: what the net made.
        host: (B, 3, H, W) in [0, 1].
        secrets: (B, S, 3, H, W) in [0, 1].
    """
    count = secrets.shape[1]
    return {
        "revealing": count * mse_loss(passed.secrets, secrets) + mse_loss(passed.host, host),
        "container": 2 * mse_loss(passed.container, host),
        "enhancement": mse_loss(passed.restored, passed.container),
        "likelihood": passed.z.square().mean() / 2 - passed.log_det.mean(),
    }


def hiding(draw: Callable[[], nn.Module], weights: Weights, *, trained: bool = False) -> Objective:
    """Return the objective of a codec, eq. 9 under distortions drawn for each picture.

    The weight of the container grows thirtyfold over the first 40 % of training: secrets are learnt from
    what can be seen, and hidden better afterwards. The first 3 % are without distortion. The net that
    inspects pictures learns beside, from the same containers and from hosts distorted alike. The loss that
    is reported leaves out the likelihood: spikes are multiples of it, so it must not come near 0.

    Args:
        draw: of a distortion.
        weights: of the parts.
        trained: whether the codec hides already, and needs neither.
    """

    def step(model: nn.Module, batch: Any, backward: Backward) -> dict[str, Tensor]:
        pictures, progress = batch[0], float(batch[1].mean())
        host, secrets = pictures[:, 0], pictures[:, 1:]
        drawn = [draw() if trained or progress > 0.03 else Quantise() for _ in host]
        level = torch.stack([level_of(one) for one in drawn]).to(host.device)
        distortions = [in_training(one) for one in drawn]
        passed = model(host, secrets, lambda images: each_through(distortions, images), level)
        parts = losses(passed, host, secrets)
        grown = 1.0 if trained else 32 ** -max(0.0, 1 - progress / 0.4)
        factors = {**asdict(weights), "container": grown * weights.container}
        weighed = {name: factors[name] * value for name, value in parts.items()}
        logits = torch.cat([passed.judged[:, -1], passed.judged_host[:, -1]])
        truth = torch.cat([torch.ones(len(host)), torch.zeros(len(host))]).to(host.device)
        judging = binary_cross_entropy_with_logits(logits, truth)
        judging = judging + mse_loss(passed.judged[:, :-1], level)
        judging = judging + mse_loss(passed.judged_host[:, :-1], level)
        loss = sum(weighed.values(), 0.01 * judging)  # little, for both share the bound on the gradient
        backward(loss)
        secret = mse_loss(passed.secrets, secrets)
        return {"loss": loss - weighed["likelihood"], "secret": secret, "judging": judging, **parts}

    return step


def psnr(images: Tensor, targets: Tensor) -> float:
    """Return the mean PSNR in dB over (B, ..., H, W), after rounding both to 8 bits."""
    errors = (to_uint8(images).float() - to_uint8(targets).float()).div(255).square().flatten(1).mean(1)
    return float((-10 * torch.log10(errors.clamp_min(1e-9))).mean())


def validate(net: RIISNet, groups: Tensor, distortions: dict[str, Callable[[], nn.Module]]) -> dict[str, Any]:
    """Return PSNRs in dB of containers and revealed secrets, all rounded to 8 bits, and what is guessed.

    "secret" is told the distortion, "blind" guesses it; "guessed" are the mean level and the part of the
    pictures said to be containers, "innocent" that part of the hosts.

    Args:
        net: put in evaluation mode meanwhile.
        groups: (B, 1 + S, 3, H, W) in [0, 1], sides multiples of 8.
        distortions: by name.
    """
    rows: dict[str, Any] = {"secret": {}, "blind": {}, "guessed": {}, "innocent": {}}
    with evaluating(net):
        host, secrets = groups[:, 0], groups[:, 1:]
        container = net.hide(host, secrets)
        rows = {"container": round(psnr(container, host), 3), **rows}
        for name, make in distortions.items():
            distortion = make()
            picture = to_uint8(distortion(to_uint8(container).float() / 255)).float() / 255
            level = level_of(distortion).to(host.device).expand(len(host), -1)
            rows["secret"][name] = round(psnr(net.reveal(picture, level)[1], secrets), 3)
            guess, logit = net.inspect(picture)
            rows["blind"][name] = round(psnr(net.reveal(picture, guess)[1], secrets), 3)
            found = round(float((logit > 0).float().mean()), 4)
            rows["guessed"][name] = [*(round(one, 3) for one in guess.mean(0).tolist()), found]
            _, logit = net.inspect(to_uint8(make()(host)).float() / 255)
            rows["innocent"][name] = round(float((logit > 0).float().mean()), 4)
    return rows


def held_out(folder: Path | None, secrets: int, side: int = 128, limit: int = 8) -> Tensor:
    """Return centres of pictures to validate on, (B, 1 + secrets, 3, side, side).

    Each is the host of its successors.

    Args:
        folder: of pictures; None for the shipped photos.
        secrets: of a host.
        side: of the centres, px.
        limit: hosts at most.
    """
    images = photos.load(3) if folder is None else ImageSet.from_folder(folder, 3, smallest=side)
    centres = []
    for image in images:
        top, left = ((extent - side) // 2 for extent in image.shape[1:])
        centres.append(image[:, top : top + side, left : left + side])
    count = len(centres)
    groups = [[centres[(n + k) % count] for k in range(secrets + 1)] for n in range(min(limit, count))]
    return torch.stack([torch.stack(group) for group in groups])


def begun(start: str, secrets: int) -> RIISNet:
    """Return the net of trained weights, a name that ships or a file, that carry this many secrets."""
    codec = RIIS.from_pretrained(start)
    if codec.capacity != secrets:
        raise InputError(
            f"start: {start} carries {codec.capacity} secrets, the setting {secrets}", "choose another one"
        )
    return codec.net


def main(
    setting: Annotated[str, typer.Argument(help=f"one of {', '.join(SETTINGS)}")],
    data: Annotated[Path, typer.Option(help="folder of training images")],
    valid: Annotated[Path | None, typer.Option(help="folder of images; default: the shipped photos")] = None,
    run: Annotated[Path | None, typer.Option(help="folder of the run; default runs/riis-SETTING")] = None,
    resume: Annotated[bool, typer.Option(help="continue from the last checkpoint")] = False,
    start: Annotated[
        str | None,
        typer.Option(help="trained codec to begin from, whose sizes are kept: a name that ships, or a file"),
    ] = None,
    paper: Annotated[bool, typer.Option(help="one wavelet level, five convolutions; else light")] = False,
    steps: Annotated[int, typer.Option(help="of both stages together")] = 8000,
    batch: Annotated[int, typer.Option()] = 8,
    side: Annotated[int, typer.Option(help="of the patches, px, a multiple of 8")] = 96,
    lr: Annotated[float, typer.Option(help="peak learning rate")] = 5e-4,
    optimiser: Annotated[Optimiser, typer.Option()] = "adam",
    container: Annotated[float, typer.Option(help="weight of the container in the loss")] = 16.0,
    blocks: Annotated[int | None, typer.Option(help="flow blocks")] = None,
    growth: Annotated[int | None, typer.Option(help="of the dense sub-nets")] = None,
    layers: Annotated[int | None, typer.Option(help="convolutions of a dense sub-net")] = None,
    two_stages: Annotated[
        bool, typer.Option("--2dt/--no-2dt", help="revealing has weights of its own in the second half")
    ] = True,
    canp: Annotated[bool, typer.Option(help="content-aware noise projection")] = True,
    cem: Annotated[bool, typer.Option(help="container enhancement module")] = True,
    dgm: Annotated[bool, typer.Option(help="distortion-guided modulation")] = True,
    every: Annotated[int, typer.Option(help="steps between checkpoints and validations")] = 250,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Train one codec; weights, `log.jsonl` and `validation.jsonl` go to the run folder."""
    if setting not in SETTINGS:
        raise InputError(f"setting: there is no {setting!r}", f"choose one of {', '.join(SETTINGS)}")
    if side < 8 or side % 8:
        raise InputError(f"side: {side} px are no multiple of 8", "use 96, say")
    goal = SETTINGS[setting]
    parts = canp and cem and dgm
    torch.manual_seed(seed)
    if start is None:
        sizes = replace(
            base := PAPER if paper else LIGHT,
            secrets=goal.secrets,
            blocks=blocks or base.blocks,
            growth=growth or base.growth,
            layers=layers or base.layers,
            projection=base.projection * canp,
            enhancement=base.enhancement * cem,
            modulated=dgm,
        )
        net = RIISNet(sizes)
    else:
        if paper or blocks or growth or layers or not parts:
            raise InputError(f"start: the sizes and parts are those of {start}", "give no others")
        net = begun(start, goal.secrets)
        sizes = net.sizes
    weights = Weights(container=container)
    images = ImageSet.from_folder(data, 3, smallest=side)
    share = batch * int(os.environ.get("WORLD_SIZE", "1"))
    groups = Groups(images, goal.secrets, side, steps * share, seed)
    if start is None:
        some = torch.stack([groups[n][0] for n in range(min(16, len(groups)))])
        net.initialise(some[:, 0], some[:, 1:])
    fixed = held_out(valid, goal.secrets)
    run = run or Path("runs") / f"riis-{setting}"
    # what is decoupled already is in the second stage
    first = 0 if sizes.decoupled else steps - steps // 2 if two_stages else steps
    between = lr / 2 if two_stages else lr / 100
    config = TrainConfig(
        first,
        batch,
        lr,
        between,
        seed=seed,
        checkpoint_every=every,
        rollbacks=10,
        optimiser=optimiser,
    )
    about = {
        "setting": setting,
        "sizes": asdict(replace(sizes, decoupled=first < steps)),
        "start": start,
        "training": {**asdict(config), "steps": steps, "lr_end": lr / 100, "side": side},
        "weights": asdict(weights),
        "data": f"{len(images)} images of the folder {data.name}",
    }
    claim(run, about, resume)

    def report(model: nn.Module, step: int) -> None:
        assert isinstance(model, RIISNet)
        device = next(model.parameters()).device
        done = step + (first if model.sizes.decoupled else 0)
        note_validation(run, {"step": done, **validate(model, fixed.to(device), TESTED)})

    objective = hiding(goal.draw, weights, trained=start is not None)
    if first:
        fit(
            net,
            groups,
            objective,
            config,
            run_dir=run / FIRST,
            resume=resume,
            progress=setting,
            on_checkpoint=report,
        )
    if first < steps:
        peak = between if first else lr
        config = replace(config, steps=steps - first, lr=peak, lr_end=lr / 100, seed=seed + 1)
        fit(
            net.decoupled() if first else net,
            Subset(groups, range(first * share, steps * share)),
            objective,
            config,
            run_dir=run / SECOND,
            resume=resume,
            progress=f"{setting}, decoupled",
            on_checkpoint=report,
        )


if __name__ == "__main__":
    typer.run(main)
