"""Sessions of ordinary photos, from protecting to a checked bundle."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from torch import Tensor, nn

import modelguard as mg
from modelguard import photos
from modelguard.arbitrating import ask, certify, draw
from modelguard.certifying import certify as sign
from modelguard.datasets import ImageSet, write_image
from modelguard.errors import (
    EvidenceError,
    InputError,
    MalformedEvidenceError,
    ModelContractError,
    SuspectError,
)
from modelguard.evidence import Opened, Transcript, check_bundle, dsse, records
from modelguard.evidence.bundle import CERTIFICATE_FILE
from modelguard.evidence.transcript import parse_lines, photo_answers
from modelguard.protecting import Protected, protect
from modelguard.schemes.barrier import Barred
from modelguard.suspects import Answer, ModuleSuspect, Pacing
from modelguard.verifying import export_queries

QUICK = Pacing(attempts=2, backoff=0.001)
LIMIT = "they could be picked or doctored"


class Soften(nn.Module):
    """An algorithm without parameters: a 3 x 3 mean, mixed with the image."""

    def forward(self, image: Tensor) -> Tensor:
        padded = nn.functional.pad(image, (1, 1, 1, 1), mode="replicate")
        return 0.7 * image + 0.3 * nn.functional.avg_pool2d(padded, 3, 1)


class Counting:
    """A service that runs a model, and whose n-th answer may be a status or an exception instead."""

    kind, endpoint = "http-api", "https://api.example/soften"

    def __init__(self, model: nn.Module, fails: dict[int, int | BaseException] | None = None) -> None:
        self.inner, self.fails, self.asked = ModuleSuspect(model), fails or {}, []

    asked: list[bytes]

    def ask(self, query: Any) -> Answer:
        self.asked.append(query.tobytes())
        fault = self.fails.get(len(self.asked) - 1)
        if isinstance(fault, BaseException):
            raise fault
        return self.inner.ask(query) if fault is None else Answer(None, b"no", "text/plain", fault, "no")


@pytest.fixture(scope="module")
def pictures() -> mg.ImageSet:
    """Five grey photos of 192 x 176."""
    return mg.ImageSet(tuple(one[:, 32:224, 40:216] for one in photos.load(1).images[3:8]))


@pytest.fixture(scope="module")
def barred(owner: mg.Owner, pictures: mg.ImageSet) -> Protected:
    """An algorithm behind a barrier, with a cheap salt."""
    return protect(Soften(), mg.WaveBarrier(), data=pictures, owner=owner, stretch=10, test=pictures)


@pytest.fixture(scope="module")
def album(pictures: mg.ImageSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The photos as files, with a copy, a tiny one and one that is no image among them."""
    folder = tmp_path_factory.mktemp("album")
    for number, image in enumerate(pictures):
        write_image(folder / f"{number}.png", image)
    shutil.copy(folder / "0.png", folder / "copy.png")
    write_image(folder / "tiny.png", torch.zeros(1, 20, 20))
    (folder / "broken.png").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def bundle(barred: Protected, owner: mg.Owner, album: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Evidence of three photos."""
    folder = tmp_path_factory.mktemp("bundle") / "evidence"
    verdict = mg.verify(barred.model, barred.key, photos=album)
    verdict.certify(owner, folder)
    return folder


# --- protecting


def test_protecting_needs_no_training(barred: Protected) -> None:
    assert isinstance(barred.model, Barred)
    assert isinstance(barred.model.host, Soften)
    report = barred.report
    assert (report.embedding.steps, report.queries, report.images) == (0, 5, 5)
    assert report.log10_p < -6 < report.log10_p_unmarked
    assert "after 5 queries" in str(report)
    assert barred.registration.scheme["id"] == "mg.tone-carriers/1"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda x: (x, x), r"tuple.*|model\(x\)\[0\]"),
        (lambda x: {"image": x}, "dict"),
        (lambda x: 255 * x, "with values from 0 to 255"),
        (lambda x: 2 * x - 1, "with values from -1 to 1"),
    ],
)
def test_hosts_that_answer_otherwise_are_refused(
    answer: Callable[[Tensor], object], says: str, owner: mg.Owner, pictures: mg.ImageSet
) -> None:
    class Odd(nn.Module):
        def forward(self, image: Tensor) -> object:
            return answer(image)

    with pytest.raises(ModelContractError, match=says) as caught:
        protect(Odd(), mg.WaveBarrier(), data=pictures, owner=owner, stretch=10)
    assert "wrap it" in caught.value.remedy


def test_a_model_of_colours_apart_is_marked_in_the_colours_and_proven(
    owner: mg.Owner, tmp_path: Path
) -> None:
    """Its convolution is in groups of one channel; the folder is read in colour all the same."""
    net = nn.Conv2d(3, 3, 3, padding=1, bias=False, groups=3)
    with torch.no_grad():
        net.weight.fill_(0.03)
        net.weight[:, :, 1, 1] = 0.76
    for number in (2, 3, 4, 8, 11):
        write_image(tmp_path / "photos" / f"{number}.png", photos.load(3)[number])
    made = protect(net, mg.SymmetricBarrier(), data=tmp_path / "photos", owner=owner, stretch=10)
    unmarked = mg.verify(net, made.key, photos=tmp_path / "photos", queries=4)
    assert not unmarked.match
    verdict = mg.verify(made.model, made.key, photos=tmp_path / "photos", queries=4)
    assert verdict.match
    verdict.certify(owner, tmp_path / "evidence")
    assert mg.check(tmp_path / "evidence", [owner.public]).verdict == "match"


def test_photos_too_small_for_a_field_are_refused(owner: mg.Owner, photos: mg.ImageSet) -> None:
    with pytest.raises(InputError, match="too small to carry"):
        protect(Soften(), mg.WaveBarrier(), data=photos, owner=owner, stretch=10)


def test_it_is_shared_with_its_registration(
    barred: Protected, owner: mg.Owner, pictures: mg.ImageSet, tmp_path: Path
) -> None:
    mg.save_pretrained(barred.model, barred.registration, tmp_path / "shared")
    model, registration = mg.from_pretrained(tmp_path / "shared", Soften(), trust=[owner.public])
    assert registration.record_id == barred.registration.record_id
    assert torch.equal(model(pictures[0][None]), barred.model(pictures[0][None]))


# --- asking


def test_marked_answers_match_and_others_do_not(
    barred: Protected, album: Path, owner: mg.Owner, pictures: mg.ImageSet
) -> None:
    marked = mg.verify(barred.model, barred.key, photos=album)
    assert (marked.outcome, marked.queries, marked.test.bits) == ("match", 3, 256)
    assert {line.kind for line in marked.transcript.lines} == {"photo"}
    for suspect, key in ((Soften(), barred.key), (nn.Identity(), barred.key)):
        assert mg.verify(suspect, key, photos=album).outcome == "inconclusive"
    other = protect(Soften(), mg.WaveBarrier(), data=pictures, owner=owner, stretch=10)
    assert mg.verify(other.model, barred.key, photos=pictures).outcome == "inconclusive"


def test_photos_are_asked_where_the_mark_is_in_them_alone(
    barred: Protected, protected: Protected, album: Path
) -> None:
    for call in (mg.verify, lambda _, key, **more: export_queries(key, album / "new", **more)):
        with pytest.raises(InputError, match="read from answers to ordinary photos"):
            call(barred.model, barred.key)
        with pytest.raises(InputError, match="no triggers to cover"):
            call(barred.model, barred.key, photos=album, cover=album)
        with pytest.raises(InputError, match="read from triggers") as caught:
            call(protected.model, protected.key, photos=album)
        assert "`cover`" in caught.value.remedy


def test_unusable_photos_are_passed_over_and_too_few_are_refused(
    barred: Protected, album: Path, tmp_path: Path
) -> None:
    suspect = Counting(barred.model)
    verdict = mg.verify(suspect, barred.key, photos=album, queries=5)
    assert (verdict.queries, len(set(suspect.asked))) == (5, 5)
    with pytest.raises(InputError, match=r"6 to be asked, 5 of 8 are usable"):
        mg.verify(suspect, barred.key, photos=album, queries=6, transcript=tmp_path / "t")
    assert not (tmp_path / "t").exists()
    with pytest.raises(InputError, match="photos: no photos in"):
        mg.verify(suspect, barred.key, photos=tmp_path)
    with pytest.raises(InputError, match="photos: there is no folder"):
        mg.verify(suspect, barred.key, photos=tmp_path / "nowhere")
    with pytest.raises(InputError, match="3 channels, the model takes 1"):
        mg.verify(suspect, barred.key, photos=photos.load(3))
    with pytest.raises(InputError, match="queries: 0"):
        mg.verify(suspect, barred.key, photos=album, queries=0)
    assert len(suspect.asked) == 5


def test_refused_photos_drop_out_and_none_is_asked_twice(
    barred: Protected, album: Path, owner: mg.Owner, tmp_path: Path
) -> None:
    suspect = Counting(barred.model, {1: 403, 3: KeyboardInterrupt()})
    options: dict[str, Any] = {"photos": album, "queries": 4, "transcript": tmp_path / "t", "pacing": QUICK}
    with pytest.raises(KeyboardInterrupt):
        mg.verify(suspect, barred.key, **options)
    with pytest.raises(InputError, match="not those this session began with"):
        mg.verify(suspect, barred.key, **{**options, "photos": photos.load(1)})
    verdict = mg.verify(suspect, barred.key, **options)
    assert (len(suspect.asked), len(set(suspect.asked))) == (4, 4)
    assert [line.status for line in verdict.transcript.lines] == [200, 403, 200, 499]
    assert (verdict.queries, verdict.refused, verdict.outcome) == (4, 2, "match")
    evidence = verdict.certify(owner, tmp_path / "evidence")
    assert (evidence.verdict, evidence.matches) == ("match", verdict.test.matches)


def test_a_service_that_refuses_all_photos_cannot_be_examined(barred: Protected, album: Path) -> None:
    with pytest.raises(SuspectError, match="refused all 3 queries"):
        mg.verify(Counting(barred.model, dict.fromkeys(range(9), 403)), barred.key, photos=album)


def test_looks_at_a_sequential_session_are_charged(
    barred: Protected, album: Path, owner: mg.Owner, tmp_path: Path
) -> None:
    suspect = Counting(barred.model, {0: 403})
    verdict = mg.verify(suspect, barred.key, photos=album, queries=5, sequential=True)
    assert verdict.match
    assert 2 <= verdict.queries < 5
    base = barred.registration.grind_bits
    asked = verdict.queries
    assert verdict.multiplicity.grind_bits == base + (asked * (asked + 1) - 1).bit_length()
    evidence = verdict.certify(owner, tmp_path / "evidence")
    assert evidence.multiplicity.grind_bits == verdict.multiplicity.grind_bits
    assert len(evidence.leaves) == 4


def test_stored_answers_are_read_with_the_same_photos(
    barred: Protected, album: Path, owner: mg.Owner, tmp_path: Path
) -> None:
    queries = export_queries(barred.key, tmp_path / "queries", queries=2, photos=album)
    stored = tmp_path / "answers"
    shutil.copytree(queries, stored)
    suspect = ModuleSuspect(barred.model)
    for path in stored.glob("*.png"):
        image = (mg.datasets.read_image(path, 1) * 255).round().byte()
        path.write_bytes(suspect.ask(image.permute(1, 2, 0).numpy()).raw)
    verdict = mg.verify(stored, barred.key, photos=album)
    assert (verdict.outcome, verdict.queries) == ("match", 2)
    assert verdict.certify(owner, tmp_path / "evidence").verdict == "match"


# --- evidence


def test_a_bundle_is_checked_from_its_own_photos(bundle: Path, barred: Protected, owner: mg.Owner) -> None:
    checked = mg.check(bundle, [owner.public])
    assert (checked.verdict, checked.bits, checked.leaves) == ("match", 256, checked.leaves)
    assert sorted(checked.leaves) == [0, 1, 2, 3]
    assert any(LIMIT in limit for limit in checked.limits)
    assert all("query" in json.loads(line) for line in (bundle / "transcript.jsonl").read_text().splitlines())
    assert mg.inspect(bundle)["transcript.jsonl"][0]["kind"] == "photo"


def test_a_page_shows_the_photos(bundle: Path, owner: mg.Owner) -> None:
    from modelguard.report import render

    page = render(bundle, mg.check(bundle, [owner.public]))
    assert page.count("asked: an ordinary photo") == 3
    assert LIMIT in page


def test_an_exchanged_photo_is_found_out(bundle: Path, owner: mg.Owner, tmp_path: Path) -> None:
    """The digest of the file is in the line, and the digest of its pixels too."""
    copy = shutil.copytree(bundle, tmp_path / "copy")
    line = json.loads((copy / "transcript.jsonl").read_text().splitlines()[0])
    (copy / "blobs" / line["query"]).write_bytes((copy / "blobs" / line["decoded"]).read_bytes())
    with pytest.raises(EvidenceError, match="its content was changed"):
        mg.check(copy, [owner.public])


def test_another_file_in_place_of_a_photo_is_found_out(
    barred: Protected, album: Path, owner: mg.Owner, tmp_path: Path
) -> None:
    """Even in a transcript its examiner made up."""
    verdict = mg.verify(barred.model, barred.key, photos=album, transcript=tmp_path / "t")
    path = tmp_path / "t" / "transcript.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[0]["query"] = lines[0]["decoded"]
    path.write_bytes(b"".join(records.dumps(line) + b"\n" for line in lines))
    with pytest.raises(EvidenceError, match="not the image asked"):
        sign(Transcript(verdict.transcript.folder), barred.key, owner, tmp_path / "evidence")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda lines: lines[:2], "2 photos, its session fixed 3"),
        (lambda lines: [*lines, {**lines[0], "seq": 3}], "asked again after an answer"),
        (lambda lines: [*lines, {**lines[0], "seq": 3, "request": "ab" * 32}], "4 photos, its session"),
        (lambda lines: [*lines, _as_trigger(lines[0])], "a trigger in a session of photos"),
    ],
)
def test_a_session_holds_its_photos_once_each(
    bundle: Path, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]], says: str
) -> None:
    lines = [json.loads(line) for line in (bundle / "transcript.jsonl").read_text().splitlines()]
    session = mg.inspect(bundle)[CERTIFICATE_FILE]["predicate"]
    data = b"".join(records.dumps(line) + b"\n" for line in change(lines))
    with pytest.raises(EvidenceError, match=says):
        photo_answers(parse_lines(data), _session(session))


def _as_trigger(line: dict[str, Any]) -> dict[str, Any]:
    rest = {name: value for name, value in line.items() if name != "query"}
    return {**rest, "seq": 3, "kind": "trigger", "leaves": [1]}


def _session(fields: dict[str, Any]) -> Any:
    from modelguard.evidence import Session

    return Session.from_record(fields["registration"], fields["suspect"], fields["selection"])


@pytest.mark.parametrize(
    "change", [{"query": None}, {"leaves": [1]}, {"kind": "ordinary"}, {"kind": "trigger"}, {"query": "x"}]
)
def test_lines_are_strict(bundle: Path, change: dict[str, Any]) -> None:
    line = json.loads((bundle / "transcript.jsonl").read_text().splitlines()[0])
    changed = {name: value for name, value in {**line, **change}.items() if value is not None}
    parse_lines(records.dumps(line) + b"\n")
    with pytest.raises(MalformedEvidenceError):
        parse_lines(records.dumps(changed) + b"\n")


@pytest.mark.parametrize("photos", [0, -1, 1025, "3", True])
def test_the_number_of_photos_is_strict(photos: Any) -> None:
    selection = {"rule": "hash-nonce/1", "nonce": "ab" * 32, "count": 4, "exclude": []}
    records.selection("selection", {**selection, "photos": 3})
    with pytest.raises(MalformedEvidenceError):
        records.selection("selection", {**selection, "photos": photos})


def test_a_reader_of_triggers_does_not_read_photos(bundle: Path, owner: mg.Owner) -> None:
    from modelguard.schemes import keyed_cells

    steps = keyed_cells.trigger, keyed_cells.bits, keyed_cells.decode
    with pytest.raises(EvidenceError, match="is not read from photos"):
        check_bundle(bundle, [owner.public], *steps)


def test_photos_in_a_record_of_triggers_are_refused(
    protected: Protected, owner: mg.Owner, tmp_path: Path
) -> None:
    """A certificate whose session says photos, of a scheme that has none."""
    mg.verify(protected.model, protected.key, transcript=tmp_path / "t").certify(owner, tmp_path / "e")
    payload, _ = dsse.unverified((tmp_path / "e" / CERTIFICATE_FILE).read_bytes())
    subject, fields = records.parse_statement(payload, records.VERIFICATION_TYPE)
    fields["selection"]["photos"] = 1
    lie = dsse.sign(records.build_statement(subject, records.VERIFICATION_TYPE, fields), owner)
    (tmp_path / "e" / CERTIFICATE_FILE).write_bytes(lie)
    with pytest.raises(EvidenceError):
        mg.check(tmp_path / "e", [owner.public])


# --- arbiters


def test_an_examiner_chooses_photos_before_the_bits_are_opened(
    barred: Protected, owner: mg.Owner, album: Path, tmp_path: Path
) -> None:
    examiner = mg.Owner("Independent Lab", Ed25519PrivateKey.generate())
    session = draw(tmp_path / "session", barred.registration, barred.model, queries=2)
    assert (session.session.count, session.session.photos) == (4, 2)
    triggers = mg.open_triggers(barred.key, session.session)
    with pytest.raises(InputError, match="photos: none"):
        ask(barred.model, triggers, session)
    transcript = ask(barred.model, triggers, session, photos=album)
    assert ask(barred.model, triggers, session, photos=album).lines == transcript.lines
    bits = mg.open_bits(owner, barred.key, transcript)
    certify(transcript, Opened(triggers, bits), examiner, tmp_path / "evidence")
    checked = mg.check(tmp_path / "evidence", [owner.public, examiner.public])
    assert (checked.verdict, checked.mode) == ("match", "arbiter")
    assert any("examiner's choice, made before" in limit for limit in checked.limits)


def test_bits_are_not_opened_for_too_few_photos(
    barred: Protected, owner: mg.Owner, album: Path, tmp_path: Path
) -> None:
    session = draw(tmp_path / "session", barred.registration, barred.model, queries=2)
    triggers = mg.open_triggers(barred.key, session.session)
    with pytest.raises(KeyboardInterrupt):
        ask(_Stopping(barred.model), triggers, session, photos=album)
    with pytest.raises(EvidenceError, match="1 photos, its session fixed 2"):
        mg.open_bits(owner, barred.key, tmp_path / "session")


class _Stopping:
    """The model, as which it is known in the session, until it is stopped at the second question."""

    kind = "module"

    def __init__(self, model: nn.Module) -> None:
        self.inner, self.endpoint, self.count = ModuleSuspect(model), type(model).__qualname__, 0

    def ask(self, query: Any) -> Answer:
        self.count += 1
        if self.count > 1:
            raise KeyboardInterrupt
        return self.inner.ask(query)


# --- command line


def test_the_command_line_asks_photos(
    barred: Protected, album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from modelguard.cli import app

    monkeypatch.setenv("MODELGUARD_PASSPHRASE", "a long enough passphrase")
    barred.save(tmp_path / "protected", "a long enough passphrase")
    (tmp_path / "softening.py").write_text(
        "from torch import nn\n"
        "class Soften(nn.Module):\n"
        "    def forward(self, image):\n"
        "        padded = nn.functional.pad(image, (1, 1, 1, 1), mode='replicate')\n"
        "        return 0.7 * image + 0.3 * nn.functional.avg_pool2d(padded, 3, 1)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    arguments = ["verify", "softening:Soften", "--key", str(tmp_path / "protected" / "key.mgkey"), "--json"]

    def run(*more: str) -> tuple[int, dict[str, Any]]:
        code = app([*arguments, *more], standalone_mode=False)
        return code, json.loads(capsys.readouterr().out)

    code, found = run("--weights", str(tmp_path / "protected"), "--photos", str(album), "--queries", "2")
    assert (code, found["verdict"], found["queries"]) == (0, "match", 2)
    assert run("--photos", str(album))[0] == 1
    code, found = run()
    assert (code, "ordinary photos" in found["error"]) == (3, True)
    assert np.isfinite(barred.report.log10_p)


def test_a_filter_behind_a_model_is_protected_read_certified_and_checked(
    owner: mg.Owner, tmp_path: Path
) -> None:
    """With the photos that ship as data and nothing else; one twice, and one too thin."""
    shipped = photos.load(1)
    thin = shipped.images[0][:, :250, :20]
    data = ImageSet((*shipped.images, shipped.images[0], thin))
    barred = protect(Soften(), mg.Barrier(), data=data, owner=owner, stretch=10)
    assert (barred.report.queries, barred.report.embedding.steps) == (12, 0)
    with pytest.raises(InputError, match="16 to be asked, 12 of 14"):
        mg.verify(barred.model, barred.key, photos=data)
    verdict = mg.verify(barred.model, barred.key, photos=shipped, queries=12, label="vendor X")
    assert verdict.match
    assert not mg.verify(Soften(), barred.key, photos=shipped, queries=12).match
    verdict.certify(owner, tmp_path / "evidence")
    assert mg.check(tmp_path / "evidence", trust=[owner.public]).verdict == "match"
