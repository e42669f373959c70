"""protect, verify, certify and check as a user calls them."""

from __future__ import annotations

import copy
import gc
import hashlib
import json
import math
import shutil
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from torch import Tensor, nn

import modelguard as mg
from modelguard import weights
from modelguard.datasets import Downscale, GaussianNoise, ImageSet, write_image
from modelguard.distortions import Jpeg, Noise, Resize
from modelguard.errors import (
    EmbeddingError,
    EvidenceError,
    InputError,
    MalformedEvidenceError,
    ModelContractError,
    SignatureError,
    SuspectError,
    WrongPassphraseError,
)
from modelguard.evidence import (
    Decoder,
    Key,
    Owner,
    Session,
    SuspectInfo,
    Transcript,
    certify,
    register,
)
from modelguard.networks import DnCNN
from modelguard.protecting import Protected
from modelguard.schemes import Contract, TriggerKey, keyed_cells
from modelguard.statistics import Multiplicity
from modelguard.suspects import Answer, ModuleSuspect, Suspect
from modelguard.verifying import Verdict

PASSPHRASE = "correct horse battery staple"
Pixels = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass
class Counted:
    """A suspect that answers as `suspect` does, but refuses the queries numbered in `refusing`."""

    suspect: Suspect
    refusing: Sequence[int] = ()
    asked: list[Pixels] = field(default_factory=list)
    kind: str = "http-api"
    endpoint: str = "https://api.example/denoise"

    def ask(self, query: Pixels) -> Answer:
        self.asked.append(query)
        if len(self.asked) - 1 in self.refusing:
            return Answer(None, b'{"error": "not a photo"}', "application/json", 422)
        return self.suspect.ask(query)


def registered(owner: Owner, scheme: TriggerKey, folder: Path, decoder: Decoder | None = None) -> Key:
    """Return a key with a registration, embedded nowhere."""
    public = scheme.public(Contract(1, 1))
    key = Key.create(owner, public, scheme.leaves, decoder=decoder or scheme.decoder, log2_n=10)
    (folder / "w").write_bytes(b"weights")
    info = {"name": "x", "version": "1", "task": "denoise", "input": "u8", "output": "u8"}
    registration = register(owner, key, [("w", folder / "w")], info)
    return replace(key, extras={"registration": registration.envelope})


@pytest.fixture(scope="module")
def stranger() -> Owner:
    """Somebody else."""
    return Owner("Mallory", Ed25519PrivateKey.generate())


@pytest.fixture(scope="module")
def strangers_key(stranger: Owner, quick: TriggerKey, tmp_path_factory: pytest.TempPathFactory) -> Key:
    """A registered key of another owner."""
    return registered(stranger, quick, tmp_path_factory.mktemp("stranger"))


@pytest.fixture(scope="module")
def verdict(protected: Protected) -> Verdict:
    """One query to the marked model, called a vendor's."""
    return mg.verify(protected.model, protected.key, label="vendor X")


@pytest.fixture(scope="module")
def made(verdict: Verdict, owner: Owner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle; tests change copies of it."""
    folder = tmp_path_factory.mktemp("made") / "evidence"
    verdict.certify(owner, folder)
    return folder


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    """A copy of the bundle."""
    return Path(shutil.copytree(made, tmp_path / "evidence"))


# --- protect


def test_the_given_model_is_left_as_it_was(
    protected: Protected, unmarked: nn.Module, given_weights: dict[str, Tensor]
) -> None:
    state = unmarked.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in given_weights.items())
    assert all(module.training for module in unmarked.modules())
    assert not any(p.requires_grad for p in unmarked.parameters())
    shared = {p.data_ptr() for p in unmarked.parameters()}
    assert not shared & {p.data_ptr() for p in protected.model.parameters()}


def test_the_marked_model_is_of_the_same_make(protected: Protected, unmarked: nn.Module) -> None:
    assert type(protected.model) is type(unmarked)
    assert not any(module.training for module in protected.model.modules())
    assert not any(p.requires_grad for p in protected.model.parameters())
    one, two = protected.model.state_dict(), unmarked.state_dict()
    assert {k: (v.shape, v.dtype) for k, v in one.items()} == {k: (v.shape, v.dtype) for k, v in two.items()}
    assert any(not torch.equal(one[name], two[name]) for name in one)


def test_the_report_says_what_it_cost(protected: Protected, quick: TriggerKey) -> None:
    report = protected.report
    assert report.log10_p < -6
    assert report.log10_p_unmarked == 0
    assert report.images == 1
    assert abs(report.psnr_after - report.psnr_before) < 5
    assert report.embedding.steps == quick.steps
    assert 0 < report.embedding.seconds < report.seconds < 120
    assert f"{report.psnr_before:.2f} dB before" in str(report)
    assert "all trials counted" in str(report)


def test_the_registration_is_of_these_weights_and_this_scheme(protected: Protected, owner: Owner) -> None:
    fields, dumped = protected.registration.fields, weights.dump_state(protected.model)
    (file,) = fields["model"]["manifest"]["files"]
    assert file["sha256"] == hashlib.sha256(dumped).hexdigest()
    assert file["size"] == len(dumped)
    assert fields["model"]["name"] == "tiny"
    assert fields["model"]["task"] == "GaussianNoise(sigma=25)"
    assert fields["model"]["input"] == "u8 gray HxW"
    assert protected.registration.scheme == {**keyed_cells.public(channels=1, scale=1), "perQuery": 2}
    assert protected.registration.owner == owner.public
    assert protected.registration.salt() == protected.key.salt


def test_images_may_be_a_folder_or_tensors(
    tmp_path: Path, owner: Owner, photos: ImageSet, make_photo: Callable[..., Tensor], quick: TriggerKey
) -> None:
    small = replace(quick, leaves=2, steps=80)
    for number in range(3):
        write_image(tmp_path / f"{number}.png", make_photo(number, 3, 70, 70))
    colour = mg.protect(DnCNN(3, 3, 16, batch_norm=False), small, data=tmp_path, owner=owner, stretch=10)
    assert colour.key.scheme["channels"] == 3
    grey = mg.protect(
        DnCNN(3, 1, 16, batch_norm=False), small, data=list(photos), test=photos, owner=owner, stretch=10
    )
    assert grey.key.scheme["channels"] == 1
    assert grey.report.images == 6


class Chatty(GaussianNoise):
    """A task whose repr is many lines."""

    def __repr__(self) -> str:
        return "Chatty(\n  sigma=25,\n)" + " and so on" * 200


def test_any_task_fits_the_record(photos: ImageSet, owner: Owner, quick: TriggerKey) -> None:
    host = DnCNN(3, 1, 16, batch_norm=False)
    small = replace(quick, leaves=2, steps=80)
    protected = mg.protect(host, small, data=photos, owner=owner, task=Chatty(25), stretch=10)
    task = protected.registration.fields["model"]["task"]
    assert task.startswith("Chatty( sigma=25, ) and so on")
    assert len(task) == 200


class Untouchable(nn.Module):
    """A model that must not be trained: it fails in training mode or with gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.net = DnCNN(3, 1, 8, batch_norm=False)

    def forward(self, image: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        return self.net(image)


@pytest.mark.parametrize("text", ["", "two\nlines", "x" * 2000])
@pytest.mark.parametrize("which", ["name", "version"])
def test_a_name_no_record_can_hold_is_refused_before_training(
    which: str, text: str, photos: ImageSet, owner: Owner, quick: TriggerKey
) -> None:
    with pytest.raises(InputError, match=which):
        mg.protect(Untouchable(), quick, data=photos, owner=owner, stretch=2, **{which: text})


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"data": "no/such/folder"}, InputError, "no folder"),
        ({"data": [torch.rand(1, 64, 64)]}, InputError, "1 image is too few"),
        ({"data": [torch.full((1, 64, 64), 255.0)] * 3}, InputError, "divide 8-bit images by 255"),
        ({"data": [torch.rand(3, 64, 64)] * 3}, ModelContractError, "channels"),
        ({"data": [torch.rand(1, 12, 12)] * 3}, InputError, "patches need 16"),
        ({"task": Downscale(2)}, InputError, "task"),
        ({"model": nn.Identity()}, ModelContractError, "no parameters"),
        ({"model": nn.Conv2d(1, 1, 3)}, ModelContractError, "px came back"),
        ({"model": nn.Conv2d(1, 4, 1)}, ModelContractError, "came back as"),
    ],
)
def test_bad_input_is_named(
    change: dict[str, Any],
    error: type[Exception],
    says: str,
    photos: ImageSet,
    owner: Owner,
    quick: TriggerKey,
) -> None:
    arguments = {"model": DnCNN(3, 1, 8), "data": photos, **change}
    with pytest.raises(error) as caught:
        mg.protect(arguments.pop("model"), quick, owner=owner, stretch=2, **arguments)
    assert says in caught.value.diagnostics()  # type: ignore[attr-defined]


def test_a_model_that_answers_with_nan_is_refused(photos: ImageSet, owner: Owner, quick: TriggerKey) -> None:
    host = DnCNN(3, 1, 8)
    with torch.no_grad():
        host.body[0].bias.fill_(math.nan)  # type: ignore[union-attr, operator]
    with pytest.raises(ModelContractError, match="NaN"):
        mg.protect(host, quick, data=photos, owner=owner, stretch=2)


def test_a_mark_that_did_not_take_is_an_error(photos: ImageSet, owner: Owner, quick: TriggerKey) -> None:
    with pytest.raises(EmbeddingError, match="too weak") as caught:
        mg.protect(DnCNN(3, 1, 8), replace(quick, steps=1), data=photos, owner=owner, stretch=2)
    assert "more steps" in caught.value.remedy


# --- deployment


def test_saved_weights_verify_with_the_saved_key(protected: Protected, tmp_path: Path) -> None:
    folder = protected.save(tmp_path / "out" / "protected", PASSPHRASE)
    names = {"model.safetensors", "key.mgkey", "registration.dsse.json", "report.txt"}
    assert {path.name for path in folder.iterdir()} == names
    assert [path.name for path in folder.parent.iterdir()] == ["protected"]
    fresh = DnCNN(depth=3, width=24, batch_norm=False)
    weights.load_state(fresh, (folder / "model.safetensors").read_bytes())
    verdict = mg.verify(fresh, folder / "key.mgkey", passphrase=PASSPHRASE)
    assert verdict.match
    assert (folder / "report.txt").read_text() == f"{protected.report}\n"
    assert (folder / "key.mgkey").stat().st_mode & 0o077 == 0
    with pytest.raises(WrongPassphraseError):
        mg.verify(fresh, folder / "key.mgkey", passphrase="guess")


def test_nothing_is_written_half(
    protected: Protected, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MODELGUARD_PASSPHRASE", raising=False)
    with pytest.raises(InputError, match="passphrase"):
        protected.save(tmp_path / "protected")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "protected").mkdir()
    with pytest.raises(InputError, match="exists already"):
        protected.save(tmp_path / "protected", PASSPHRASE)
    assert list((tmp_path / "protected").iterdir()) == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_half_precision_copy_is_found(protected: Protected, dtype: torch.dtype) -> None:
    assert mg.verify(copy.deepcopy(protected.model).to(dtype), protected.key).match


@pytest.mark.parametrize("channel", [Jpeg(75), Jpeg(50), Resize(0.5), Noise(5)], ids=repr)
def test_a_copy_behind_a_channel_is_found(protected: Protected, channel: nn.Module) -> None:
    assert mg.verify(ModuleSuspect(protected.model, channel), protected.key, queries=2).match


# --- verify


def test_a_copy_matches(verdict: Verdict, protected: Protected) -> None:
    assert verdict.match
    assert verdict.outcome == "match"
    assert verdict.test.bits == 128
    assert verdict.test.matches > 115
    assert verdict.log10_p_adj == verdict.multiplicity.adjust(verdict.test.log10_p) < -6
    assert verdict.multiplicity == Multiplicity(1, 1, 70 + 4)
    assert (verdict.queries, verdict.refused, verdict.alpha) == (1, 0, 1e-6)
    assert verdict.suspect == SuspectInfo("vendor X", "module", "DnCNN")
    assert verdict.registration.record_id == protected.registration.record_id
    assert str(verdict).startswith(f"match: {verdict.test.matches}/128 bits agree")


def test_an_innocent_model_is_never_called_innocent(protected: Protected, unmarked: nn.Module) -> None:
    verdict = mg.verify(unmarked, protected.key)
    assert not verdict.match
    assert verdict.outcome == "inconclusive"
    assert str(verdict).startswith("inconclusive: ")
    assert "innocent" not in str(verdict)


def test_another_owners_key_does_not_match(
    strangers_key: Key, protected: Protected, unmarked: nn.Module
) -> None:
    for model in (protected.model, unmarked):
        verdict = mg.verify(model, strangers_key, queries=3)
        assert not verdict.match
        assert verdict.test.log10_p > -6


def blur(image: Pixels) -> Pixels:
    plane = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()
    return F.avg_pool2d(plane, 3, 1, 1).round().to(torch.uint8)[0].permute(1, 2, 0).numpy()


SERVICES: dict[str, Callable[[Pixels], Pixels]] = {
    "identity": lambda image: image,
    "blur": blur,
    "grey": lambda image: np.full_like(image, 128),
    "noise": lambda image: np.random.default_rng(0).integers(0, 256, image.shape, np.uint8),
    "inverting": lambda image: 255 - image,
    "half size": lambda image: image[::2, ::2],
    "mirror": lambda image: image[:, ::-1],
}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_without_the_model_never_matches(name: str, protected: Protected) -> None:
    verdict = mg.verify(SERVICES[name], protected.key, queries=3)
    assert not verdict.match
    assert verdict.test.log10_p > -6


def test_more_queries_ask_more_leaves_and_tell_more(protected: Protected, verdict: Verdict) -> None:
    counted = Counted(ModuleSuspect(protected.model))
    more = mg.verify(counted, protected.key, queries=3)
    assert more.test.bits == 3 * 128
    assert len(counted.asked) == 3
    assert more.log10_p_adj < 2 * verdict.log10_p_adj
    leaves = [leaf for line in more.transcript.lines for leaf in line.leaves]
    assert sorted(leaves) == list(range(6))
    with pytest.raises(InputError, match="8 leaves wanted, 6 unopened"):
        mg.verify(counted, protected.key, queries=4)


def test_trials_are_counted(protected: Protected, verdict: Verdict) -> None:
    many = mg.verify(protected.model, protected.key, suspects=1000, registrations=10)
    assert many.multiplicity == Multiplicity(1000, 10, 70 + 4)  # 15 sets of two leaves among six
    assert many.log10_p_adj == pytest.approx(many.test.log10_p + 4 + 74 * math.log10(2))


def test_a_level_is_kept(protected: Protected) -> None:
    verdict = mg.verify(protected.model, protected.key, alpha=1e-300)
    assert verdict.outcome == "inconclusive"


def test_a_refused_query_is_counted_and_proves_nothing(protected: Protected) -> None:
    counted = Counted(ModuleSuspect(protected.model), refusing=[1])
    verdict = mg.verify(counted, protected.key, queries=2)
    assert (verdict.queries, verdict.refused) == (2, 1)
    assert verdict.test.bits == 256
    assert 115 < verdict.test.matches <= 128
    assert verdict.match
    assert "1 refused" in str(verdict)
    assert [line.status for line in verdict.transcript.lines] == [200, 422]
    assert verdict.suspect.endpoint == "https://api.example/denoise"


def test_a_suspect_that_refuses_everything_is_an_error(protected: Protected) -> None:
    with pytest.raises(SuspectError, match="refused all 2"):
        mg.verify(Counted(ModuleSuspect(protected.model), [0, 1]), protected.key, queries=2)


def test_a_suspect_that_fails_is_an_error(protected: Protected) -> None:
    def broken(image: Pixels) -> Pixels:
        raise TimeoutError("no route to host")

    with pytest.raises(SuspectError, match="no route to host"):
        mg.verify(broken, protected.key)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"alpha": 0}, "alpha"),
        ({"alpha": 1}, "alpha"),
        ({"alpha": math.nan}, "alpha"),
        ({"queries": 0}, "queries"),
        ({"suspects": 0}, "suspects"),
        ({"registrations": 0}, "registrations"),
        ({"label": "two\nlines"}, "label"),
        ({"key": "no/such/key"}, "no/such/key"),
    ],
)
def test_nobody_is_asked_for_nothing(change: dict[str, Any], says: str, protected: Protected) -> None:
    counted = Counted(ModuleSuspect(protected.model))
    with pytest.raises(InputError, match=says):
        mg.verify(counted, **{"key": protected.key, "passphrase": PASSPHRASE, **change})
    assert counted.asked == []


def test_a_key_without_its_registration_is_refused(protected: Protected) -> None:
    with pytest.raises(InputError, match="no registration"):
        mg.verify(protected.model, replace(protected.key, extras={}))


def test_a_key_of_another_decoder_is_refused(
    protected: Protected, owner: Owner, quick: TriggerKey, tmp_path: Path
) -> None:
    key = registered(owner, quick, tmp_path, Decoder("mg.cell-correlation/1", "0" * 64))
    with pytest.raises(EvidenceError, match="decoder"):
        mg.verify(protected.model, key)


def test_a_transcript_is_kept_where_it_was_asked_for(protected: Protected, tmp_path: Path) -> None:
    verdict = mg.verify(protected.model, protected.key, transcript=tmp_path / "session")
    assert len(Transcript(tmp_path / "session").lines) == 1
    assert verdict.transcript.folder == tmp_path / "session"
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match="exists already"):
        mg.verify(protected.model, protected.key, transcript=tmp_path / "other")


def test_a_temporary_transcript_goes_with_its_verdict(
    protected: Protected, recwarn: pytest.WarningsRecorder
) -> None:
    verdict = mg.verify(protected.model, protected.key)
    folder = verdict.transcript.folder
    assert folder.is_dir()
    del verdict
    gc.collect()
    assert not folder.exists()
    assert [str(one.message) for one in recwarn if one.category is ResourceWarning] == []


# --- certify and check


def test_a_certificate_is_checked_by_anyone(made: Path, verdict: Verdict, owner: Owner) -> None:
    checked = mg.check(made, [owner.public])
    assert checked.verdict == "match"
    assert checked.log10_p == verdict.test.log10_p
    assert checked.log10_p_adj == verdict.log10_p_adj
    assert (checked.bits, checked.matches) == (verdict.test.bits, verdict.test.matches)
    assert checked.suspect.label == "vendor X"
    assert checked.owner == "Acme Imaging"
    assert checked.mode == "self"
    assert "depend on the key" in checked.statement


def test_the_reader_counts_his_own_trials(made: Path, owner: Owner) -> None:
    plain, strict = mg.check(made, [owner.public]), mg.check(made, [owner.public], suspects=10**15)
    assert strict.log10_p_adj == pytest.approx(min(0, plain.log10_p_adj + 15))
    assert strict.verdict == "inconclusive"


def test_a_witness_signs_for_himself(verdict: Verdict, owner: Owner, stranger: Owner, tmp_path: Path) -> None:
    checked = verdict.certify(stranger, tmp_path / "evidence", mode="witness")
    assert checked.examiner == "Mallory"
    owner.save_public(tmp_path / "owner.pem")
    again = mg.check(tmp_path / "evidence", [tmp_path / "owner.pem", stranger.public])
    assert (again.mode, again.verdict) == ("witness", "match")
    for wrong in ("self", "arbiter"):  # an arbiter never holds the key
        with pytest.raises(EvidenceError, match="mode"):
            verdict.certify(stranger, tmp_path / "another", mode=wrong)
    assert not (tmp_path / "another").exists()


def test_declared_trials_are_in_the_certificate(protected: Protected, owner: Owner, tmp_path: Path) -> None:
    verdict = mg.verify(protected.model, protected.key, suspects=100)
    checked = verdict.certify(owner, tmp_path / "evidence")
    assert checked.multiplicity == verdict.multiplicity == Multiplicity(100, 1, 70 + 4)
    assert checked.log10_p_adj == verdict.log10_p_adj


def test_refusals_are_certified_too(protected: Protected, owner: Owner, tmp_path: Path) -> None:
    verdict = mg.verify(Counted(ModuleSuspect(protected.model), [0]), protected.key, queries=2)
    checked = verdict.certify(owner, tmp_path / "evidence")
    assert (checked.bits, checked.matches) == (256, verdict.test.matches)
    assert mg.check(tmp_path / "evidence", [owner.public]).log10_p_adj == verdict.log10_p_adj


def test_an_inconclusive_session_is_certified_as_such(
    protected: Protected, unmarked: nn.Module, owner: Owner, tmp_path: Path
) -> None:
    mg.verify(unmarked, protected.key).certify(owner, tmp_path / "evidence")
    checked = mg.check(tmp_path / "evidence", [owner.public])
    assert checked.verdict == "inconclusive"
    assert "do not show" in checked.statement


def test_a_bundle_is_written_once(verdict: Verdict, owner: Owner, made: Path) -> None:
    with pytest.raises(InputError, match="exists already"):
        verdict.certify(owner, made)


def test_only_the_readers_own_trust_counts(made: Path, stranger: Owner) -> None:
    with pytest.raises(SignatureError):
        mg.check(made, [stranger.public])
    with pytest.raises(InputError, match="trust"):
        mg.check(made, [])
    with pytest.raises(InputError, match=r"nobody\.pem"):
        mg.check(made, ["nobody.pem"])


def test_no_file_of_a_bundle_can_be_changed(bundle: Path, owner: Owner) -> None:
    files = [path for path in bundle.rglob("*") if path.is_file()]
    assert len(files) == 4
    for path in files:
        good = path.read_bytes()
        for place in (len(good) // 3, len(good) - 2):
            path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
            with pytest.raises(EvidenceError) as caught:
                mg.check(bundle, [owner.public])
            assert caught.value.remedy
        path.write_bytes(good)
    assert mg.check(bundle, [owner.public]).verdict == "match"


def test_a_claim_made_stronger_does_not_pass(bundle: Path, owner: Owner) -> None:
    path = bundle / "certificate.dsse.json"
    envelope = json.loads(path.read_bytes())
    statement = json.loads(b64decode(envelope["payload"]))
    statement["predicate"]["result"]["matches"] = 128
    envelope["payload"] = b64encode(json.dumps(statement).encode()).decode()
    path.write_bytes(json.dumps(envelope).encode())
    with pytest.raises(SignatureError):
        mg.check(bundle, [owner.public])


def test_no_bundle_there_is_an_error(tmp_path: Path, owner: Owner) -> None:
    with pytest.raises(EvidenceError):
        mg.check(tmp_path / "nothing", [owner.public])


def test_more_leaves_in_a_query_than_registered_is_no_evidence(
    protected: Protected, owner: Owner, tmp_path: Path
) -> None:
    """An examiner with code of his own packs four leaves where two are registered."""
    key, loose = protected.key, {**protected.key.scheme, "perQuery": 4}
    session = Session.draw(protected.registration, SuspectInfo("x", "module", "x"), 4)
    transcript = Transcript.create(tmp_path / "session", session)
    leaves = session.leaves(protected.registration)
    query = keyed_cells.trigger(loose, [key.leaf(leaf)[0] for leaf in leaves], key.salt)
    answer = ModuleSuspect(protected.model).ask(query)
    transcript.add("trigger", query, leaves=leaves, decoded=answer.image)
    certify(
        tmp_path / "evidence",
        registration=protected.registration,
        key=key,
        transcript=transcript,
        examiner=owner,
        mode="self",
        trigger=lambda _, *rest: keyed_cells.trigger(loose, *rest),
        bits=keyed_cells.bits,
        decode=lambda _, *rest: keyed_cells.decode(loose, *rest),
        multiplicity=Multiplicity(1, 1, 0),
    )
    with pytest.raises(MalformedEvidenceError, match="4 leaves in one query"):
        mg.check(tmp_path / "evidence", [owner.public])


# --- leaves that were opened


def test_burnt_leaves_are_not_asked_again(
    protected: Protected, verdict: Verdict, made: Path, owner: Owner, tmp_path: Path
) -> None:
    opened = mg.check(made, [owner.public]).leaves
    assert len(opened) == 2
    protected.key.burn(opened).save(tmp_path / "key.mgkey", PASSPHRASE)
    key = Key.load(tmp_path / "key.mgkey", PASSPHRASE)
    for _ in range(4):
        again = mg.verify(protected.model, key)
        leaves = {leaf for line in again.transcript.lines for leaf in line.leaves}
        assert not leaves & set(opened)
        assert again.match
        assert again.multiplicity.grind_bits == 70 + 7  # 15 sets of two among six, 6 among the other four
    checked = again.certify(owner, tmp_path / "evidence")
    assert mg.check(tmp_path / "evidence", [owner.public]).log10_p_adj == again.log10_p_adj
    last = key.burn(checked.leaves)
    mg.verify(protected.model, last)
    with pytest.raises(InputError, match="2 unopened"):
        mg.verify(protected.model, last, queries=2)


# --- secrets


def forms(secret: bytes) -> Iterator[bytes]:
    """Yield a secret as it might be written, Base64 at each of the three alignments."""
    yield from (secret, secret.hex().encode(), secret.hex().upper().encode())
    for shift in range(3):
        yield b64encode(bytes(shift) + secret)[4:-4]


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield path.name, path.read_bytes()
            if path.name.endswith(".dsse.json"):
                yield path.name, b64decode(json.loads(path.read_bytes())["payload"])


def test_no_file_holds_a_secret_that_was_not_opened(
    protected: Protected, made: Path, owner: Owner, tmp_path: Path
) -> None:
    shutil.copytree(made, tmp_path / "all" / "evidence")
    protected.save(tmp_path / "all" / "protected", PASSPHRASE)
    mg.verify(protected.model, protected.key, transcript=tmp_path / "all" / "session")
    key = protected.key
    secrets = {
        "master": key.master,
        "passphrase": PASSPHRASE.encode(),
        "owner": owner._key.private_bytes_raw(),
        **{f"x_K {leaf}": key.leaf(leaf)[0] for leaf in range(6)},
        **{f"x_b {leaf}": key.leaf(leaf)[1] for leaf in range(6)},
    }
    files = dict.fromkeys(name for name, _ in contents(tmp_path / "all"))
    assert len(files) >= 9
    found = {
        (file, name)
        for file, data in contents(tmp_path / "all")
        for name, secret in secrets.items()
        if any(form in data for form in forms(secret))
    }
    opened = mg.check(made, [owner.public]).leaves
    assert {name for _, name in found} == {f"x_{kind} {leaf}" for kind in "Kb" for leaf in opened}
    assert {file for file, _ in found} == {"certificate.dsse.json"}


def test_nothing_printed_holds_a_secret(protected: Protected, verdict: Verdict) -> None:
    secrets = [protected.key.master, protected.key.salt, *protected.key.leaf(0)]
    text = f"{protected!r} {verdict!r} {verdict} {protected.report}".encode()
    assert b"Key(scheme=" in text
    assert not any(form in text for secret in secrets for form in [*forms(secret), repr(secret).encode()])
