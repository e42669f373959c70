"""What was asked and answered: a file that only grows, each line chained to all before it.

The first link binds the registration, the suspect and the selection of leaves, so a transcript cannot
be passed off as another suspect's or as one of another selection.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelguard._files import atomic_write_bytes
from modelguard.errors import EvidenceError, InputError, MalformedEvidenceError
from modelguard.evidence import records
from modelguard.evidence.blobs import Array, array_digest, encode_png, get_blob, put_blob, read_bounded
from modelguard.evidence.key import select
from modelguard.evidence.registration import Registration

TRANSCRIPT_FILE = "transcript.jsonl"
SESSION_FILE = "session.json"
BLOB_FOLDER = "blobs"
MAX_LINE_BYTES = 1 << 16
MAX_TRANSCRIPT_BYTES = 64 << 20

_LINE = records.table(
    at=records.moment,
    kind=records.one_of("trigger", "control", "ordinary"),
    request=records.digest,
    seq=records.integer(0, records.MAX_LINES - 1),
    status=records.integer(0, 999),
    optional={
        "leaves": records.leaf_list,
        "raw": records.digest,
        "rawType": records.text,
        "decoded": records.digest,
    },
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
        count: number of leaves.
        exclude: leaves used before.
    """

    registration: str
    suspect: SuspectInfo
    nonce: bytes
    count: int
    exclude: tuple[int, ...] = ()

    @classmethod
    def draw(
        cls,
        registration: Registration,
        suspect: SuspectInfo,
        count: int,
        exclude: Collection[int] = (),
    ) -> Session:
        """Draw the nonce of a new session.

        Args:
            registration: of the model that is looked for.
            suspect: who will be asked.
            count: number of leaves to open, each giving as many bits as the scheme has cells.
            exclude: leaves used before (`key.burnt`).

        Raises:
            InputError: fewer than `count` leaves are left, or a text of `suspect` is no line of text.
        """
        session = cls(
            registration.record_id, suspect, secrets.token_bytes(32), count, tuple(sorted(set(exclude)))
        )
        session.leaves(registration)
        try:
            _SESSION("session", session.to_record())
        except MalformedEvidenceError as error:
            raise InputError(error.message, "see the arguments of Session.draw") from None
        return session

    def leaves(self, registration: Registration) -> tuple[int, ...]:
        """Return the selected leaves in the order in which they are asked."""
        return select(registration.root, self.nonce, registration.leaves, self.count, self.exclude)

    def to_record(self) -> dict[str, Any]:
        """Return the session as JSON."""
        return {
            "registration": self.registration,
            "suspect": self.suspect.to_record(),
            "selection": {
                "rule": "hash-nonce/1",
                "nonce": self.nonce.hex(),
                "count": self.count,
                "exclude": list(self.exclude),
            },
        }

    @classmethod
    def from_record(cls, registration: str, suspect: dict[str, str], selection: dict[str, Any]) -> Session:
        """Read checked `registration`, `suspect` and `selection` fields."""
        nonce = bytes.fromhex(selection["nonce"])
        exclude = tuple(selection["exclude"])
        return cls(registration, SuspectInfo.from_record(suspect), nonce, selection["count"], exclude)

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
        kind: "trigger", "control" or "ordinary".
        request: `array_digest` of the image asked.
        status: HTTP status; 200 for an answer of a local model.
        leaves: for a trigger, the leaves in its mosaic, in order.
        raw: digest of the answer's bytes, if it came as bytes.
        raw_type: media type of these bytes.
        decoded: digest of the answer as PNG.
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

    @property
    def blobs(self) -> tuple[str, ...]:
        """Digests of the blobs this line refers to."""
        return tuple(name for name in (self.raw, self.decoded) if name is not None)

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
    if bool(leaves) != (value["kind"] == "trigger") or ("raw" in value) != (raw_type is not None):
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
        if line.kind != "trigger":
            continue
        before = asked.setdefault(line.leaves, line)
        if before.decoded is not None and before is not line:
            raise EvidenceError(
                f"transcript[{line.seq}]: asked again after an answer", "record a new session"
            )
        if before.request != line.request:
            raise EvidenceError(f"transcript[{line.seq}]: not the image asked before", "record a new session")
        asked[line.leaves] = line
    if [leaf for leaves in asked for leaf in leaves] != list(selection):
        raise EvidenceError(
            "transcript: its triggers are not the selected leaves", "ask every selected leaf once"
        )
    return ((leaves, line.request, line.decoded) for leaves, line in asked.items())


class Transcript:
    """A transcript being written in a folder of its own.

    Args:
        folder: made by `create`; opening it again resumes the session.

    Raises:
        EvidenceError: the folder holds no transcript, or a damaged one.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.session = Session.load(self.folder / SESSION_FILE)
        file = self.folder / TRANSCRIPT_FILE
        data = read_bounded(file, MAX_TRANSCRIPT_BYTES) if file.exists() else b""
        if not data.endswith(b"\n"):  # a crash cuts the line it was writing, which nobody was told of
            data = data[: data.rfind(b"\n") + 1]
            atomic_write_bytes(file, data, overwrite=True)
        self._lines = parse_lines(data)
        for line in self._lines:
            for name in line.blobs:
                get_blob(self.folder / BLOB_FOLDER, name)

    @classmethod
    def create(cls, folder: str | Path, session: Session) -> Transcript:
        """Start a transcript in a folder without one.

        Raises:
            InputError: there is one already.
        """
        atomic_write_bytes(Path(folder) / SESSION_FILE, records.dumps(session.to_record()))
        return cls(folder)

    @property
    def lines(self) -> tuple[Line, ...]:
        """The lines so far."""
        return tuple(self._lines)

    def read(self) -> bytes:
        """Return the whole file."""
        return read_bounded(self.folder / TRANSCRIPT_FILE, MAX_TRANSCRIPT_BYTES)

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
    ) -> Line:
        """Append one question and its answer; on return it is on the disk.

        Args:
            kind: "trigger", "control" or "ordinary".
            request: the image asked, uint8 (H, W, C).
            status: HTTP status; 200 for an answer of a local model.
            leaves: for a trigger, the leaves in the image, in order.
            raw: the answer's bytes as they came.
            raw_type: media type of `raw`; given with it.
            decoded: the answer as uint8 (H, W, C); None for a refusal.

        Raises:
            InputError: an argument breaks the format.
        """
        blobs = self.folder / BLOB_FOLDER
        line = Line(
            seq=len(self._lines),
            at=records.utc_now(),
            kind=kind,
            request=array_digest(request),
            status=status,
            leaves=tuple(leaves),
            raw=None if raw is None else put_blob(blobs, raw),
            raw_type=raw_type,
            decoded=None if decoded is None else put_blob(blobs, encode_png(decoded)),
        )
        data = records.dumps(line.to_record())
        try:
            _parse_line(line.seq, data)
        except MalformedEvidenceError as error:
            raise InputError(error.message, "see the arguments of Transcript.add") from None
        with (self.folder / TRANSCRIPT_FILE).open("ab") as file:
            file.write(data + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._lines.append(line)
        return line
