"""How a pair of `logo_barrier` is trained: initial stage, proxy surrogates, adversarial stage."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from modelguard._files import atomic_write_bytes
from modelguard.datasets import ImagePairs, ImageSet, PairDraws, Patches, Task, to_uint8
from modelguard.errors import InputError, check_counts
from modelguard.networks import PatchGAN, UNet
from modelguard.schemes.logo_barrier import PAPER, Embedder, Extractor, Host, Sizes, answer, identify, stack
from modelguard.schemes.logo_stages import Adversarial, Initial, Weights, imitate, total
from modelguard.training import Objective, TrainConfig, TrainResult, fit
from modelguard.training.losses import Features, Perceptual
from modelguard.weights import dump_state

stage_config = partial(TrainConfig, spike=1e9)
"""Settings of a stage. Spikes are not rolled back: a picture in which R fails is what there is to learn."""


@dataclass(frozen=True)
class LogoTraining:
    """The whole configuration. The defaults are the paper's lengths: 200, 300 and 200 epochs of 6,000 pairs.

    The learning rate falls by a cosine, not on plateaus.

    Args:
        size: side of the training patches; the logo may not be larger.
        pairs: how many patches there are.
        sizes: of the networks.
        initial: of H, R and D together.
        proxy: of each proxy surrogate, a U-Net like H trained with L2 on marked pairs.
        adversarial: of R, refined on A, B, B' and B'', and of C. Without steps there are no proxies either,
            and C is not trained: enough for an `overwriter`, and for the paper's rows without this stage.
        weights: of the losses.
        features: of the perceptual loss, see `modelguard.training.losses.Perceptual`.
        innocents: surrogates of unmarked pairs that R is shown, as clean ones, in the adversarial stage. The
            paper has none (0); R may then see the logo in whatever a network makes.
        ramp: steps over which the embedding loss grows from nothing. The paper has none (0); in short runs
            R otherwise settles on half the logo for every image, and H is never used.
        seed: of patches, draws and initial weights; each stage has a seed of its own for its draws.
    """

    size: int = 256
    pairs: int = 6000
    sizes: Sizes = PAPER
    initial: TrainConfig = field(default_factory=partial(stage_config, steps=150_000, batch=8, lr=2e-4))
    proxy: TrainConfig = field(default_factory=partial(stage_config, steps=112_500, batch=16, lr=1e-4))
    adversarial: TrainConfig = field(default_factory=partial(stage_config, steps=150_000, batch=8, lr=1e-4))
    weights: Weights = field(default_factory=Weights)
    features: Features = "vgg16"
    innocents: int = 0
    ramp: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        check_counts(size=self.size, pairs=self.pairs)
        for name, count in (("innocents", self.innocents), ("ramp", self.ramp)):
            if count < 0:
                raise InputError(f"{name}: {count} is negative", "use 0 or more")


@dataclass(frozen=True)
class Trained:
    """What training gives: H to deploy, R to keep secret, and what it was trained with.

    Attributes:
        embedder: H.
        extractor: R and C.
        proxies: the proxy surrogate of each logo, for measuring.
        results: of the stages, by name.
    """

    embedder: Embedder
    extractor: Extractor
    proxies: Sequence[nn.Module]
    results: dict[str, TrainResult] = field(repr=False)


def train(
    logos: Sequence[Tensor],
    images: ImageSet,
    task: Task,
    config: LogoTraining,
    *,
    host: Host | None = None,
    overwriter: Embedder | None = None,
    run_dir: str | Path | None = None,
    resume: bool = False,
    progress: str | None = None,
) -> Trained:
    """Train H and R for one logo, or for several that one pair hides and tells apart (section 3.4.5).

    Args:
        logos: (L, h, w) in [0, 1], all grey or all colour; smaller ones are padded with white.
        images: clean photos, cut into `config.pairs` random patches.
        task: makes domain A from them.
        config: see `LogoTraining`.
        host: whose outputs are domain B: a module, or any function. None makes the clean patches themselves
            domain B, which is what the paper does, and what protects data.
        overwriter: H of another pair, trained with many logos, that marks marked images again in training
            (section 4.5); R must still find ours there, and nothing where only theirs is.
        run_dir: folder for the pairs and checkpoints of this run. The checkpoints hold R in the clear: nobody
            else may enter the folder, and it is to be deleted once R is saved.
        resume: go on with the run in `run_dir`; the result is that of an uninterrupted one.
        progress: label of the progress bars; None for silence.

    Raises:
        InputError: a logo or `size` does not fit, or `run_dir` holds another run.
        ModelContractError: the host's answers are no images.
        WeightsError: `features` needs weights that are not at hand.
        TrainingDivergedError: as `modelguard.training.fit`.
    """
    marks, channels = stack(logos), images.images[0].shape[0]
    if config.size < 32:
        raise InputError(f"size: patches of {config.size} px are too small for D", "use 32 px or more")
    if max(marks.shape[-2:]) > config.size:
        raise InputError(
            f"logos: {marks.shape[-2]} x {marks.shape[-1]} px are larger than the patches of {config.size}",
            "use a smaller logo or larger patches",
        )
    rival = None if overwriter is None else _rival(overwriter, channels, config.size)
    perceptual = Perceptual(config.features)
    settings = {
        "config": asdict(config),
        "logos": _digest(marks),
        "images": _digest(*images.images),
        "task": repr(task),
        "marked": "ground truth" if host is None else f"outputs of {_name(host)}",
        "overwriter": rival and rival.pair,
    }
    folder = None if run_dir is None else Path(run_dir)
    _claim(folder, resume, settings)
    inputs, targets = _pairs(images, task, config, host, channels, folder)
    pairs = ImagePairs(tuple(inputs), tuple(targets))
    results: dict[str, TrainResult] = {}

    def stage(name: str, model: nn.Module, objective: Objective, training: TrainConfig) -> None:
        seed = config.seed + 1 + len(results)
        results[name] = fit(
            model.train(),
            PairDraws(pairs, 2**31, seed),
            objective,
            replace(training, seed=seed),
            run_dir=_below(folder, name),
            resume=resume,
            progress=progress and f"{progress}: {name}",
        )

    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        embedder = Embedder(marks, channels, config.sizes)
        extractor = Extractor(channels, marks.shape[1], len(marks), config.sizes)
        judge = PatchGAN(channels, config.sizes.discriminator)
        needed = len(marks) + config.innocents if config.adversarial.steps else 0
        surrogates = [
            UNet(channels, channels, config.sizes.levels, config.sizes.width) for _ in range(needed)
        ]
        proxies, innocents = surrogates[: len(marks)], surrogates[len(marks) :]
    first = Initial(embedder, extractor.net, judge, perceptual, rival, config.weights, config.ramp)
    stage("initial", first, total, config.initial)
    _freeze(embedder)
    for number, proxy in enumerate(proxies):
        stage(f"proxy-{number}", proxy, imitate(embedder, number), config.proxy)
        _freeze(proxy)
    for number, innocent in enumerate(innocents):
        stage(f"innocent-{number}", innocent, imitate(None), config.proxy)
        _freeze(innocent)
    if config.adversarial.steps:
        second = Adversarial(embedder, extractor, proxies, innocents, rival, config.weights)
        stage("adversarial", second, total, config.adversarial)
    identify(embedder, extractor.eval())
    return Trained(embedder, extractor, proxies, results)


def _freeze(net: nn.Module) -> None:
    net.eval().requires_grad_(False)
    if torch.distributed.is_initialized():  # the last step left each process its own batch statistics
        for buffer in net.buffers():
            torch.distributed.broadcast(buffer, 0)


def _rival(overwriter: Embedder, channels: int, size: int) -> Embedder:
    if overwriter.channels != channels:
        raise InputError(
            f"overwriter: it marks images of {overwriter.channels} channels, these have {channels}",
            "train it on such images",
        )
    overwriter.logo(0, size, size)
    rival = deepcopy(overwriter)
    _freeze(rival)
    return rival


def _pairs(
    images: ImageSet, task: Task, config: LogoTraining, host: Host | None, channels: int, run_dir: Path | None
) -> tuple[Tensor, Tensor]:
    """Return domains A and B as uint8, kept in the run folder: a slow host is asked once."""
    kept = run_dir / "pairs.safetensors" if run_dir is not None else None
    if kept is not None and kept.is_file():
        tensors = load_file(kept)
        return tensors["inputs"], tensors["targets"]
    patches = Patches(images, task, config.size, config.pairs, config.seed)
    drawn = [tuple(map(to_uint8, patches[number])) for number in range(config.pairs)]
    inputs, targets = (torch.stack(domain) for domain in zip(*drawn, strict=True))
    if host is not None:
        replies = [to_uint8(answer(host, some.float() / 255, channels)) for some in torch.split(inputs, 8)]
        targets = torch.cat(replies)
    if kept is not None and _first_process():
        atomic_write_bytes(kept, save({"inputs": inputs, "targets": targets}), overwrite=True)
    return inputs, targets


def _claim(run_dir: Path | None, resume: bool, settings: dict[str, Any]) -> None:
    """Write down what is trained in `run_dir`, or check that it is what was begun there."""
    if run_dir is None or not _first_process():
        return
    run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    path, text = run_dir / "settings.json", json.dumps(settings, indent=1)
    if not path.exists():
        atomic_write_bytes(path, text.encode())
    elif not resume:
        raise InputError(f"run_dir: {run_dir} holds a run already", "resume it, or choose another folder")
    elif path.read_text() != text:
        raise InputError(
            f"run_dir: {run_dir} holds a run of other settings, logos, images or host",
            "resume with those in settings.json there, or choose another folder",
        )


def _first_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _below(run_dir: Path | None, name: str) -> Path | None:
    if run_dir is None:
        return None
    (run_dir / name).mkdir(mode=0o700, parents=True, exist_ok=True)  # R is in there
    return run_dir / name


def _name(host: Host) -> str:
    """Return what tells a host from others: a module's weights, or the name of a function."""
    if isinstance(host, nn.Module):
        return f"{type(host).__name__} {hashlib.sha256(dump_state(host)).hexdigest()}"
    return str(getattr(host, "__qualname__", type(host).__name__))


def _digest(*images: Tensor) -> str:
    digest = hashlib.sha256()
    for image in images:
        digest.update(repr(tuple(image.shape)).encode() + image.numpy().tobytes())
    return digest.hexdigest()
