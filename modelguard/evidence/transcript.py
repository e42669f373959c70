"""What was asked and answered: a file that only grows, each line chained to all before it.

The first link binds the registration, the suspect and the selection of leaves, so a transcript cannot
be passed off as another suspect's or as one of another selection.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelguard._alone import alone
from modelguard._files import atomic_write_bytes
from modelguard.errors import EvidenceError, InputError, MalformedEvidenceError
from modelguard.evidence import records
from modelguard.evidence.blobs import (
    Array,
    array_digest,
    decode_png,
    encode_png,
    get_blob,
    put_blob,
    read_bounded,
)
from modelguard.evidence.key import select
from modelguard.evidence.registration import Registration

TRANSCRIPT_FILE = "transcript.jsonl"
SESSION_FILE = "session.json"
PENDING_FILE = "pending.json"
LOCK_FILE = "session.lock"
BLOB_FOLDER = "blobs"
MAX_LINE_BYTES = 1 << 16
MAX_TRANSCRIPT_BYTES = 64 << 20
INTERRUPTED = 499
"""Status of a question that was in the air when the session was cut off; it may have been answered."""
FIXED, SEQUENTIAL = "hash-nonce/1", "hash-nonce-sequential/1"

_KIND = records.one_of("trigger", "photo", "control", "ordinary")
_LINE = records.table(
    at=records.moment,
    kind=_KIND,
    request=records.digest,
    seq=records.integer(0, records.MAX_LINES - 1),
    status=records.integer(0, 999),
    optional={
        "leaves": records.leaf_list,
        "query": records.digest,
        "raw": records.digest,
        "rawType": records.text,
        "decoded": records.digest,
        "converted": records.text,
    },
)
_PENDING = records.table(
    seq=records.integer(0, records.MAX_LINES),
    kind=_KIND,
    request=records.digest,
    leaves=records.each(records.integer(0, records.MAX_LEAVES - 1), records.MAX_SELECTED, 0),
    optional={"query": records.digest},
)
_SESSION = records.table(registration=records.digest, suspect=records.suspect, selection=records.selection)


@dataclass(frozen=True)
class SuspectInfo:
    """Who is asked.

    Attributes:
        label: a name for people.
        kind: how it is reached, such as "http-api", "module", "onnx" or "folder".
        endpoint: where, such as a URL or a file name.
        model_digest: sha256 of its weights if they are at hand, else "unknown".
    """

    label: str
    kind: str
    endpoint: str
    model_digest: str = "unknown"

    def to_record(self) -> dict[str, str]:
        """Return the `suspect` field."""
        return {
            "label": self.label,
            "kind": self.kind,
            "endpoint": self.endpoint,
            "modelDigest": self.model_digest,
        }

    @classmethod
    def from_record(cls, record: dict[str, str]) -> SuspectInfo:
        """Read a checked `suspect` field."""
        return cls(record["label"], record["kind"], record["endpoint"], record["modelDigest"])


@dataclass(frozen=True)
class Session:
    """What is fixed before the first question; make it with `draw`.

    Attributes:
        registration: record id of the registration.
        suspect: who is asked.
        nonce: 32 fresh bytes that select the leaves.
        count: number of leaves; in a sequential session of triggers the most that may be asked.
        exclude: leaves used before.
        sequential: whether the session may stop at any line, which `looks_bits` then charges.
        photos: number of ordinary photos from whose answers all the leaves are read, in a sequential session
            the most; 0 for a session of triggers.
    """

    registration: str
    suspect: SuspectInfo
    nonce: bytes
    count: int
    exclude: tuple[int, ...] = ()
    sequential: bool = False
    photos: int = 0

    @classmethod
    def draw(
        cls,
        registration: Registration,
        suspect: SuspectInfo,
        count: int,
        exclude: Collection[int] = (),
        sequential: bool = False,
        photos: int = 0,
    ) -> Session:
        """Draw the nonce of a new session.

        Args:
            registration: of the model that is looked for.
            suspect: who will be asked.
            count: number of leaves to open, each giving as many bits as the scheme has cells.
            exclude: leaves used before (`key.burnt`).
            sequential: whether the session may stop early; `count` is then the most it may ask.
            photos: how many photos will be asked, if the leaves are read from photos.

        Raises:
            InputError: fewer than `count` leaves are left, or a text of `suspect` is no line of text.
        """
        left_out, nonce = tuple(sorted(set(exclude))), secrets.token_bytes(32)
        session = cls(registration.record_id, suspect, nonce, count, left_out, sequential, photos)
        session.leaves(registration)
        return session.checked()

    def checked(self) -> Session:
        """Return the session itself.

        Raises:
            InputError: a text of `suspect` is no line of text, or a number is out of range.
        """
        try:
            _SESSION("session", self.to_record())
        except MalformedEvidenceError as error:
            raise InputError(error.message, "see the arguments of Session.draw") from None
        return self

    def leaves(self, registration: Registration) -> tuple[int, ...]:
        """Return the selected leaves in the order in which they are asked."""
        return select(registration.root, self.nonce, registration.leaves, self.count, self.exclude)

    def asked(self, registration: Registration, lines: Sequence[Line]) -> tuple[int, ...]:
        """Return the leaves on which the result rests: all selected, of sequential triggers those asked."""
        leaves = self.leaves(registration)
        if not self.sequential or self.photos:
            return leaves
        return leaves[: len({leaf for line in lines for leaf in line.leaves})]

    def looks_bits(self, lines: Sequence[Line]) -> int:
        """Return log2, rounded up, of what being free to stop after any line costs; 0 if the end was fixed.

        A sequential session with j lines of triggers or photos pays j (j + 1). The sum of 1 / (j (j + 1))
        over all j is 1, so the exact test may be taken after every line, and the session stopped and resumed
        at will, as long as nothing but the stopping depends on the bits (Bonferroni over looks, "alpha
        spending").
        """
        looks = sum(line.kind in ("trigger", "photo") for line in lines) if self.sequential else 0
        return max(looks * (looks + 1) - 1, 0).bit_length()

    def to_record(self) -> dict[str, Any]:
        """Return the session as JSON."""
        return {
            "registration": self.registration,
            "suspect": self.suspect.to_record(),
            "selection": {
                "rule": SEQUENTIAL if self.sequential else FIXED,
                "nonce": self.nonce.hex(),
                "count": self.count,
                "exclude": list(self.exclude),
                **({"photos": self.photos} if self.photos else {}),
            },
        }

    @classmethod
    def from_record(cls, registration: str, suspect: dict[str, str], selection: dict[str, Any]) -> Session:
        """Read checked `registration`, `suspect` and `selection` fields."""
        nonce = bytes.fromhex(selection["nonce"])
        exclude = tuple(selection["exclude"])
        who, sequential = SuspectInfo.from_record(suspect), selection["rule"] == SEQUENTIAL
        photos = selection.get("photos", 0)
        return cls(registration, who, nonce, selection["count"], exclude, sequential, photos)

    @classmethod
    def load(cls, path: str | Path) -> Session:
        """Read the `session.json` of a transcript.

        Raises:
            EvidenceError: the file cannot be read.
            MalformedEvidenceError: it breaks the format.
        """
        session = records.loads(read_bounded(Path(path), records.MAX_JSON_BYTES))
        _SESSION("session", session)
        return cls.from_record(**session)

    def first_link(self) -> bytes:
        """Return the start of the hash chain."""
        record = self.to_record()
        digests = (hashlib.sha256(records.dumps(record[name])).digest() for name in ("suspect", "selection"))
        message = b"modelguard/v1/transcript\x00" + bytes.fromhex(self.registration) + b"".join(digests)
        return hashlib.sha256(message).digest()


@dataclass(frozen=True)
class Line:
    """One question and its answer; a refusal has no `decoded`.

    Attributes:
        seq: position in the transcript.
        at: when the answer came, RFC 3339 in UTC.
        kind: "trigger", "photo" (read for the mark), "control" or "ordinary".
        request: `array_digest` of the image asked.
        status: HTTP status; 200 for an answer of a local model.
        leaves: for a trigger, the leaves in its mosaic, in order.
        raw: digest of the answer's bytes, if it came as bytes.
        raw_type: media type of these bytes.
        decoded: digest of the answer as PNG.
        converted: what was changed to bring the answer to the registered contract, in words.
        query: for a photo, digest of the image asked as PNG.
    """

    seq: int
    at: str
    kind: str
    request: str
    status: int
    leaves: tuple[int, ...] = ()
    raw: str | None = None
    raw_type: str | None = None
    decoded: str | None = None
    converted: str | None = None
    query: str | None = None

    @property
    def blobs(self) -> tuple[str, ...]:
        """Digests of the blobs this line refers to."""
        return tuple(name for name in (self.query, self.raw, self.decoded) if name is not None)

    def to_record(self) -> dict[str, Any]:
        """Return the line as JSON; absent fields are left out."""
        record = {**vars(self), "leaves": list(self.leaves) or None}
        record["rawType"] = record.pop("raw_type")
        return {name: value for name, value in record.items() if value is not None}


def parse_lines(data: bytes) -> list[Line]:
    """Parse a whole transcript.

    Raises:
        MalformedEvidenceError: a line is cut, out of order or breaks its table.
    """
    if data and not data.endswith(b"\n"):
        raise MalformedEvidenceError("transcript: the last line is cut", "ask for the complete file")
    if data.count(b"\n") > records.MAX_LINES:
        raise MalformedEvidenceError(f"transcript: more than {records.MAX_LINES} lines", "split the session")
    return [_parse_line(seq, line) for seq, line in enumerate(data.split(b"\n")[:-1])]


def _parse_line(seq: int, data: bytes) -> Line:
    value = records.loads(data, limit=MAX_LINE_BYTES)
    _LINE(f"transcript[{seq}]", value)
    leaves = tuple(value.pop("leaves", ()))
    raw_type = value.pop("rawType", None)
    if value["seq"] != seq or len(set(leaves)) != len(leaves):
        raise MalformedEvidenceError(f"transcript[{seq}]: out of order", "ask for the complete file")
    fits = bool(leaves) == (value["kind"] == "trigger") and ("query" in value) == (value["kind"] == "photo")
    if not fits or ("raw" in value) != (raw_type is not None):
        raise MalformedEvidenceError(f"transcript[{seq}]: fields do not fit its kind", "ask for a valid file")
    return Line(**value, leaves=leaves, raw_type=raw_type)


def chain(start: bytes, data: bytes) -> bytes:
    """Return the head of the chain: h_j = SHA256(02 || h_(j-1) || SHA256(line_j))."""
    head = start
    for line in data.split(b"\n")[:-1]:
        head = hashlib.sha256(b"\x02" + head + hashlib.sha256(line).digest()).digest()
    return head


def answers(
    lines: Sequence[Line], selection: Sequence[int]
) -> Iterator[tuple[tuple[int, ...], str, str | None]]:
    """Yield (leaves, request, decoded) of every trigger; `decoded` is None if it was refused to the end.

    A refused trigger may be asked again, an answered one may not: else one could keep the answer one likes.

    Raises:
        EvidenceError: the triggers do not cover exactly the selected leaves, in order, once each.
    """
    asked: dict[tuple[int, ...], Line] = {}
    for line in lines:
        if line.kind == "photo":
            raise EvidenceError(
                f"transcript[{line.seq}]: a photo in a session of triggers", "record a new session"
            )
        if line.kind != "trigger":
            continue
        before = asked.setdefault(line.leaves, line)
        _not_again(before, line)
        if before.request != line.request:
            raise EvidenceError(f"transcript[{line.seq}]: not the image asked before", "record a new session")
        asked[line.leaves] = line
    if [leaf for leaves in asked for leaf in leaves] != list(selection):
        raise EvidenceError(
            "transcript: its triggers are not the selected leaves", "ask every selected leaf once"
        )
    return ((leaves, line.request, line.decoded) for leaves, line in asked.items())


def photo_answers(lines: Sequence[Line], session: Session) -> Iterator[tuple[str, str, str | None]]:
    """Yield (request, query, decoded) of every photo; `decoded` is None if it was refused to the end.

    Raises:
        EvidenceError: they are not as many photos as the session fixed (a sequential one may end early), a
            photo was asked again after an answer, or there is a trigger among them.
    """
    asked: dict[str, Line] = {}
    for line in lines:
        if line.kind == "trigger":
            raise EvidenceError(
                f"transcript[{line.seq}]: a trigger in a session of photos", "record a new session"
            )
        if line.kind != "photo":
            continue
        before = asked.setdefault(line.request, line)
        _not_again(before, line)
        if before.query != line.query:
            raise EvidenceError(f"transcript[{line.seq}]: not the file asked before", "record a new session")
        asked[line.request] = line
    least = 1 if session.sequential else session.photos
    if not least <= len(asked) <= session.photos:
        raise EvidenceError(
            f"transcript: {len(asked)} photos, its session fixed {session.photos}", "ask every photo once"
        )
    return ((line.request, str(line.query), line.decoded) for line in asked.values())


def check_coverage(lines: Sequence[Line], session: Session, leaves: Sequence[int]) -> None:
    """Raise EvidenceError unless every selected leaf, or every photo, was asked once, and nothing else."""
    if session.photos:
        photo_answers(lines, session)
    else:
        answers(lines, leaves)


def _not_again(before: Line, line: Line) -> None:
    if before.decoded is not None and before is not line:
        raise EvidenceError(f"transcript[{line.seq}]: asked again after an answer", "record a new session")


class Transcript:
    """A transcript being written in a folder of its own; each line is on the disk before the next question.

    Args:
        folder: made by `create`; to ask its session's questions, `resume` it.
        durable: whether each line is on the disk before `add` returns; a folder that is deleted with the
            process need not be.

    Raises:
        EvidenceError: the folder holds no transcript, or a damaged one.
    """

    def __init__(self, folder: str | Path, durable: bool = True) -> None:
        self.folder, self._durable = Path(folder), durable
        self.session = Session.load(self.folder / SESSION_FILE)
        file = self.folder / TRANSCRIPT_FILE
        data = read_bounded(file, MAX_TRANSCRIPT_BYTES) if file.exists() else b""
        if not data.endswith(b"\n"):  # a crash cuts the line it was writing, which nobody was told of
            data = data[: data.rfind(b"\n") + 1]
            atomic_write_bytes(file, data, overwrite=True, sync=durable)
        self._lines = parse_lines(data)
        for line in self._lines:
            for name in line.blobs:
                get_blob(self.folder / BLOB_FOLDER, name)

    @classmethod
    def create(cls, folder: str | Path, session: Session, durable: bool = True) -> Transcript:
        """Start a transcript in a folder without one.

        Raises:
            InputError: there is one already.
        """
        atomic_write_bytes(Path(folder) / SESSION_FILE, records.dumps(session.to_record()), sync=durable)
        return cls(folder, durable)

    @classmethod
    @contextmanager
    def resume(cls, folder: str | Path, durable: bool = True) -> Iterator[Transcript]:
        """Context with a transcript to begin or go on with, which nobody else can resume meanwhile.

        A question that was in the air when an earlier process ended is recorded as a refusal (`INTERRUPTED`):
        whether it was answered nobody knows, and an answered question is never asked again.

        Raises:
            InputError: another process is in the same context.
            EvidenceError: the folder holds no transcript, or a damaged one.
        """
        if not (Path(folder) / SESSION_FILE).exists():
            raise EvidenceError(f"transcript: no {SESSION_FILE} in {folder}", "check the path")
        busy = f"transcript: another process is asking the questions of {folder}"
        with alone(Path(folder) / LOCK_FILE, busy):
            transcript = cls(folder, durable)
            transcript._settle()
            yield transcript

    def _settle(self) -> None:
        path = self.folder / PENDING_FILE
        if not path.exists():
            return
        pending = records.loads(read_bounded(path, records.MAX_JSON_BYTES))
        _PENDING("pending", pending)
        if pending["seq"] == len(self.lines):
            kind, request, leaves = pending["kind"], pending["request"], tuple(pending["leaves"])
            query = pending.get("query")
            line = Line(pending["seq"], records.utc_now(), kind, request, INTERRUPTED, leaves, query=query)
            self._append(line)

    @property
    def lines(self) -> tuple[Line, ...]:
        """The lines so far."""
        return tuple(self._lines)

    def read(self) -> bytes:
        """Return the whole file."""
        return read_bounded(self.folder / TRANSCRIPT_FILE, MAX_TRANSCRIPT_BYTES)

    def response(self, line: Line) -> Array:
        """Return the answer of a line that has one, as it was recorded."""
        assert line.decoded is not None
        return decode_png(get_blob(self.folder / BLOB_FOLDER, line.decoded))

    def announce(self, kind: str, request: Array, leaves: Sequence[int] = ()) -> None:
        """Note in a file that a question is about to be asked; `add` it afterwards."""
        pending = {
            "seq": len(self._lines),
            "kind": kind,
            "request": array_digest(request),
            "leaves": list(leaves),
            **({"query": name} if (name := self._put_query(kind, request)) else {}),
        }
        # not synced: it outlives the process, and after a power cut the question is merely asked again
        atomic_write_bytes(self.folder / PENDING_FILE, records.dumps(pending), overwrite=True, sync=False)

    def withdraw(self) -> None:
        """Take back what `announce` noted: the question was not answered, and may be asked."""
        (self.folder / PENDING_FILE).unlink(missing_ok=True)

    def add(
        self,
        kind: str,
        request: Array,
        *,
        status: int = 200,
        leaves: Sequence[int] = (),
        raw: bytes | None = None,
        raw_type: str | None = None,
        decoded: Array | None = None,
        converted: str | None = None,
    ) -> Line:
        """Append one question and its answer; on return it is on the disk.

        Args:
            kind: "trigger", "photo" (kept with its answer), "control" or "ordinary".
            request: the image asked, uint8 (H, W, C).
            status: HTTP status; 200 for an answer of a local model.
            leaves: for a trigger, the leaves in the image, in order.
            raw: the answer's bytes as they came.
            raw_type: media type of `raw`; given with it.
            decoded: the answer as uint8 (H, W, C); None for a refusal.
            converted: what was changed to bring it to the registered contract, in words.

        Raises:
            InputError: an argument breaks the format.
            OSError: the disk is full, say; nothing recorded so far is lost, and adding may go on.
        """
        blobs = self.folder / BLOB_FOLDER
        line = Line(
            seq=len(self._lines),
            at=records.utc_now(),
            kind=kind,
            request=array_digest(request),
            status=status,
            leaves=tuple(leaves),
            raw=None if raw is None else put_blob(blobs, raw, self._durable),
            raw_type=raw_type,
            decoded=None if decoded is None else put_blob(blobs, encode_png(decoded), self._durable),
            converted=converted,
            query=self._put_query(kind, request),
        )
        return self._append(line)

    def _put_query(self, kind: str, request: Array) -> str | None:
        """Keep a photo, which nobody could derive again; a trigger can be."""
        if kind != "photo":
            return None
        return put_blob(self.folder / BLOB_FOLDER, encode_png(request), self._durable)

    def _append(self, line: Line) -> Line:
        data = records.dumps(line.to_record())
        try:
            _parse_line(line.seq, data)
        except MalformedEvidenceError as error:
            raise InputError(error.message, "see the arguments of Transcript.add") from None
        with (self.folder / TRANSCRIPT_FILE).open("ab", buffering=0) as file:
            before = file.tell()
            try:
                if file.write(data + b"\n") <= len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), file.name)
                if self._durable:
                    os.fsync(file.fileno())
            except BaseException:
                file.truncate(before)  # half a line would swallow the next one
                raise
        self._lines.append(line)
        return line
