"""`modelguard attack surrogate`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import Tensor
from workshop import Run, everything_in

import modelguard as mg
from modelguard.datasets import ImageSet, write_image

WORDS = (
    "attack", "surrogate", "tinynet:Net", "stolen", "--weights", "protected", "--key", "protected/key.mgkey",
    "--data", "photos", "--test", "photos", "--steps", "4", "--check-every", "2", "--batch", "2",
    "--patch", "16",
)  # fmt: skip


def test_a_matrix_leaves_a_report_a_cell_and_prints_them_all(run: Run, workshop: Path) -> None:
    cells = ("--network", "cnet-4", "--network", "timm-resnet10t", "--augment", "none", "--augment", "all")
    result = run(*WORDS, *cells, "--channel", "jpeg=75", "--json")
    assert result.code == 0
    told = json.loads(result.out)
    names = [one["name"] for one in told["cells"]]
    assert names == [
        f"{net}_l1_{augmentation}" for net in ("cnet-4", "timm-resnet10t") for augmentation in ("none", "all")
    ]
    assert everything_in(Path("stolen")) == {
        f"{name}.{end}" for name in names for end in ("json", "safetensors")
    }
    assert told["protected"]["log10_p"] < -6
    for cell in told["cells"]:
        assert [one["channel"] for one in cell["survival"]] == ["none", "jpeg=75"]
        # a trigger key is no mark of ordinary answers, and no thief learns it from them
        assert {one["verdict"] for one in cell["survival"]} == {"inconclusive"}
        assert cell["survival"][0]["retained"] is None


def test_the_unmarked_model_shows_what_is_kept(run: Run, workshop: Path) -> None:
    import tinynet

    from modelguard.weights import dump_state

    Path("host.safetensors").write_bytes(dump_state(tinynet.Net()))
    result = run(*WORDS, "--network", "cnet-4", "--host", "host.safetensors")
    assert result.code == 0
    assert "kept" in result.out
    report = json.loads(Path("stolen/cnet-4_l1_none.json").read_text())
    assert report["protected"]["retained"] == 1
    named = run(*WORDS, "--network", "cnet-5", "--host", "tinynet:Net", "--resume", "--json")
    assert json.loads(named.out)["protected"] == report["protected"] | {"fidelity": None}
    assert f"{report['survival'][0]['psnr']:.2f}" in result.out


def test_a_second_run_needs_resume_and_then_does_nothing_twice(run: Run, workshop: Path) -> None:
    first = run(*WORDS, "--network", "cnet-4", "--json")
    again = run(*WORDS, "--network", "cnet-4", "--json")
    assert again.code == 3
    assert "is not empty" in again.err
    resumed = run(*WORDS, "--network", "cnet-4", "--json", "--resume")
    assert resumed.code == 0
    assert "[1/1]" in first.err
    assert "[1/1]" not in resumed.err
    assert json.loads(resumed.out)["cells"] == json.loads(first.out)["cells"]
    asked = run(*WORDS, "--network", "cnet-4", "--json", "--resume", "--channel", "blur=2")
    assert "[1/1]" not in asked.err
    (cell,) = json.loads(asked.out)["cells"]
    assert [one["channel"] for one in cell["survival"]] == ["none", "blur=2"]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("--network", "gan"), "no surrogate 'gan'"),
        (("--loss", "l9"), "loss"),
        (("--augment", "melt"), "augmentation"),
        (("--share", "2"), "share"),
        (("--channel", "jpeg"), "channel"),
        (("--channel", "jpeg=much"), "'much' is no number"),
        (("--channel", "median=4"), "size"),
        (("--task", "snow"), "task"),
        (("--channel", "jpeg=inf"), "'inf' is no number"),
        (("--channel", "jpeg=7.5"), "write jpeg=7"),
        (("--task", "noise=-5"), "sigma"),
        (("--patch", "400"), "at least 400 px"),
        (("--loss", "l1", "--loss", "l1+adversarial"), "too few to judge"),
        (("--share", "1", "--share", "0.1"), "too few for a thief"),
        (("--host", "no/where"), "there is no file"),
        (("--alpha", "2"), "alpha"),
        (("--host", "nowhere.safetensors"), "nowhere.safetensors"),
    ],
)
def test_bad_options_are_named(run: Run, workshop: Path, words: tuple[str, ...], part: str) -> None:
    result = run(*WORDS, *words)
    assert result.code == 3
    assert part in result.err
    assert not Path("stolen").exists()


def test_attack_names_both_kinds_and_still_takes_a_model(run: Run, workshop: Path) -> None:
    listed = run("attack", "--help")
    assert listed.code == 0
    assert "surrogate" in listed.out
    assert "weights" in listed.out
    long = ("attack", "weights", "tinynet:Net", "--weights", "protected", "--key", "protected/key.mgkey")
    result = run(*long, "--data", "photos", "--kind", "fp16", "--json")
    assert result.code == 0
    assert json.loads(result.out)["attacks"][0]["attack"] == "fp16"


def test_a_mark_in_every_answer_is_read_from_the_test_photos(
    run: Run, workshop: Path, make_photo: Callable[..., Tensor]
) -> None:
    """A barrier shows its host, so that what is kept of it is known without --host."""
    import tinynet

    photos = ImageSet.of([make_photo(seed, 1, 192, 192) for seed in range(10, 14)])
    for number, photo in enumerate(photos):
        write_image(Path("test") / f"{number}.png", photo)
    owner = mg.Owner.load("acme.pem")
    barred = mg.protect(tinynet.Net(), mg.WaveBarrier(), data=photos, test=photos, owner=owner, stretch=10)
    barred.save("barred")
    result = run(
        "attack", "surrogate", "tinynet:Net", "stolen", "--weights", "barred", "--key", "barred/key.mgkey",
        "--data", "photos", "--test", "test", "--network", "cnet-4", "--steps", "2", "--patch", "16",
        "--json",
    )  # fmt: skip
    assert result.code == 0, result.err
    told = json.loads(result.out)
    assert told["protected"]["log10_p"] < -6
    assert told["protected"]["retained"] == 1
    (thief,) = told["cells"][0]["survival"]
    assert thief["log10_p"] > -6
    assert abs(thief["retained"]) < 0.5
