from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from torch import Tensor, nn

from modelguard.attacks import FineTune, Loot, Overwrite
from modelguard.benchmarks.hosts import Host
from modelguard.benchmarks.trigger_key import CHANNELS, kept, reading, thefts, transport
from modelguard.datasets import GaussianNoise, ImageSet, write_image
from modelguard.distortions import Jpeg
from modelguard.errors import InputError
from modelguard.protecting import Protected
from modelguard.schemes import TriggerKey


@pytest.fixture
def loot(photos: ImageSet) -> Loot:
    """What the thief has."""
    return Loot(photos, GaussianNoise(25))


def test_thefts_are_planned_in_the_order_asked(
    loot: Loot, tmp_path: Path, make_photo: Callable[..., Tensor]
) -> None:
    write_image(tmp_path / "texture.png", make_photo(0, 1, 128, 256))
    planned = thefts(["finetune", "textures", "int8", "overwrite"], 7, 5, loot, tmp_path)
    assert [one.label for one in planned] == [
        "fine-tune 7 steps",
        "fine-tune 7 steps on textures",
        "int8 weights",
        *(f"overwrite with {count} keys" for count in range(1, 6)),
    ]
    assert isinstance(planned[0].attack, FineTune)
    assert planned[0].loot is loot
    assert len(planned[1].loot.images) == 2
    assert [one.further for one in planned] == [False, False, False, False, True, True, True, True]
    for one in planned[3:]:
        assert isinstance(one.attack, Overwrite)
        assert one.attack.keys == 1
        assert one.attack.scheme == TriggerKey(steps=5)


def test_labels_are_those_of_the_attacks(loot: Loot) -> None:
    assert [one.label for one in thefts(["prune"], 1, 1, loot, None)][:2] == ["prune 0.25", "prune 0.35"]


@pytest.mark.parametrize("kind", ["distil", "textures"])
def test_unknown_kinds_are_refused_before_any_work(kind: str, loot: Loot) -> None:
    with pytest.raises(InputError, match=kind):
        thefts(["prune", kind], 1, 1, loot, None)


def test_a_protected_model_is_used_again(
    protected: Protected, unmarked: nn.Module, loot: Loot, tmp_path: Path
) -> None:
    folder = protected.save(tmp_path / "keep", "benchmark")
    (folder / "facts.json").write_text('{"embed_seconds": 1.5}')
    source = Host("tiny", unmarked, loot.task, ("Set12",))
    model, key, facts = kept(source, loot.images, folder)
    assert facts == {"embed_seconds": 1.5}
    assert reading(model, key)["verdict"] == "match"
    assert reading(source.model, key)["verdict"] == "inconclusive"


def test_a_reading_is_plain_figures(protected: Protected, unmarked: nn.Module) -> None:
    found = reading(protected.model, protected.key, queries=2, channel=Jpeg(75))
    assert found["verdict"] == "match"
    assert (found["queries"], found["bits"]) == (2, 256)
    assert found["log10_p"] < found["log10_p_adj"] < -6
    assert reading(unmarked, protected.key)["verdict"] == "inconclusive"


def test_transport_reads_through_every_channel(protected: Protected) -> None:
    rows = transport(protected.model, protected.key)
    assert [row["channel"] for row in rows] == list(CHANNELS)
    by = {row["channel"]: row for row in rows}
    assert by["8 bit"]["log10_p"] == min(row["log10_p"] for row in rows)
    assert by["8 bit"]["verdict"] == "match"
