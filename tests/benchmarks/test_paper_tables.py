from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from torch import Tensor, nn

from modelguard.benchmarks.hosts import Host
from modelguard.benchmarks.paper_tables import PUBLISHED, Keyed, Tables
from modelguard.datasets import Downscale, GaussianNoise, ImageSet, write_image
from modelguard.evidence import Key, Owner, register
from modelguard.networks import VDSR, Upscaled
from modelguard.schemes import Contract, TriggerKey
from modelguard.schemes.paper_trigger import PaperEmbedding

BRIEF = PaperEmbedding(steps=2, batch=2, patch=40)


@pytest.fixture
def saved() -> list[int]:
    """How many rows there were whenever they were saved."""
    return []


@pytest.fixture
def make_tables(
    photos: ImageSet,
    tiny: nn.Module,
    owner: Owner,
    tmp_path: Path,
    saved: list[int],
    make_photo: Callable[..., Tensor],
) -> Callable[[str], Tables]:
    """A function of a host's name -> tables of a tiny host under that name."""
    for name in ("Set12", "Set14"):
        write_image(tmp_path / name / "one.png", make_photo(9, 1, 40, 40))

    def make(name: str) -> Tables:
        host = Host(name, tiny, GaussianNoise(25), ("Set12",))
        if name.startswith("vdsr"):
            host = Host(name, Upscaled(VDSR(3, 1, 4), 2), Downscale(2), ("Set14",), border=2)
        thief = TriggerKey(steps=1, batch=1, leaves=4)
        public = thief.public(Contract(1, host.border or 1))
        key = Key.create(owner, public, 4, decoder=thief.decoder, log2_n=10)
        (tmp_path / "weights").write_bytes(b"of no interest here")
        info = {"name": "host", "version": "1", "task": "any", "input": "u8", "output": "u8"}
        registration = register(owner, key, [("weights", tmp_path / "weights")], info)
        key = replace(key, extras={"registration": registration.envelope})
        return Tables(
            host,
            photos,
            photos,
            tmp_path,
            BRIEF,
            Keyed(host.model, key, 0.5, thief),
            lambda rows: saved.append(len(rows)),
        )

    return make


def test_every_table_of_a_denoiser_is_run(make_tables: Callable[[str], Tables], saved: list[int]) -> None:
    tables = make_tables("dncnn")
    tables.run(keys=2, tune_steps=1, sizes=[20])
    assert saved == list(range(1, len(tables.rows) + 1))  # nothing is lost if the run is cut off
    names = [row["table"] for row in tables.rows]
    assert set(names) == {"I-III", "XIII", "IV", "V", "rule", "VI", "VII", "VIII-IX", "I", "X"}
    by = {(row["table"], str(row["case"])): row for row in tables.rows}
    assert by["I-III", "{'lambda': 0.001}"]["paper"] == 30.41
    assert by["VI", "{'pruned': 0.35}"]["paper"] == (29.22, 4.48e-3)
    assert by["VIII-IX", "{'keys': 5}"]["paper"] == 5.28e-3
    assert by["X", "{'size': 20}"]["paper"] == 30.42
    assert by["V", "{'keys': 2}"]["paper"] == 7.02e-3
    ours = by["I-III", "{'lambda': 0.001}"]["ours"]
    assert ours["d"] == 0
    assert ours["d_to_initial_S"] > 0
    rule = by["rule", "{'n': 1600}"]["ours"]
    assert rule["identity_passes"]
    assert by["XIII", "{'size': 40, 'unit': 'min'}"]["keyed"] == 0.5
    for case in ("{'pruned': 0.25}", "{'data': 'same', 'steps': 1}", "{'keys': 5}"):
        keyed = next(row["keyed"] for (_, name), row in by.items() if name == case)
        assert keyed["bits"].endswith("of 256")
        assert keyed["log10_p"] > -6  # that key was never embedded
    assert rule["eta_of_this_size"] == pytest.approx(6.07e-3, rel=1e-3)


def test_every_table_of_a_super_resolver_is_run(make_tables: Callable[[str], Tables]) -> None:
    tables = make_tables("vdsr-2")
    tables.run(keys=1, tune_steps=1, sizes=[20])
    names = {row["table"] for row in tables.rows}
    assert names == {"I-III", "XIII", "IV", "V", "rule", "VI", "VII", "VIII-IX", "XI"}
    by = {row["table"]: row for row in tables.rows}
    assert by["I-III"]["paper"] == (32.83, 32.83)
    assert by["XI"]["paper"] == 32.85
    assert by["rule"]["case"] == {"n": 1600}


def test_hosts_of_which_the_paper_prints_nothing_have_no_figure(make_tables: Callable[[str], Tables]) -> None:
    tables = make_tables("dncnn-20")
    assert tables.published("I", 0.001) is None
    assert tables.published("IX") is None
    assert {host for table in PUBLISHED.values() for host in table} <= {
        "dncnn",
        "red",
        "vdsr-2",
        "vdsr-3",
        "vdsr-4",
    }
