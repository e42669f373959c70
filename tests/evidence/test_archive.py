"""A bundle as a zip, and everything a zip may smuggle in."""

from __future__ import annotations

import stat
import struct
import zipfile

import pytest

from modelguard.errors import EvidenceError, MalformedEvidenceError
from modelguard.evidence import archive, check_bundle, inspect_bundle

CERTIFICATE = "certificate.dsse.json"
BLOB = "blobs/" + "a" * 64


@pytest.fixture
def check(tools, trust):
    return lambda path: check_bundle(path, trust, **tools.callables)


def pack(folder, path, compression=zipfile.ZIP_STORED, extra=(), skip=()):
    """Zip a bundle; `extra` are (name or ZipInfo, content) besides."""
    with zipfile.ZipFile(path, "w", compression) as target:
        for file in sorted(folder.rglob("*")):
            name = file.relative_to(folder).as_posix()
            if file.is_file() and name not in skip:
                target.writestr(name, file.read_bytes())
        for name, content in extra:
            target.writestr(name, content)
    return path


def test_a_stored_zip_is_checked_like_its_folder(tmp_path, made, check):
    assert check(pack(made[0], tmp_path / "evidence.zip")) == made[1]


def test_a_zip_with_the_entry_of_its_blob_folder_is_fine(tmp_path, made, check):
    directory = zipfile.ZipInfo("blobs/")
    directory.external_attr = (stat.S_IFDIR | 0o755) << 16 | 0x10
    assert check(pack(made[0], tmp_path / "evidence.zip", extra=[(directory, b"")])) == made[1]


def link(name):
    entry = zipfile.ZipInfo(name)
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry


HOSTILE = {
    "parent": ("../outside", "unknown file"),
    "parent inside blobs": ("blobs/../../outside", "unknown file"),
    "absolute": ("/etc/outside", "unknown file"),
    "drive": ("C:\\outside", "unknown file"),
    "backslash": ("blobs\\" + "a" * 64, "unknown file"),
    "folder in blobs": (BLOB + "/x", "unknown file"),
    "other file": ("run.py", "unknown file"),
    "null byte": (CERTIFICATE + "\0.exe", "unknown file|file twice"),
    "newline": (BLOB + "\n", "unknown file"),
    "link": (link(BLOB), "link"),
    "stranger's blob": (BLOB, "no line"),
    "huge": (BLOB, "too large"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_entries_are_refused_and_write_nothing(tmp_path, made, check, name):
    entry, message = HOSTILE[name]
    content = b"x" * ((16 << 20) + 1) if name == "huge" else b"x"
    if name == "null byte":  # the writer of Python cuts it, others do not
        path = pack(made[0], tmp_path / "evidence.zip", extra=[(CERTIFICATE + "!.exe", content)])
        path.write_bytes(path.read_bytes().replace(b"!.exe", b"\0.exe"))
    else:
        path = pack(made[0], tmp_path / "evidence.zip", extra=[(entry, content)])
    with pytest.raises(EvidenceError, match=message):
        check(path)
    assert [file.name for file in tmp_path.iterdir()] == ["evidence.zip"]
    assert not (tmp_path.parent / "outside").exists()


@pytest.mark.parametrize("kind", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressed_entries_are_refused_unread(tmp_path, made, check, kind):
    path = pack(made[0], tmp_path / "bomb.zip", kind, extra=[(BLOB, bytes(16 << 20))])
    assert path.stat().st_size < 1 << 20
    with pytest.raises(EvidenceError, match="compressed"):
        check(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_file_twice_is_refused(tmp_path, made, check):
    with pytest.raises(EvidenceError, match="twice"):
        check(pack(made[0], tmp_path / "evidence.zip", extra=[(CERTIFICATE, b"{}")]))


def test_entries_that_share_their_bytes_are_refused(tmp_path, made, check):
    """A quoted-overlap bomb: many names, one content."""
    path = pack(made[0], tmp_path / "bomb.zip", extra=[(BLOB, bytes(1 << 20))])
    data = path.read_bytes()
    end = data.rindex(b"PK\x05\x06")
    count, size, offset = struct.unpack_from("<HLL", data, end + 10)
    directory = data[offset : offset + size]
    last = directory[directory.rindex(b"PK\x01\x02") :]
    copies = b"".join(last.replace(b"a" * 64, b"%064x" % number) for number in range(1, 200))
    tail = data[end : end + 8] + struct.pack("<HHLLH", *[count + 199] * 2, size + len(copies), offset, 0)
    path.write_bytes(data[:offset] + directory + copies + tail)
    assert len(zipfile.ZipFile(path).namelist()) > 199
    with pytest.raises(EvidenceError, match="more than its size"):
        check(path)


def test_an_encrypted_entry_is_refused(tmp_path, made, check):
    path = pack(made[0], tmp_path / "evidence.zip")
    data = bytearray(path.read_bytes())
    start = data.rindex(b"PK\x01\x02")
    data[start + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(EvidenceError, match="encrypted"):
        check(path)


@pytest.mark.parametrize("keep", [0, 1, 21, 22, 100, -1, -22, -200])
def test_a_truncated_zip_is_refused(tmp_path, made, check, keep):
    path = pack(made[0], tmp_path / "evidence.zip")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(EvidenceError, match="zip file"):
        check(path)


def test_a_changed_content_is_refused(tmp_path, made, check):
    path = pack(made[0], tmp_path / "evidence.zip")
    path.write_bytes(path.read_bytes().replace(b'"seq":1', b'"seq":2'))
    with pytest.raises(EvidenceError, match="damaged zip"):
        check(path)


def test_a_zip_that_lacks_a_file_is_refused(tmp_path, made, check):
    with pytest.raises(EvidenceError, match=f"{CERTIFICATE}: cannot be read"):
        check(pack(made[0], tmp_path / "evidence.zip", skip=[CERTIFICATE]))


def test_a_zip_beyond_the_limit_is_refused_unread(tmp_path, made, check, monkeypatch):
    path = pack(made[0], tmp_path / "evidence.zip")
    monkeypatch.setattr(archive, "MAX_ARCHIVE_BYTES", path.stat().st_size - 1)
    with pytest.raises(EvidenceError, match="larger than"):
        check(path)


def test_a_directory_of_millions_is_refused_unparsed(tmp_path, made, check):
    path = pack(made[0], tmp_path / "evidence.zip")
    data = bytearray(path.read_bytes())
    struct.pack_into("<L", data, data.rindex(b"PK\x05\x06") + 12, 9 << 20)
    path.write_bytes(data)
    with pytest.raises(EvidenceError, match="no plain zip"):
        check(path)


def test_neither_folder_nor_zip(tmp_path, check):
    with pytest.raises(EvidenceError, match="not a folder or a zip"):
        check(tmp_path / "nowhere")
    (tmp_path / "text").write_text("hello" * 99)
    with pytest.raises(EvidenceError, match="no plain zip"):
        check(tmp_path / "text")


# --- inspect ----------------------------------------------------------------------------------------------


def test_inspect_shows_and_does_not_judge(bundle, examiner, tools, made):
    tools.resign(bundle / CERTIFICATE, lambda s: s["predicate"]["result"].update(matches=1), examiner)
    seen = inspect_bundle(bundle)
    assert seen[CERTIFICATE]["predicate"]["result"]["matches"] == 1
    assert seen[CERTIFICATE]["signedBy"] == [examiner.keyid]
    assert seen["registration.dsse.json"]["predicate"]["owner"]["name"] == "Example Imaging Ltd"
    assert [line["kind"] for line in seen["transcript.jsonl"]] == ["control", "trigger", "trigger", "trigger"]
    assert len(seen["blobs"]) == 6


def test_inspect_takes_a_zip(tmp_path, made):
    assert inspect_bundle(pack(made[0], tmp_path / "evidence.zip")) == inspect_bundle(made[0])


def test_inspect_refuses_what_breaks_the_format(bundle):
    (bundle / CERTIFICATE).write_bytes(b"[]")
    with pytest.raises(MalformedEvidenceError):
        inspect_bundle(bundle)
