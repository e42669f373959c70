"""The benchmarks of evidence: they measure what they say, on bundles that are sound to begin with."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from modelguard.benchmarks import bundles, calibration, check_cost, grinding, startup, tables, tamper
from modelguard.benchmarks.bundles import Made
from modelguard.evidence import Owner
from modelguard.schemes import keyed_cells
from modelguard.suspects import CallableSuspect


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    scheme = keyed_cells.public(channels=1, scale=1, size=16, per_query=2)
    return bundles.make(tmp_path_factory.mktemp("bundle"), 2, 8, scheme)


def test_mutated_bundles_are_refused_with_errors_of_ours(made: Made) -> None:
    assert tamper.attempt(made) == "accepted"
    before = {file: file.read_bytes() for file in made.path.rglob("*") if file.is_file()}
    outcomes = tamper.mutants(made, 150, random.Random(7))
    assert outcomes.total() == 150
    assert set(outcomes) <= {"EvidenceError", "MalformedEvidenceError", "SignatureError"}
    assert before == {file: file.read_bytes() for file in made.path.rglob("*") if file.is_file()}


def test_a_stranger_goes_the_whole_way_and_shows_nothing(tmp_path: Path) -> None:
    owner = Owner("Stranger", Ed25519PrivateKey.generate())
    log10_p, verdict = calibration.claim(owner, CallableSuspect(lambda image: image), tmp_path)
    assert -6 < log10_p <= 0
    assert verdict == "inconclusive"
    assert (tmp_path / "evidence" / "certificate.dsse.json").is_file()


def test_a_defect_would_be_seen(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError("not ours")

    monkeypatch.setattr("modelguard.check", broken)
    assert tamper.attempt(made).startswith("crash: ")
    monkeypatch.setattr("modelguard.check", lambda *_: None)
    row = tamper._row(tamper.mutants(made, 10, random.Random(0)))
    assert (row["tried"], row["accepted"], row["crashed"]) == (10, 10, 0)


def test_lies_leave_out_what_an_examiner_may_say(made: Made) -> None:
    statement = {"predicate": {"certificateId": "x", "result": {"multiplicity": {"suspects": 1}}}}
    for seed in range(20):
        tamper.lies(statement, random.Random(seed))
    assert statement["predicate"]["certificateId"] == "x"
    assert statement["predicate"]["result"] == {"multiplicity": {"suspects": 0}}


def test_grinding_counts_every_key_tried() -> None:
    values = [-0.1] * 511 + [-7.0]
    row = grinding.summary("x", values)
    assert (row["best_log10_p"], row["unadjusted_below_alpha"], row["verdict"]) == (-7.0, 1, "inconclusive")
    assert row["best_log10_p_adj"] == round(-7 + 9 * np.log10(2), 2)
    assert (row["families"], row["families_below_0.05"]) == (2, 1)
    assert grinding.summary("x", [*values[1:], -9.0])["verdict"] == "match"


def test_ground_keys_of_an_innocent_suspect_agree_by_chance() -> None:
    noise = CallableSuspect(lambda image: 255 - image // 2)
    for values in (grinding.ground_bits(noise, 64), grinding.ground_keys(noise, 16)):
        assert min(values) > -5
        assert len(set(values)) > 1 or set(values) == {0.0}


def test_a_check_is_timed_with_its_sizes() -> None:
    row = check_cost.measure(1, 16, 1, **check_cost.TINY)
    assert (row["leaves"], row["bits"], row["committed"]) == (16, 64, 16)
    assert row["milliseconds"] > 0


@pytest.mark.slow
def test_startup_is_measured_against_the_bare_interpreter(tmp_path: Path) -> None:
    startup.main(rounds=1, out=tmp_path)
    rows = json.loads((tmp_path / "startup.json").read_text())["results"]
    assert rows[0]["ratio"] == 1.0
    assert "| modelguard --help |" in tables.render("startup", tmp_path)
