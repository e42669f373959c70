"""The second verb: ask a suspect, and say how surprising its answers would be without the secret key."""

from __future__ import annotations

import random
import shutil
import tempfile
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from torch import nn

from modelguard._files import check_new
from modelguard.certifying import certify, registration_of
from modelguard.errors import BudgetError, InputError, SuspectError
from modelguard.evidence import (
    CheckedEvidence,
    Key,
    Line,
    Owner,
    Registration,
    Session,
    SuspectInfo,
    TimestampAuthority,
    Transcript,
    needed_grind_bits,
)
from modelguard.evidence.transcript import INTERRUPTED, SESSION_FILE
from modelguard.schemes import PhotoReader, Reader, TriggerReader, reader_of
from modelguard.statistics import Multiplicity, SignTest, sign_test
from modelguard.suspects import FolderSuspect, Interview, Pacing, Suspect, as_suspect, describe, write_queries
from modelguard.suspects.base import Pixels
from modelguard.suspects.cover import cover_photos, cover_query
from modelguard.suspects.photos import PhotoQueries, Photos

Outcome = Literal["match", "inconclusive", "obstructed"]
_MOST_TRIGGERS, _FEW_ORDINARY = 0.5, 0.1
_Read = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Verdict:
    """What a suspect's answers show.

    Attributes:
        outcome: "match" if the adjusted p-value is at most alpha, else "inconclusive" (never "innocent"), or
            "obstructed" if more than half of the triggers but fewer than a tenth of the ordinary photos were
            refused.
        test: the exact sign test: bits, agreeing bits, statistic, exact tail.
        log10_p_adj: log10 of the p-value with all declared trials counted.
        alpha: the level asked for.
        multiplicity: the declared trials, and what being free to stop early costs.
        queries: triggers put to the suspect, or photos if the mark is read from photos.
        refused: of those, how many it refused to the end; they carry no evidence.
        suspect: who was asked.
        key: with which key.
        registration: the public record of that key.
        transcript: what was asked and answered.
        ordinary: ordinary photos put to it.
        ordinary_refused: photos it refused to the end.
        converted: answers that were brought to the registered 8 bits or channels.
    """

    outcome: Outcome
    test: SignTest
    log10_p_adj: float
    alpha: float
    multiplicity: Multiplicity
    queries: int
    refused: int
    suspect: SuspectInfo
    key: Key
    registration: Registration
    transcript: Transcript
    ordinary: int = 0
    ordinary_refused: int = 0
    converted: int = 0

    @property
    def match(self) -> bool:
        """Whether the answers depend on the key at the level asked for."""
        return self.outcome == "match"

    def __str__(self) -> str:
        """Return the verdict as one line for people."""
        refused = f", {self.refused} refused" if self.refused else ""
        photos = (
            f", {self.ordinary} ordinary photos, {self.ordinary_refused} refused" if self.ordinary else ""
        )
        converted = f", {self.converted} answers converted" if self.converted else ""
        return (
            f"{self.outcome}: {self.test.matches}/{self.test.bits} bits agree, "
            f"p <= 10^{self.log10_p_adj:.1f} with all trials counted, "
            f"{self.queries} queries{refused}{photos}{converted}"
        )

    def certify(
        self,
        examiner: Owner,
        folder: str | Path,
        mode: str = "self",
        tsa: TimestampAuthority | None = None,
    ) -> CheckedEvidence:
        """Write signed evidence of this session; see `modelguard.certifying.certify`."""
        return certify(
            self.transcript,
            self.key,
            examiner,
            folder,
            mode=mode,
            suspects=self.multiplicity.suspects,
            registrations=self.multiplicity.registrations,
            tsa=tsa,
        )


def verify(
    suspect: Suspect | nn.Module | Callable[..., object] | str | Path,
    key: Key | str | Path,
    *,
    alpha: float = 1e-6,
    queries: int | None = None,
    suspects: int = 1,
    registrations: int = 1,
    label: str | None = None,
    transcript: str | Path | None = None,
    passphrase: str | None = None,
    sequential: bool = False,
    pacing: Pacing | None = None,
    cover: str | Path | None = None,
    photos: Photos | None = None,
    progress: Callable[[str], None] | None = None,
) -> Verdict:
    """Ask a suspect service whether it runs a model marked with `key`.

    Args:
        suspect: an nn.Module, a callable that takes and returns an 8-bit image, the http(s) address or TOML
            file of a service, an ONNX file, a folder of stored answers, or any `Suspect`.
        key: the owner's key, or its file.
        alpha: level of the verdict, after all trials are counted.
        queries: how many triggers to send, 1 unless said; each asks as many leaves as the key's scheme packs
            into one. Or how many photos, 16 unless said (3 of waves). Stored answers and resumed sessions
            have theirs.
        suspects: how many suspects are examined in all with this key; each counts as a trial.
        registrations: how many registrations the owner could have used.
        label: name of the suspect in the record.
        transcript: folder of the session: a new one, or one of the same key and suspect, which is resumed and
            asks nothing twice. None keeps it in a temporary one until the verdict goes.
        passphrase: of the key file.
        sequential: look after every query and stop as soon as `alpha` is reached; `queries` is the most that
            is asked. Declared in the session before the first question, and charged for in the p-value.
        pacing: how fast and how often is asked, and when to stop; default `Pacing()`.
        cover: folder of ordinary photos, asked between the triggers in random order; of a model of clips each
            is asked as a still clip.
        photos: ordinary photos to ask, a folder or an ImageSet, for a mark that is in every answer, such as
            `Barrier`; `queries` of them are chosen at random. A resumed session needs the same.
        progress: is told what happens, a line each.

    Raises:
        InputError: no key file there, no registration in it, an argument out of range, too few leaves, or a
            transcript of another session.
        WrongPassphraseError: the passphrase does not open the key file.
        BudgetError: the pacing allowed too little for a session that is not sequential; resume it.
        SuspectError: the suspect answered no question at all, or cannot be asked.
    """
    if isinstance(key, (str, Path)):
        key = Key.load(key, passphrase)
    if not 0 < alpha < 1:
        raise InputError(f"alpha: {alpha} is no level", "use a number between 0 and 1, such as 1e-6")
    asked = as_suspect(suspect)
    questions = _questions(key, photos, cover)
    say = progress or (lambda text: None)
    info = describe(asked, label or type(suspect).__name__)
    tally = _Tally(questions, alpha, Multiplicity(suspects, registrations, 0), info)
    verdict: Verdict | None = None
    with _open(transcript, asked, questions, info, queries, sequential) as written:
        tally.transcript = written
        interview = Interview(asked, written, pacing or Pacing(), say)
        for kind, query, leaves in questions.schedule(written.session):
            try:
                tally.add(kind, query, leaves, interview.put(kind, query, leaves))
            except BudgetError as error:
                if verdict is None:  # a look at a session with a fixed end would be one look too many
                    raise
                say(error.message)
                break
            if written.session.sequential and kind != "ordinary":
                verdict = tally.verdict()
                say(str(verdict))
                if verdict.match:
                    break
    verdict = tally.verdict()
    if verdict.refused == verdict.queries and verdict.outcome != "obstructed":
        why = f" (the last time: {interview.last_refusal})" if interview.last_refusal else ""
        raise SuspectError(
            f"suspect: it refused all {verdict.queries} queries{why}",
            "check its address and the image format it takes; then begin a new session",
        )
    return verdict


def export_queries(
    key: Key | str | Path,
    folder: str | Path,
    *,
    queries: int | None = None,
    cover: str | Path | None = None,
    photos: Photos | None = None,
    passphrase: str | None = None,
) -> Path:
    """Write the queries of a session as numbered PNG files, for somebody else to put to one or more suspects.

    Their answers go, under the same numbers and with the manifest beside them, into a folder for `verify`.

    Args:
        key: the owner's key, or its file.
        folder: new; gets 0001.png, 0002.png, ... and manifest.json.
        queries: how many triggers, 1 unless said, or photos, 16 unless said (3 of waves).
        cover: folder of ordinary photos that are mixed in; give `verify` the same.
        photos: ordinary photos to ask, for a mark that is in every answer; give `verify` the same.
        passphrase: of the key file.

    Raises:
        InputError: the folder exists, there is no key, or it has too few leaves.
        WrongPassphraseError: the passphrase does not open the key file.
    """
    check_new(folder)
    if isinstance(key, (str, Path)):
        key = Key.load(key, passphrase)
    questions = _questions(key, photos, cover)
    session = questions.draw(SuspectInfo("to be asked", "folder", "folder"), queries, sequential=False)
    questions.prepare(session)
    return write_queries(folder, session, (query for _, query, _ in questions.schedule(session)))


def _questions(key: Key, photos: Photos | None, cover: str | Path | None) -> _Questions:
    """Return how this key asks; refuse photos where it asks triggers, and the other way round."""
    registration = registration_of(key)
    reader = reader_of(registration)
    if isinstance(reader, PhotoReader):
        if photos is None:
            raise InputError(
                f"photos: a mark of {registration.scheme['id']} is read from answers to ordinary photos",
                "give a folder of photos",
            )
        if cover is not None:
            raise InputError("cover: a session of photos has no triggers to cover", "leave it out")
        return _Photos(key, registration, reader, photos)
    if photos is not None:
        raise InputError(
            f"photos: a mark of {registration.scheme['id']} is read from triggers",
            "leave them out; to ask photos between the triggers, give them as `cover`",
        )
    assert isinstance(reader, TriggerReader)
    return _Triggers(key, registration, reader, [] if cover is None else cover_photos(cover))


class _Questions(ABC):
    """What can be asked with a key, and how answers are read."""

    usual: int
    """How many queries are asked unless said."""

    def __init__(self, key: Key, registration: Registration, reader: Reader) -> None:
        self.key, self.registration, self.scheme = key, registration, registration.scheme
        self._bits = reader.bits

    def draw(self, info: SuspectInfo, queries: int | None, sequential: bool) -> Session:
        queries = self.usual if queries is None else queries
        if queries < 1:
            raise InputError(f"queries: {queries} is too few", "ask one or more")
        leaves, photos = self.size(queries)
        return Session.draw(self.registration, info, leaves, self.key.burnt, sequential, photos)

    def read(self, session: Session, query: Pixels, leaves: Sequence[int], image: Pixels | None) -> _Read:
        """Return the signs and scores of one question."""
        secrets = [self.key.leaf(leaf) for leaf in leaves or session.leaves(self.registration)]
        signs = np.concatenate([self._bits(self.scheme, secret, self.key.salt) for _, secret in secrets])
        if image is None:
            return signs, np.zeros(signs.shape, np.int64)
        return signs, self.decode([secret for secret, _ in secrets], query, image)

    @abstractmethod
    def size(self, queries: int) -> tuple[int, int]:
        """Return how many leaves and photos so many queries ask."""

    @abstractmethod
    def prepare(self, session: Session, lines: Sequence[Line] = ()) -> None:
        """Get ready; raise InputError if the session cannot be asked, or not be gone on with."""

    @abstractmethod
    def schedule(self, session: Session) -> Iterator[tuple[str, Pixels, tuple[int, ...]]]:
        """Yield kind, query and the leaves that are in this query alone."""

    @abstractmethod
    def decode(self, secrets: Sequence[bytes], query: Pixels, image: Pixels) -> np.ndarray:
        """Return the scores of an answer; `secrets` are the x_K of its leaves."""

    @abstractmethod
    def joined(self, read: Sequence[_Read]) -> _Read:
        """Return the signs and scores that several questions give together."""


class _Triggers(_Questions):
    """Triggers, each for leaves of its own, and ordinary photos between them."""

    usual = 1

    def __init__(
        self, key: Key, registration: Registration, reader: TriggerReader, cover: Sequence[Path]
    ) -> None:
        super().__init__(key, registration, reader)
        self._reader, self._cover = reader, cover
        self._per_query, self._frames = int(self.scheme["perQuery"]), int(self.scheme.get("frames", 1))

    @cached_property
    def _shape(self) -> tuple[int, int, int]:
        """(H, W, C) of a full trigger."""
        height, width, channels = self._trigger(range(min(self._per_query, self.key.leaves))).shape
        return height, width, channels

    def _trigger(self, leaves: Sequence[int]) -> Pixels:
        return self._reader.trigger(self.scheme, [self.key.leaf(leaf)[0] for leaf in leaves], self.key.salt)

    def size(self, queries: int) -> tuple[int, int]:
        return queries * self._per_query, 0

    def prepare(self, session: Session, lines: Sequence[Line] = ()) -> None:
        pass

    def schedule(self, session: Session) -> Iterator[tuple[str, Pixels, tuple[int, ...]]]:
        """Yield triggers as the selection orders them, photos anywhere between."""
        leaves = session.leaves(self.registration)
        groups = iter([leaves[at : at + self._per_query] for at in range(0, len(leaves), self._per_query)])
        order: list[Path | None] = [None] * -(-len(leaves) // self._per_query) + list(self._cover)
        random.Random(session.nonce).shuffle(order)
        for photo in order:
            if photo is not None:
                height, width, channels = self._shape
                still = cover_query(photo, (height // self._frames, width, channels))
                yield "ordinary", np.tile(still, (self._frames, 1, 1)), ()
            else:
                group = next(groups)
                yield "trigger", self._trigger(group), group

    def decode(self, secrets: Sequence[bytes], query: Pixels, image: Pixels) -> np.ndarray:
        return self._reader.decode(self.scheme, secrets, self.key.salt, image)

    def joined(self, read: Sequence[_Read]) -> _Read:
        signs, scores = zip(*read, strict=True)
        return np.concatenate(signs), np.concatenate(scores)


class _Photos(_Questions):
    """Ordinary photos; the answer to each is read for the same leaves, and the scores are added."""

    def __init__(self, key: Key, registration: Registration, reader: PhotoReader, photos: Photos) -> None:
        super().__init__(key, registration, reader)
        self._reader, self._photos, self.usual = reader, photos, reader.PHOTOS

    def size(self, queries: int) -> tuple[int, int]:
        return int(self.scheme["perSession"]), queries

    def prepare(self, session: Session, lines: Sequence[Line] = ()) -> None:
        """Choose the photos; refuse others than those asked so far."""
        self._chosen = PhotoQueries(self._photos, self._reader.fitted, int(self.scheme["channels"]), session)
        self._chosen.check_begun(lines)

    def schedule(self, session: Session) -> Iterator[tuple[str, Pixels, tuple[int, ...]]]:
        for number in range(len(self._chosen)):
            yield "photo", self._chosen[number], ()

    def decode(self, secrets: Sequence[bytes], query: Pixels, image: Pixels) -> np.ndarray:
        return self._reader.decode_photo(self.scheme, secrets, self.key.salt, query, image)

    def joined(self, read: Sequence[_Read]) -> _Read:
        return read[0][0], np.sum([scores for _, scores in read], axis=0)


class _Tally:
    """Answers so far, and what they show."""

    transcript: Transcript

    def __init__(
        self, questions: _Questions, alpha: float, declared: Multiplicity, info: SuspectInfo
    ) -> None:
        self._questions, self._alpha, self._declared, self._info = questions, alpha, declared, info
        self._read: list[_Read] = []
        self._asked = {"trigger": 0, "photo": 0, "ordinary": 0}
        self._refused = {"trigger": 0, "photo": 0, "ordinary": 0}

    def add(self, kind: str, query: Pixels, leaves: Sequence[int], image: Pixels | None) -> None:
        self._asked[kind] += 1
        self._refused[kind] += image is None
        if kind != "ordinary":
            self._read.append(self._questions.read(self.transcript.session, query, leaves, image))

    def verdict(self) -> Verdict:
        registration, written = self._questions.registration, self.transcript
        signs, scores = self._questions.joined(self._read)
        test = sign_test(signs, scores, int(self._questions.scheme["levels"]))
        # whoever holds the key asks: what a witness signs is charged no more
        tried = needed_grind_bits(registration, written.session, written.lines, "self")
        counted = Multiplicity(self._declared.suspects, self._declared.registrations, tried)
        outcome: Outcome = "inconclusive"
        if test.p * counted.factor <= Fraction(str(self._alpha)):
            outcome = "match"
        elif self._obstructed():
            outcome = "obstructed"
        return Verdict(
            outcome,
            test,
            counted.adjust(test.log10_p),
            self._alpha,
            counted,
            self._asked["trigger"] + self._asked["photo"],
            self._refused["trigger"] + self._refused["photo"],
            self._info,
            self._questions.key,
            registration,
            written,
            self._asked["ordinary"],
            self._refused["ordinary"],
            sum(line.converted is not None for line in written.lines),
        )

    def _obstructed(self) -> bool:
        # a question cut off by a crash of ours is no refusal of the suspect
        cut = [line.kind for line in self.transcript.lines if line.status == INTERRUPTED]
        rates = {
            kind: (self._refused[kind] - cut.count(kind)) / max(asked, 1)
            for kind, asked in self._asked.items()
        }
        few = self._asked["ordinary"] > 0 and rates["ordinary"] < _FEW_ORDINARY
        return few and rates["trigger"] > _MOST_TRIGGERS


@contextmanager
def _open(
    folder: str | Path | None,
    asked: Suspect,
    questions: _Questions,
    info: SuspectInfo,
    queries: int | None,
    sequential: bool,
) -> Iterator[Transcript]:
    """Context with a new transcript, or the one in `folder` if it is of the session that is wanted."""
    stored = isinstance(asked, FolderSuspect)
    if stored and (sequential or queries is not None):
        raise InputError(
            "queries: stored answers have the number of queries they were written with",
            "leave out `queries` and `sequential`",
        )
    if folder is not None and (Path(folder) / SESSION_FILE).exists():
        there = Session.load(Path(folder) / SESSION_FILE)
        session = asked.session(info) if isinstance(asked, FolderSuspect) else there
        size = (session.count, session.photos) if queries is None else questions.size(queries)
        fixed = (questions.registration.record_id, info, session.nonce, size, sequential)
        found = (
            there.registration,
            there.suspect,
            there.nonce,
            (there.count, there.photos),
            there.sequential,
        )
        names = ("key", "suspect", "stored queries", "queries", "sequential")
        if different := [name for name, one, two in zip(names, fixed, found, strict=True) if one != two]:
            raise InputError(
                f"transcript: {folder} is of another session: another {', '.join(different)}",
                "resume it with the same arguments, or choose a new folder",
            )
        place = Path(folder)
    else:
        session = _new_session(asked, questions, info, queries, sequential)
        questions.prepare(session)
        place = (
            Path(tempfile.mkdtemp(prefix="modelguard-"))
            if folder is None
            else check_new(folder, "transcript")
        )
        Transcript.create(place, session, durable=folder is not None)
    with Transcript.resume(place, durable=folder is not None) as written:
        if written.lines:
            questions.prepare(session, written.lines)
        if folder is None:
            weakref.finalize(written, shutil.rmtree, place, ignore_errors=True)
        yield written


def _new_session(
    asked: Suspect, questions: _Questions, info: SuspectInfo, queries: int | None, sequential: bool
) -> Session:
    """Draw a session, or return that of stored answers."""
    if not isinstance(asked, FolderSuspect):
        return questions.draw(info, queries, sequential)
    session = asked.session(info)
    if session.registration != questions.registration.record_id:
        raise InputError(
            f"answers: {asked.folder} are to queries of another key", "give the key of their queries"
        )
    return session
