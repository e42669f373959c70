"""`modelguard attack`."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from torch import Tensor
from workshop import Run

import modelguard as mg
from modelguard import schemes
from modelguard.datasets import ImageSet, write_image

WORDS = (
    "attack", "tinynet:Net", "--weights", "protected", "--key", "protected/key.mgkey", "--data", "photos"
)  # fmt: skip


def test_quick_attacks_by_default(run: Run, workshop: Path) -> None:
    result = run(*WORDS, "--json")
    assert result.code == 0
    attacks = json.loads(result.out)["attacks"]
    assert [one["attack"] for one in attacks] == ["prune 0.35", "int8 weights", "fp16", "weight noise 0.05"]
    fp16 = attacks[2]
    assert fp16["verdict"] == "match"
    assert fp16["psnr_after"] == pytest.approx(fp16["psnr_before"], abs=0.05)
    assert fp16["log10_p_before"] < -6


def test_chosen_attacks_with_their_strengths(run: Run, workshop: Path) -> None:
    kinds = ("--kind", "prune=1", "--kind", "finetune=3", "--test", "photos")
    result = run(*WORDS, *kinds, "--json")
    assert result.code == 0
    pruned, tuned = json.loads(result.out)["attacks"]
    assert pruned["details"] == {"rate": 1.0}
    assert pruned["verdict"] == "inconclusive"
    assert tuned["details"]["steps"] == 3
    assert tuned["verdict"] == "match"


def test_the_table_is_for_people(run: Run, workshop: Path) -> None:
    result = run(*WORDS, "--kind", "int8")
    assert result.code == 0
    assert "int8 weights" in result.out
    assert "verdict" in result.out
    assert max(len(line) for line in result.out.splitlines()) <= 80


def test_overwriting_embeds_a_stranger_s_key(
    run: Run, workshop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schemes, "TriggerKey", partial(schemes.TriggerKey, leaves=4, steps=2))
    result = run(*WORDS, "--kind", "overwrite=1", "--json")
    assert result.code == 0
    one = json.loads(result.out)["attacks"][0]
    assert one["attack"] == "overwrite with 1"
    assert one["psnr_after"] != one["psnr_before"]


def test_a_barrier_is_overwritten_by_another_barrier(
    run: Run, workshop: Path, make_photo: Callable[..., Tensor]
) -> None:
    import tinynet

    photos = ImageSet.of([make_photo(seed, 1, 192, 192) for seed in range(10, 14)])
    for number, photo in enumerate([*photos, make_photo(1, 1, 48, 48)]):  # the last is too small to be asked
        write_image(Path("test") / f"{number}.png", photo)
    owner = mg.Owner.load("acme.pem")
    mg.protect(tinynet.Net(), mg.WaveBarrier(), data=photos, test=photos, owner=owner, stretch=10).save(
        "barred"
    )
    words = ("attack", "tinynet:Net", "--key", "barred/key.mgkey", "--data", "photos", "--test", "test")
    result = run(*words, "--weights", "barred/model.safetensors", "--kind", "overwrite", "--json")
    assert result.code == 0, result.err
    one = json.loads(result.out)["attacks"][0]
    assert one["log10_p_before"] < -6
    assert 20 < one["psnr_after"] < one["psnr_before"]


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        ("melt", "choose from finetune"),
        ("prune=much", "'much' is no number"),
        ("prune=2", "rate"),
        ("int8=4", "alone"),
        ("finetune=2.7", "write finetune=2"),
        ("finetune=inf", "'inf' is no number"),
    ],
)
def test_unknown_attacks(run: Run, workshop: Path, kind: str, part: str) -> None:
    result = run(*WORDS, "--kind", kind)
    assert result.code == 3
    assert part in result.err


def test_a_level_that_is_none(run: Run, workshop: Path) -> None:
    assert run(*WORDS, "--alpha", "2").code == 3
