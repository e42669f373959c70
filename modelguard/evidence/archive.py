"""A bundle as it lies on the disk: a folder, or an uncompressed zip of its files."""

from __future__ import annotations

import os
import re
import stat
import struct
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from modelguard.errors import EvidenceError
from modelguard.evidence.blobs import MAX_BLOB_BYTES
from modelguard.evidence.revocation import MAX_STATEMENT_BYTES, REVOCATION_FOLDER
from modelguard.evidence.transcript import BLOB_FOLDER

MAX_ARCHIVE_BYTES = 1 << 30
_MAX_DIRECTORY_BYTES = 8 << 20
_END = struct.Struct("<4s4x2xH2L2x")  # end of central directory: signature, entries, size, offset
_DAMAGE = (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError, struct.error)
_FOLDERS = {  # names inside, and the most bytes of each
    BLOB_FOLDER: (re.compile("[0-9a-f]{64}"), MAX_BLOB_BYTES),
    REVOCATION_FOLDER: (re.compile(r"[0-9a-f]{64}\.(dsse\.json|tsr)"), MAX_STATEMENT_BYTES),
}


@contextmanager
def bundle_folder(path: Path, limits: Mapping[str, int]) -> Iterator[tuple[Path, set[str]]]:
    """Context with the folder of a bundle and the names of its blobs; a zip is unpacked for the time.

    Names, kinds and sizes are checked before anything is read.

    Args:
        path: of the folder or zip.
        limits: most bytes of each file a bundle may hold, blobs apart.

    Raises:
        EvidenceError: a file of another name, a link, a file that is too large, or a damaged zip.
    """
    if path.is_dir():
        yield path, _names(path, limits)
        return
    if not path.is_file():
        raise EvidenceError(f"bundle: {path} is not a folder or a zip file", "check the path")
    with tempfile.TemporaryDirectory(prefix="modelguard-") as temporary:
        _unpack(path, Path(temporary), limits)
        yield Path(temporary), _names(Path(temporary), limits)


def _limit(name: str, limits: Mapping[str, int]) -> int:
    """Return the most bytes of a file by its name inside the bundle; an unknown name is an error."""
    folder, slash, file = name.partition("/")
    if slash and folder in _FOLDERS and _FOLDERS[folder][0].fullmatch(file):
        return _FOLDERS[folder][1]
    if name not in limits:
        raise EvidenceError(f"bundle: unknown file {name[:80]!r}", "remove it")
    return limits[name]


def _names(folder: Path, limits: Mapping[str, int]) -> set[str]:
    blobs: set[str] = set()
    for inner, prefix in ((folder, ""), *((folder / name, f"{name}/") for name in _FOLDERS)):
        if prefix and not os.path.lexists(inner):
            continue  # every query was refused, or nothing revoked
        if prefix and (inner.is_symlink() or not inner.is_dir()):
            raise EvidenceError(f"bundle: {inner} is not a folder", "check the path")
        with os.scandir(inner) as entries:
            for entry in entries:
                if not prefix and entry.name in _FOLDERS:
                    continue
                limit = _limit(prefix + entry.name, limits)
                info = entry.stat(follow_symlinks=False)
                if not stat.S_ISREG(info.st_mode) or info.st_size > limit:
                    raise EvidenceError(f"bundle: {entry.name} is too large or a link", "do not open it")
                if inner == folder / BLOB_FOLDER:
                    blobs.add(entry.name)
    return blobs


def _unpack(path: Path, folder: Path, limits: Mapping[str, int]) -> None:
    size = path.stat().st_size
    if size > MAX_ARCHIVE_BYTES:
        raise EvidenceError(f"bundle: {path} is larger than {MAX_ARCHIVE_BYTES} bytes", "unpack it by hand")
    with path.open("rb") as file:  # a directory of millions of entries must not be parsed to be refused
        file.seek(-min(size, _END.size), os.SEEK_END)
        end = file.read(_END.size)
    if len(end) < _END.size or end[:4] != b"PK\x05\x06" or _END.unpack(end)[2] > _MAX_DIRECTORY_BYTES:
        raise EvidenceError(
            f"bundle: {path} is no plain zip file of a bundle", "make it by `zip -0 -r`, or give the folder"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [
                entry for entry in archive.infolist() if entry.filename.removesuffix("/") not in _FOLDERS
            ]
            if len({entry.filename for entry in entries}) != len(entries):
                raise EvidenceError("bundle: the zip holds a file twice", "do not open it")
            for entry in entries:
                _check_entry(entry, limits)
            if sum(entry.file_size for entry in entries) > size:  # entries that share their bytes: a bomb
                raise EvidenceError("bundle: the zip holds more than its size", "do not open it")
            for entry in entries:
                target = folder / entry.filename
                target.parent.mkdir(exist_ok=True)
                target.write_bytes(archive.read(entry))
    except _DAMAGE as error:
        raise EvidenceError(f"bundle: {path} is a damaged zip file ({error})", "ask for it again") from None


def _check_entry(entry: zipfile.ZipInfo, limits: Mapping[str, int]) -> None:
    name, kind = entry.filename, entry.external_attr >> 16
    limit = _limit(entry.orig_filename, limits)  # before zipfile cuts it at a null byte
    if stat.S_IFMT(kind) not in (0, stat.S_IFREG):
        raise EvidenceError(f"bundle: {name} is a link or special file in the zip", "do not open it")
    if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
        raise EvidenceError(f"bundle: {name} is compressed in the zip", "store it: zip -0")
    if entry.flag_bits & 0x41:
        raise EvidenceError(f"bundle: {name} is encrypted in the zip", "store it plainly: zip -0")
    if entry.file_size > limit:
        raise EvidenceError(f"bundle: {name} is too large or a link", "do not open it")
