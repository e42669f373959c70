"""Train the paper's barrier (Zhang et al., TPAMI 2022) at a size the machine allows, and measure it.

    export MODELGUARD_PASSPHRASE=...   # R is kept encrypted in the run folder
    modelguard bench train_logo_barrier --data photos/ --tests Kodak24/ --run runs/logo --resume

It marks ground truth, as the paper does; `--host dncnn` or `--host median` marks that host's outputs instead.
The paper's other rows: `--marks 10` for several logos in one pair, `--refine-steps 0` for no adversarial
stage, `--extracting 0.1` for its lambda, `--logo-side 32` for small logos, `--thief cnet-32:l2` for a column
of its Table 2, read before and after the adversarial stage. `--innocents 2` shows R
innocent networks too, which the paper does not. Against overwriting, first train
`--marks 90 --refine-steps 0 --run runs/rival`, then give `--overwriter runs/rival/embedder.safetensors`;
`--attacker` is the embedder of a thief who overwrites in the test. Ctrl-C and `--resume` lose nothing.
A step of the initial stage costs about 1.3 s of a CPU core in bf16, and a quarter of it with `--side 64`.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
import typer
from safetensors.torch import load_file
from torch import Tensor, nn
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from modelguard import networks
from modelguard.attacks import Surrogate
from modelguard.benchmarks import logos, record
from modelguard.benchmarks.surrogates import attack_of
from modelguard.datasets import GaussianNoise, ImagePairs, ImageSet, PairDraws, mixed_seed, to_uint8
from modelguard.evidence import resolve_passphrase
from modelguard.networks import UNet
from modelguard.schemes import logo_training
from modelguard.schemes.logo_barrier import LIGHT, PAPER, Embedder, Extractor, Host, answer
from modelguard.schemes.logo_score import score
from modelguard.schemes.logo_stages import Weights, imitate
from modelguard.schemes.logo_training import LogoTraining, Trained
from modelguard.training import Optimiser, fit
from modelguard.training.losses import Features
from modelguard.training.precision import Precision

WRONG = 10_000
"""Seed of the logo that nobody embeds."""


HostName = Literal["truth", "dncnn", "median"]


def median(image: Tensor, side: int = 5) -> Tensor:
    """Return (B, C, H, W) after a median filter, a denoiser without weights."""
    around = F.pad(image, [side // 2] * 4, mode="reflect").unfold(2, side, 1).unfold(3, side, 1)
    return around.flatten(-2).median(-1).values


def host_of(name: HostName) -> Host | None:
    """Return the host, or None where ground truth is marked."""
    if name == "truth":
        return None
    return median if name == "median" else networks.dncnn(pretrained="denoise-25")


def compare(images: ImageSet, others: ImageSet) -> tuple[float, float]:
    """Return the mean PSNR (dB) and SSIM between 8-bit images."""
    psnr, ssim = 0.0, 0.0
    for one, other in zip(images, others, strict=True):
        psnr += float(peak_signal_noise_ratio(one[None], other[None], data_range=1.0))
        ssim += float(structural_similarity_index_measure(one[None], other[None], data_range=1.0))  # type: ignore[arg-type]
    return psnr / len(images), ssim / len(images)


def middle(images: ImageSet, side: int) -> ImageSet:
    """Return the middle square of each image."""
    cut = []
    for image in images.images:
        top, left = (image.shape[1] - side) // 2, (image.shape[2] - side) // 2
        cut.append(image[:, top : top + side, left : left + side])
    return ImageSet(tuple(cut))


class Measure:
    """Scores and qualities of one trained pair on test photos, the middle square of each."""

    def __init__(
        self,
        trained: Trained,
        before: Extractor | None,
        photos: ImageSet,
        task: GaussianNoise,
        host: Host | None,
        side: int,
    ) -> None:
        self.trained, self.before, self.task, self.host = trained, before, task, host
        logo = trained.embedder.logos
        self.wrong = logos.draw(WRONG, min(logo.shape[-2:]), logo.shape[1])
        self.whole, self.clean = photos, middle(photos, side)
        self.inputs = self.degraded(self.clean)
        self.outputs = self.clean if host is None else self.asked(host, self.inputs)
        self.rows: list[dict[str, Any]] = []

    def degraded(self, clean: ImageSet) -> ImageSet:
        """Return the 8-bit inputs, domain A."""
        draws = (torch.Generator().manual_seed(mixed_seed(1, number)) for number in range(len(clean)))
        noisy = (self.task(*pair)[0] for pair in zip(clean, draws, strict=True))
        return ImageSet(tuple(to_uint8(image) for image in noisy))

    def asked(self, host: Host, inputs: ImageSet) -> ImageSet:
        """Return the 8-bit answers of a host."""
        channels = self.trained.embedder.channels
        return ImageSet.of([answer(host, image[None], channels)[0] for image in inputs])

    def add(self, case: str, images: ImageSet, like: ImageSet, clean: ImageSet, mark: int = 0) -> None:
        """Score `images`, which stand for those in `like`; `clean` are the photos behind them."""
        psnr, ssim = compare(images, like)
        quality = {"psnr": psnr, "ssim": ssim, "psnr_to_photo": compare(images, clean)[0]}
        # infinite for equal images, which JSON cannot hold
        written = {name: value if value < float("inf") else None for name, value in quality.items()}
        embedder = self.trained.embedder
        scores = asdict(score(self.trained.extractor, embedder, images, self.wrong, mark))
        earlier = None
        if self.before is None:
            scores["sr_c"] = None  # C is trained in the adversarial stage only
        else:
            whole = asdict(score(self.before, embedder, images, self.wrong, mark))
            earlier = {name: whole[name] for name in ("nc", "centred_nc", "sr_nc", "sr_centred")}
        self.rows.append({"case": case, "mark": mark, **scores, "before_refining": earlier, **written})

    def run(
        self,
        innocents: Mapping[str, nn.Module],
        attacker: Embedder | None,
        thieves: Mapping[str, nn.Module],
    ) -> None:
        """Measure every case."""
        embedder = self.trained.embedder
        for mark in range(len(embedder.logos)):
            marked = embedder.mark(self.outputs, mark)
            self.add("own outputs", marked, self.outputs, self.clean, mark)
            for proxy in self.trained.proxies[mark : mark + 1]:
                self.add("proxy surrogate", self.asked(proxy, self.inputs), marked, self.clean, mark)
            if attacker is not None:
                self.add("overwritten", attacker.mark(marked), marked, self.clean, mark)
            for thief, net in thieves.items() if mark == 0 else ():
                self.add(thief, self.asked(net, self.inputs), marked, self.clean)
        self.add("inputs", self.inputs, self.inputs, self.clean)
        self.add("unmarked outputs", self.outputs, self.outputs, self.clean)
        for name, net in innocents.items():
            self.add(name, self.asked(net, self.inputs), self.outputs, self.clean)
        outputs = self.whole if self.host is None else self.asked(self.host, self.degraded(self.whole))
        self.add("own outputs, whole photos", embedder.mark(outputs), outputs, self.whole)
        self.add("unmarked outputs, whole photos", outputs, outputs, self.whole)


def train_innocent(config: LogoTraining, channels: int, run: Path, resume: bool) -> nn.Module:
    """Return a surrogate like the proxies, trained in the same way on the same pairs without a mark."""
    kept = load_file(run / "pairs.safetensors")
    with torch.random.fork_rng():
        torch.manual_seed(config.seed + 1)
        net = UNet(channels, channels, config.sizes.levels, config.sizes.width)
    (run / "innocent").mkdir(exist_ok=True)
    pairs = ImagePairs(tuple(kept["inputs"]), tuple(kept["targets"]))
    fit(
        net.train(),
        PairDraws(pairs, 2**31, config.seed + 1),
        imitate(None),
        config.proxy,
        run_dir=run / "innocent",
        resume=resume,
        progress="innocent",
    )
    return net.eval()


def unrefined(trained: Trained, run: Path) -> Extractor | None:
    """Return R as it was before the adversarial stage; None if there was no such stage."""
    if "adversarial" not in trained.results:
        return None
    kept, prefix = load_file(run / "initial" / "checkpoint.safetensors"), "model.reader."
    before = deepcopy(trained.extractor)
    before.net.load_state_dict(
        {name.removeprefix(prefix): value for name, value in kept.items() if name.startswith(prefix)}
    )
    return before


def train_thieves(
    attacks: Mapping[str, Surrogate], embedder: Embedder | None, run: Path, resume: bool
) -> dict[str, nn.Module]:
    """Return networks by what the tables call them: thieves, or without H innocents.

    Thieves learnt the first logo's marked images, innocents the unmarked ones.
    """
    if not attacks:
        return {}
    kept = load_file(run / "pairs.safetensors")
    targets = ImageSet(tuple(kept["targets"]))
    pairs = ImagePairs(
        tuple(kept["inputs"]), targets.images if embedder is None else embedder.mark(targets).images
    )
    trained = {}
    for name, attack in attacks.items():
        kind = "innocent" if embedder is None else "thief"
        folder = run / f"{kind}-{name.replace(':', '-')}-{attack.steps}"
        folder.mkdir(exist_ok=True)
        trained[name.replace(":", ", ")] = attack.train(pairs, run_dir=folder, resume=resume).model
    return trained


def keep(path: Path, trained: Trained, passphrase: str) -> None:
    """Write H and, encrypted, R to the run folder, unless an earlier call has."""
    if not (path / "embedder.safetensors").exists():
        trained.embedder.save(path / "embedder.safetensors")
    if not (path / "extractor.sealed").exists():
        trained.extractor.save(path / "extractor.sealed", passphrase)


def main(
    data: Annotated[Path, typer.Option(help="folder of training photos")],
    tests: Annotated[Path, typer.Option(help="folder of test photos")],
    run: Annotated[Path, typer.Option(help="folder for checkpoints, H and R")],
    resume: Annotated[bool, typer.Option(help="go on with the run in that folder")] = False,
    host: Annotated[HostName, typer.Option(help="whose outputs are marked")] = "truth",
    sizes: Annotated[
        Literal["light", "paper", "adding"],
        typer.Option(help="of the networks; adding: light, and H adds to the image"),
    ] = "light",
    side: Annotated[int, typer.Option(help="of the training patches, px; the paper has 256")] = 128,
    logo_side: Annotated[int | None, typer.Option(help="of the logos, px; default the patch")] = None,
    channels: Annotated[int, typer.Option(help="of the images: 1 or 3")] = 1,
    logo_channels: Annotated[int, typer.Option(help="of the logos: 1 or 3")] = 1,
    marks: Annotated[int, typer.Option(help="number of logos")] = 1,
    sigma: Annotated[float, typer.Option(help="noise that the hosts remove, in grey levels")] = 25.0,
    pairs: Annotated[int, typer.Option(help="training patches; the paper has 6,000")] = 2000,
    steps: Annotated[int, typer.Option(help="of the initial stage")] = 8_000,
    proxy_steps: Annotated[int, typer.Option(help="of each proxy and of the innocent surrogate")] = 4_000,
    refine_steps: Annotated[int, typer.Option(help="of the adversarial stage")] = 2_000,
    batch: Annotated[int, typer.Option(help="images a step; the paper has 8")] = 4,
    lr: Annotated[float, typer.Option(help="peak learning rate; the paper has 2e-4")] = 1e-3,
    innocents: Annotated[
        int, typer.Option(help="surrogates without a mark in the adversarial stage; the paper has 0")
    ] = 0,
    ramp: Annotated[
        int, typer.Option(help="steps over which the embedding loss grows; the paper has 0")
    ] = 3_000,
    extracting: Annotated[float, typer.Option(help="lambda of eq. 4")] = 1.0,
    fooling: Annotated[
        float, typer.Option(help="weight of the adversarial loss; the paper's code has 1e-6")
    ] = 0.01,
    features: Annotated[Features, typer.Option(help="of the perceptual loss")] = "gradients",
    optimiser: Annotated[Optimiser, typer.Option(help="of stages and thieves; the paper has adam")] = "adam",
    precision: Annotated[Precision, typer.Option(help="of the arithmetic")] = "auto",
    overwriter: Annotated[Path | None, typer.Option(help="H that marks again in training")] = None,
    attacker: Annotated[Path | None, typer.Option(help="H that marks again in the test")] = None,
    thief: Annotated[
        list[str] | None, typer.Option(help="trained on marked images: NETWORK[:LOSS[:AUGMENTATION[:SHARE]]]")
    ] = None,
    innocent: Annotated[
        list[str] | None, typer.Option(help="named likewise, trained on unmarked images")
    ] = None,
    thief_steps: Annotated[int, typer.Option(help="of each thief and innocent, with batches of 8")] = 2_000,
    seed: Annotated[int, typer.Option(help="of everything random, logos too")] = 0,
    name: Annotated[str, typer.Option(help="of the result: logo_barrier-NAME.json")] = "grey",
    out: record.Out = Path("docs/results"),
) -> None:
    """Train, keep H and R in the run folder, and write docs/results/logo_barrier-NAME.json."""
    passphrase = resolve_passphrase(None, confirm=True)  # now, and not after hours
    make = partial(attack_of, steps=thief_steps, patch=side, lr=lr, optimiser=optimiser)
    guilty, clean = ({one: make(one) for one in names or ()} for names in (thief, innocent))
    in_training, in_test = (None if path is None else Embedder.load(path) for path in (overwriter, attacker))
    photos, exams = (ImageSet.from_folder(folder, channels, smallest=side) for folder in (data, tests))
    stage = partial(
        logo_training.stage_config,
        batch=batch,
        lr=lr,
        warmup=200,
        checkpoint_every=200,
        precision=precision,
        optimiser=optimiser,
    )
    config = LogoTraining(
        size=side,
        pairs=pairs,
        sizes={"light": LIGHT, "paper": PAPER, "adding": replace(LIGHT, adding=True)}[sizes],
        initial=stage(steps=steps),
        proxy=stage(steps=proxy_steps),
        adversarial=stage(steps=refine_steps),
        weights=Weights(extracting=extracting, adversarial=fooling),
        features=features,
        innocents=innocents,
        ramp=ramp,
        seed=seed,
    )
    drawn = [logos.draw(seed * 100 + number, logo_side or side, logo_channels) for number in range(marks)]
    task, model = GaussianNoise(sigma), host_of(host)
    trained = logo_training.train(
        drawn,
        photos,
        task,
        config,
        host=model,
        overwriter=in_training,
        run_dir=run,
        resume=resume,
        progress=name,
    )
    keep(run, trained, passphrase)
    thieves = train_thieves(guilty, trained.embedder, run, resume)
    others = {f"{named}, innocent": net for named, net in train_thieves(clean, None, run, resume).items()}
    unmarked = {"innocent surrogate": train_innocent(config, channels, run, resume), **others}
    measure = Measure(trained, unrefined(trained, run), exams, task, model, side)
    measure.run(unmarked, in_test, thieves)
    content = {
        "config": asdict(config),
        "host": host,
        "photos": len(photos),
        "pair": trained.embedder.pair,
        "losses": {stage: result.scalars for stage, result in trained.results.items()},
        "rollbacks": {stage: list(result.rollbacks) for stage, result in trained.results.items()},
        "cases": measure.rows,
    }
    notes = (
        "psnr and ssim: to what the images stand for, after rounding; nc above 0.95 is the paper's success"
    )
    record.write(f"logo_barrier-{name}", out, content, seed=seed, notes=notes)


if __name__ == "__main__":
    typer.run(main)
