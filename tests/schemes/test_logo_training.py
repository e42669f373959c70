"""Training of the paper's barrier: what is learnt, from what, and that a run can be resumed exactly."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from modelguard.datasets import Downscale, GaussianNoise, ImageSet
from modelguard.errors import InputError, ModelContractError, WeightsError
from modelguard.networks import DnCNN
from modelguard.schemes import logo_training
from modelguard.schemes.logo_barrier import Embedder, Sizes, protect, stack
from modelguard.schemes.logo_score import score
from modelguard.schemes.logo_stages import Weights, _extracting
from modelguard.schemes.logo_training import LogoTraining, Trained
from modelguard.training import TrainConfig, checkpoint

TASK = GaussianNoise(25)
SHORT = partial(TrainConfig, batch=2, lr=1e-3, warmup=1, precision="fp32", checkpoint_every=2)
CONFIG = LogoTraining(
    size=32,
    pairs=8,
    sizes=Sizes(levels=2, width=4, extractor=4, discriminator=4),
    initial=SHORT(4),
    proxy=SHORT(2),
    adversarial=SHORT(4),
    features="gradients",
    ramp=3,
)


def logo(turned: bool = False) -> Tensor:
    picture = torch.ones(1, 24, 24)
    picture[:, 6:18, 3:9] = 0
    return picture.transpose(1, 2) if turned else picture


@pytest.fixture(scope="module")
def learnt(photos: ImageSet) -> Trained:
    """A pair that has learnt to hide and find a logo in noise-free patches, not yet invisibly."""
    config = replace(
        CONFIG,
        pairs=32,
        sizes=Sizes(levels=2, width=8, extractor=8, discriminator=4),
        initial=SHORT(50, lr=5e-3),
        adversarial=SHORT(15, lr=5e-3),
        ramp=200,
    )
    return logo_training.train([logo()], photos, TASK, config)


def cut(photos: ImageSet) -> ImageSet:
    return ImageSet.of([image[:, :32, :32] for image in photos])


def test_the_logo_is_found_where_it_is_and_nowhere_else(learnt: Trained, photos: ImageSet) -> None:
    clean = cut(photos)
    marked = learnt.embedder.mark(clean)
    found, nothing = (
        score(learnt.extractor, learnt.embedder, images, logo(turned=True)) for images in (marked, clean)
    )
    assert found.centred_nc > 0.8
    assert abs(found.wrong_centred_nc) < 0.5
    assert nothing.centred_nc < 0.5
    assert found.nc > found.blank_nc
    assert (found.sr_c, nothing.sr_c) == (1, 0)


def test_the_protected_host_carries_the_logo(learnt: Trained, photos: ImageSet) -> None:
    host = DnCNN(3, 1, 4, batch_norm=False)
    barrier, images = protect(host, learnt.embedder, photos[0]), cut(photos)
    with torch.no_grad():
        answers = [barrier(image[None])[0].clamp(0, 1) for image in images]
    assert score(learnt.extractor, learnt.embedder, answers, logo(turned=True)).centred_nc > 0.7


def test_every_stage_reports_and_the_halves_know_each_other(learnt: Trained) -> None:
    assert list(learnt.results) == ["initial", "proxy-0", "adversarial"]
    assert {"l2", "judging", "mark", "clean", "consistency"} <= set(learnt.results["initial"].scalars)
    assert learnt.embedder.pair == learnt.extractor.pair
    assert not any(module.training for net in (learnt.embedder, *learnt.proxies) for module in net.modules())


def states(trained: Trained) -> dict[str, Tensor]:
    nets = {"h": trained.embedder, "r": trained.extractor, "proxy": trained.proxies[0]}
    return {f"{name}.{key}": value for name, net in nets.items() for key, value in net.state_dict().items()}


@pytest.fixture(scope="module")
def whole(photos: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, Path]:
    """A run that nothing interrupted, and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    return logo_training.train([logo()], photos, TASK, CONFIG, run_dir=folder), folder


@pytest.mark.parametrize("writes", [1, 2, 4], ids=["initial", "proxy", "adversarial"])
def test_a_run_whose_disk_fills_resumes_to_the_same_weights(
    writes: int,
    whole: tuple[Trained, Path],
    photos: ImageSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train = partial(logo_training.train, [logo()], photos, TASK, CONFIG, run_dir=tmp_path)
    write, left = checkpoint.atomic_write_bytes, [writes]

    def full(*args: Any, **options: Any) -> Path:
        if not left[0]:
            raise OSError("No space left on device")
        left[0] -= 1
        return write(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "atomic_write_bytes", full)
        with pytest.raises(OSError, match="No space"):
            train()
    resumed = train(resume=True)
    wanted, found = states(whole[0]), states(resumed)
    assert all(torch.equal(found[key], value) for key, value in wanted.items())
    assert resumed.embedder.pair == whole[0].embedder.pair
    one, two = (load_file(run / "initial" / "checkpoint.safetensors") for run in (whole[1], tmp_path))
    assert "model.judge.body.0.weight" in one
    assert all(torch.equal(two[name], value) for name, value in one.items())


def test_a_run_folder_belongs_to_one_run(photos: ImageSet, tmp_path: Path) -> None:
    config = replace(CONFIG, adversarial=SHORT(0), initial=SHORT(1))
    train = partial(logo_training.train, images=photos, task=TASK, run_dir=tmp_path / "run")
    train([logo()], config=config)
    with pytest.raises(InputError, match="holds a run already"):
        train([logo()], config=config)
    with pytest.raises(InputError, match="other settings"):
        train([logo(turned=True)], config=config, resume=True)
    with pytest.raises(InputError, match="other settings"):
        train([logo()], config=replace(config, seed=1), resume=True)
    with pytest.raises(InputError, match="other settings"):
        train([logo()], config=config, host=nn.Identity(), resume=True)
    with pytest.raises(InputError, match="other settings"):
        train([logo()], config=config, task=GaussianNoise(50), resume=True)
    for private in ("run", "run/initial"):  # the second for a run folder that was made before, by others
        assert (tmp_path / private).stat().st_mode & 0o077 == 0
    train([logo()], config=config, resume=True)


def test_marks_go_on_ground_truth_or_on_what_the_host_answers(photos: ImageSet, tmp_path: Path) -> None:
    config = replace(CONFIG, adversarial=SHORT(0), initial=SHORT(1))
    marked: dict[str, dict[str, Tensor]] = {}
    for name, host in {"truth": None, "outputs": lambda image: 1 - image}.items():
        logo_training.train([logo()], photos, TASK, config, host=host, run_dir=tmp_path / name)
        marked[name] = load_file(tmp_path / name / "pairs.safetensors")
    assert torch.equal(marked["truth"]["inputs"], marked["outputs"]["inputs"])
    assert torch.equal(marked["outputs"]["targets"], 255 - marked["outputs"]["inputs"])
    noise = marked["truth"]["inputs"].float() - marked["truth"]["targets"].float()
    assert 15 < noise.std() < 30


def test_a_super_resolving_host_is_marked_at_its_output_size(photos: ImageSet) -> None:
    config = replace(CONFIG, initial=SHORT(1), proxy=SHORT(1), adversarial=SHORT(1))
    trained = logo_training.train(
        [logo()], photos, Downscale(2), config, host=nn.Upsample(scale_factor=2, mode="bilinear")
    )
    assert all(torch.isfinite(value).all() for value in states(trained).values())


def test_several_logos_share_one_pair_and_get_a_proxy_and_a_class_each(photos: ImageSet) -> None:
    trained = logo_training.train([logo(), logo(turned=True)], photos, TASK, CONFIG)
    assert list(trained.results) == ["initial", "proxy-0", "proxy-1", "adversarial"]
    assert trained.extractor.classifier(torch.rand(1, 1, 32, 32)).shape == (1, 3)


def test_innocents_learn_unmarked_pairs_and_are_clean_to_the_adversarial_stage(photos: ImageSet) -> None:
    plain, shown = (
        logo_training.train([logo()], photos, TASK, replace(CONFIG, innocents=count)) for count in (0, 2)
    )
    stages = ["initial", "proxy-0", "innocent-0", "innocent-1", "adversarial"]
    assert list(shown.results) == stages
    assert all(torch.equal(one, states(plain)[key]) for key, one in states(shown).items() if key[0] != "r")
    assert plain.results["adversarial"].scalars["clean"] < shown.results["adversarial"].scalars["clean"]
    assert len(shown.proxies) == 1


def test_training_against_overwriting_uses_the_rival_and_leaves_it_alone(
    photos: ImageSet, make_photo: Callable[..., Tensor]
) -> None:
    config = replace(CONFIG, initial=SHORT(2), adversarial=SHORT(2), proxy=SHORT(1))
    rival = logo_training.train(
        [logo(turned=True), make_photo(1, 1, 20, 20)], photos, TASK, replace(config, adversarial=SHORT(0))
    )
    before = {key: value.clone() for key, value in rival.embedder.state_dict().items()}
    plain, hardened = (
        logo_training.train([logo()], photos, TASK, config, overwriter=overwriter)
        for overwriter in (None, rival.embedder)
    )
    assert plain.results["initial"].scalars["mark"] < hardened.results["initial"].scalars["mark"]
    assert plain.results["adversarial"].scalars["clean"] < hardened.results["adversarial"].scalars["clean"]
    assert all(torch.equal(value, before[key]) for key, value in rival.embedder.state_dict().items())
    assert rival.proxies == []


def test_consistency_is_the_papers_mean_over_pairs() -> None:
    pictures, wanted = torch.rand(5, 1, 4, 4), torch.rand(1, 1, 4, 4)
    blank = torch.full((2, 1, 4, 4), 0.9)
    loss, parts = _extracting([pictures], wanted, [blank, blank], Weights(mark=2, clean=3, consistency=5))
    pairs = torch.stack([(x - y).square().mean() for x in pictures for y in pictures]).mean()
    torch.testing.assert_close(parts["consistency"], pairs)
    torch.testing.assert_close(parts["clean"], torch.tensor(0.02))
    torch.testing.assert_close(parts["mark"], (pictures - wanted).square().mean())
    torch.testing.assert_close(loss, 2 * parts["mark"] + 3 * parts["clean"] + 5 * pairs)


def test_bad_input_is_refused_before_anything_is_written(photos: ImageSet, tmp_path: Path) -> None:
    train = partial(logo_training.train, run_dir=tmp_path / "run")
    with pytest.raises(InputError, match="too small for D"):
        train([logo()], photos, TASK, replace(CONFIG, size=24))
    with pytest.raises(InputError, match="40 x 24 px are larger than the patches of 32"):
        train([torch.ones(1, 40, 24)], photos, TASK, CONFIG)
    colour = Embedder(stack([logo()]), 3, CONFIG.sizes)
    with pytest.raises(InputError, match="overwriter: it marks images of 3 channels"):
        train([logo()], photos, TASK, CONFIG, overwriter=colour)
    large = Embedder(stack([torch.ones(1, 40, 40)]), 1, CONFIG.sizes)
    with pytest.raises(InputError, match="do not fit"):
        train([logo()], photos, TASK, CONFIG, overwriter=large)
    assert not (tmp_path / "run").exists()


def test_weights_that_are_not_at_hand_are_named_before_training(
    photos: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelguard.training.losses.try_to_load_from_cache", lambda *_: None)
    with pytest.raises(WeightsError, match="VGG-16"):
        logo_training.train(
            [logo()], photos, TASK, replace(CONFIG, features="vgg16"), run_dir=tmp_path / "run"
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("spoil", [lambda x: (x,), lambda x: x / 0, lambda x: 255 * x + 3])
def test_a_host_that_gives_no_image_is_refused(spoil: Callable[[Tensor], Any], photos: ImageSet) -> None:
    with pytest.raises(ModelContractError, match="host"):
        logo_training.train([logo()], photos, TASK, CONFIG, host=spoil)


@pytest.mark.parametrize("setting", [{"pairs": 0}, {"innocents": -1}, {"ramp": -5}], ids=str)
def test_numbers_without_sense_are_refused(setting: dict[str, int]) -> None:
    with pytest.raises(InputError, match=next(iter(setting))):
        LogoTraining(**setting)


def test_images_smaller_than_the_patches_are_refused(photos: ImageSet) -> None:
    with pytest.raises(InputError, match="patches need 50"):
        logo_training.train([logo()], photos, TASK, replace(CONFIG, size=50))


def test_the_defaults_are_the_papers() -> None:
    paper = LogoTraining()
    assert (paper.size, paper.pairs, paper.initial.batch, paper.features) == (256, 6000, 8, "vgg16")
    assert paper.initial.steps * paper.initial.batch == 200 * paper.pairs
    assert paper.proxy.steps * paper.proxy.batch == 300 * paper.pairs
    assert paper.weights == Weights(1, 1, 0.01, 1, 1, 1, 1)


@pytest.mark.slow
def test_two_processes_train_one_pair(tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    script = Path(__file__).parent / "two_process_logo.py"
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launch, str(script), str(tmp_path)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "0.txt").read_text() == (tmp_path / "1.txt").read_text()
