"""A suspect asked offline: queries are written to a folder, someone runs them, the answers are read back."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from modelguard._files import atomic_write_bytes, new_folder
from modelguard.errors import EvidenceError, InputError, SuspectError
from modelguard.evidence import Session, SuspectInfo, records
from modelguard.evidence.blobs import array_digest, read_bounded
from modelguard.suspects.base import Answer, Pixels, check_query, to_png
from modelguard.suspects.contract import MAX_BYTES, decode, to_contract

FORMAT = "modelguard-queries/1"
MANIFEST_FILE = "manifest.json"
REFUSED = 422
_SIDE = 16
_LIKE = 0.5  # 16 x 16 independent values correlate by 0.06: nothing comes near by chance

_MANIFEST = records.table(
    format=records.one_of(FORMAT),
    registration=records.digest,
    selection=records.selection,
    queries=records.each(
        records.table(
            name=records.pattern(r"\d{4,6}\.png", "a numbered PNG file"),
            request=records.digest,
            thumbnail=records.pattern(f"[0-9a-f]{{{2 * _SIDE**2}}}", "a thumbnail"),
        ),
        records.MAX_LINES,
    ),
)


def write_queries(folder: str | Path, session: Session, queries: Iterable[Pixels]) -> Path:
    """Write numbered queries and a manifest that says which is which.

    Args:
        folder: new; holds 0001.png, 0002.png, ... and manifest.json.
        session: whose leaves they ask; its suspect is left out.
        queries: uint8 (H, W, C).

    Raises:
        InputError: the folder exists already, or cannot be written.
    """
    with new_folder(folder) as temporary:
        entries = []
        for number, query in enumerate(queries, 1):
            name = f"{number:04}.png"
            atomic_write_bytes(temporary / name, to_png(query))
            thumbnail = _thumbnail(query).tobytes().hex()
            entries.append({"name": name, "request": array_digest(query), "thumbnail": thumbnail})
        record = session.to_record()
        manifest = {
            "format": FORMAT,
            "registration": record["registration"],
            "selection": record["selection"],
            "queries": entries,
        }
        atomic_write_bytes(temporary / MANIFEST_FILE, records.dumps(manifest))
    return Path(folder)


class FolderSuspect:
    """Answers from files named as the queries: 0001.png, .jpg or .webp, or 0001.txt with what a refusal said.

    Args:
        folder: the answers, with the manifest.json of the queries beside them.

    Raises:
        InputError: no manifest, or answers that are missing, doubled, swapped or the queries themselves.
    """

    kind = "folder"

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.endpoint = self.folder.resolve().name
        self._manifest = _read_manifest(self.folder)
        entries = self._manifest["queries"]
        self._files = _find(self.folder, [entry["name"] for entry in entries])
        self._names = {entry["request"]: entry["name"] for entry in entries}
        self._check_order(entries)

    def session(self, suspect: SuspectInfo) -> Session:
        """Return the session for which the queries were written, about this suspect.

        Raises:
            InputError: a text of `suspect` is no line of text.
        """
        fields = self._manifest["registration"], suspect.to_record(), self._manifest["selection"]
        return Session.from_record(*fields).checked()

    def ask(self, query: Pixels) -> Answer:
        """Return the stored answer to a query (H, W, C); see `Suspect`."""
        check_query(query)
        name = self._names.get(array_digest(query))
        if name is None:
            raise InputError(
                f"query: not among those of {self.folder / MANIFEST_FILE}",
                "use the manifest and the key with which the queries were written",
            )
        raw = read_bounded(self._files[name], MAX_BYTES)
        try:
            pixels, media_type = decode(raw)
            image, converted = to_contract(pixels, query)
        except SuspectError as error:
            return Answer(None, raw, "unknown", REFUSED, error.message.removeprefix("suspect: "))
        return Answer(image, raw, media_type, 200, converted=converted)

    def _check_order(self, entries: list[dict[str, str]]) -> None:
        """Refuse answers that look like another's query, as far as answers look like queries at all."""
        packed = bytes.fromhex("".join(entry["thumbnail"] for entry in entries))
        thumbnails = np.frombuffer(packed, np.uint8).reshape(len(entries), -1).astype(np.float32)
        identical = 0
        for number, entry in enumerate(entries):
            try:
                answer, _ = decode(read_bounded(self._files[entry["name"]], MAX_BYTES))
            except SuspectError:
                continue  # what a refusal said
            except EvidenceError as error:
                raise InputError(f"answers: {error.message}", "put a smaller image there") from None
            grey = np.zeros((1, 1, 1), np.uint8)
            pixels, _ = to_contract(answer, grey)
            same = answer if answer.ndim == 3 else answer[..., None]
            identical += same.dtype == np.uint8 and array_digest(same) == entry["request"]
            seen = _thumbnail(pixels).reshape(-1).astype(np.float32)
            likeness = _correlation(seen, thumbnails)
            if likeness.max() > max(_LIKE, likeness[number]):
                other = entries[int(likeness.argmax())]["name"]
                raise InputError(
                    f"answers: {self._files[entry['name']].name} looks like the answer to {other}",
                    "put every answer under the name of its query; nothing was recorded",
                )
        if identical == len(entries):
            raise InputError(
                f"answers: {self.folder} holds the queries themselves",
                "give the folder of what the suspect made of them",
            )


def _read_manifest(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise InputError(f"answers: there is no folder {folder}", "check the path")
    try:
        manifest = records.loads(read_bounded(folder / MANIFEST_FILE, records.MAX_JSON_BYTES))
        _MANIFEST("manifest", manifest)
    except EvidenceError as error:
        raise InputError(
            f"answers: {folder} has no usable {MANIFEST_FILE} ({error.message})",
            f"copy the {MANIFEST_FILE} that was written with the queries into it",
        ) from None
    return dict(manifest)


def _find(folder: Path, names: list[str]) -> dict[str, Path]:
    """Return the one file for each name, whatever its ending."""
    by_stem: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        by_stem.setdefault(path.stem, []).append(path)
    found = {name: by_stem.get(Path(name).stem, []) for name in names}
    if missing := [name for name, files in found.items() if not files]:
        raise InputError(
            f"answers: {len(missing)} of {len(names)} are missing in {folder}: {', '.join(missing[:5])}",
            "add them; for a query that was refused, a text file such as 0001.txt with what was said",
        )
    if double := [name for name, files in found.items() if len(files) > 1]:
        raise InputError(
            f"answers: two files for {double[0]} in {folder}", "keep the one that the suspect sent"
        )
    return {name: files[0] for name, files in found.items()}


def _thumbnail(pixels: Pixels) -> Pixels:
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).convert("L")
    return np.asarray(picture.resize((_SIDE, _SIDE), Image.Resampling.BOX))


def _correlation(one: npt.NDArray[np.float32], many: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    first, rest = one - one.mean(), many - many.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(first) * np.linalg.norm(rest, axis=1)
    result: npt.NDArray[np.float32] = rest @ first / np.maximum(norms, 1e-6)
    return result
