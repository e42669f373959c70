from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from modelguard.errors import EvidenceError, InputError, MalformedEvidenceError
from modelguard.evidence import Session, Transcript
from modelguard.evidence.blobs import array_digest, decode_png, encode_png
from modelguard.evidence.transcript import answers, chain, parse_lines

GREY = np.full((4, 6, 1), 7, np.uint8)


@pytest.fixture
def session(registration, tools):
    return Session.draw(registration, tools.suspect, 2, exclude={5, 3})


@pytest.fixture
def transcript(session, tmp_path):
    return Transcript.create(tmp_path / "t", session)


def test_lines_are_as_specified(transcript):
    transcript.add("ordinary", GREY, raw=b"\xff\xd8jpeg", raw_type="image/jpeg", decoded=GREY)
    transcript.add("trigger", GREY, status=503, leaves=[4, 1])
    first, second = (json.loads(line) for line in transcript.read().splitlines())
    at = first.pop("at")
    assert at.endswith("Z")
    assert len(at) == 20
    assert first == {
        "decoded": hashlib.sha256(encode_png(GREY)).hexdigest(),
        "kind": "ordinary",
        "raw": hashlib.sha256(b"\xff\xd8jpeg").hexdigest(),
        "rawType": "image/jpeg",
        "request": hashlib.sha256(
            b"modelguard/v1/array\x00" + bytes.fromhex("000000040000000600000001") + GREY.tobytes()
        ).hexdigest(),
        "seq": 0,
        "status": 200,
    }
    assert {name: second[name] for name in ("kind", "leaves", "seq", "status")} == {
        "kind": "trigger",
        "leaves": [4, 1],
        "seq": 1,
        "status": 503,
    }
    assert "decoded" not in second
    blob = transcript.folder / "blobs" / first["raw"]
    assert blob.read_bytes() == b"\xff\xd8jpeg"


def test_chain_formula(session):
    suspect, selection = (
        json.dumps(session.to_record()[name], sort_keys=True, separators=(",", ":")).encode()
        for name in ("suspect", "selection")
    )
    head = hashlib.sha256(
        b"modelguard/v1/transcript\x00"
        + bytes.fromhex(session.registration)
        + hashlib.sha256(suspect).digest()
        + hashlib.sha256(selection).digest()
    ).digest()
    assert session.first_link() == head
    for line in (b"one", b"two"):
        head = hashlib.sha256(b"\x02" + head + hashlib.sha256(line).digest()).digest()
    assert chain(session.first_link(), b"one\ntwo\n") == head


def test_chain_starts_from_everything_that_is_fixed_first(session):
    changes = [
        {"registration": "0" * 64},
        {"suspect": replace(session.suspect, endpoint="elsewhere")},
        {"suspect": replace(session.suspect, model_digest="0" * 64)},
        {"nonce": bytes(32)},
        {"count": 1},
        {"exclude": (5,)},
    ]
    links = {replace(session, **change).first_link() for change in changes}
    assert len(links | {session.first_link()}) == len(changes) + 1


def test_two_sessions_draw_two_nonces(registration, tools):
    first, second = (Session.draw(registration, tools.suspect, 3) for _ in range(2))
    assert first.nonce != second.nonce
    with pytest.raises(InputError, match="count"):
        Session.draw(registration, tools.suspect, 9)
    with pytest.raises(InputError, match="label"):
        Session.draw(registration, replace(tools.suspect, label=""), 1)


def test_session_never_selects_burnt_leaves(registration, tools):
    for _ in range(20):
        session = Session.draw(registration, tools.suspect, 4, exclude=frozenset({0, 2, 4, 6}))
        assert set(session.leaves(registration)) == {1, 3, 5, 7}


def test_resume(transcript, session):
    transcript.add("control", GREY, decoded=GREY)
    again = Transcript(transcript.folder)
    assert (again.session, again.lines) == (session, transcript.lines)
    again.add("control", GREY, decoded=GREY)
    assert [line.seq for line in parse_lines(again.read())] == [0, 1]
    with pytest.raises(InputError, match="exists"):
        Transcript.create(transcript.folder, session)


def test_a_question_in_the_air_is_a_refusal_on_resumption_and_only_then(transcript):
    transcript.announce("trigger", GREY, [4, 1])
    assert Transcript(transcript.folder).lines == ()
    for _ in range(2):
        with Transcript.resume(transcript.folder) as resumed:
            (line,) = resumed.lines
        assert (line.kind, line.leaves, line.status, line.decoded) == ("trigger", (4, 1), 499, None)
        assert line.request == array_digest(GREY)


def test_a_question_answered_or_withdrawn_is_not_in_the_air(transcript):
    transcript.announce("ordinary", GREY)
    transcript.add("ordinary", GREY, decoded=GREY)
    with Transcript.resume(transcript.folder) as resumed:
        assert len(resumed.lines) == 1
    transcript.announce("ordinary", GREY)
    transcript.withdraw()
    with Transcript.resume(transcript.folder) as resumed:
        assert len(resumed.lines) == 1


HOLD = """
import sys, time
from modelguard.evidence import Transcript
with Transcript.resume(sys.argv[1]) as transcript:
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_process_at_a_time_and_a_killed_one_blocks_nobody(transcript):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, transcript.folder], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        transcript.announce("trigger", GREY, [1])  # as the holder would
        with (
            pytest.raises(InputError, match=f"another process .* {transcript.folder}"),
            Transcript.resume(transcript.folder),
        ):
            pass
        assert Transcript(transcript.folder).lines == ()  # what is in the air there was left alone
    finally:
        holder.kill()
        holder.communicate()
    for _ in range(2):
        with Transcript.resume(transcript.folder) as resumed:
            assert len(resumed.lines) == 1
            with pytest.raises(InputError, match="another process"), Transcript.resume(transcript.folder):
                pass


def test_a_folder_without_a_session_is_not_resumed(tmp_path):
    with pytest.raises(EvidenceError, match=r"session\.json"), Transcript.resume(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_was_converted_is_in_the_line(transcript):
    line = transcript.add("ordinary", GREY, decoded=GREY, converted="RGB to grey")
    assert json.loads(transcript.read())["converted"] == "RGB to grey"
    assert Transcript(transcript.folder).lines == (line,)
    assert np.array_equal(transcript.response(line), GREY)


def test_sequential_sessions_declare_themselves_and_pay_for_looks(registration, tools, tmp_path):
    fixed = Session.draw(registration, tools.suspect, 6)
    free = replace(fixed, sequential=True)
    assert fixed.first_link() != free.first_link()
    assert free.to_record()["selection"]["rule"] == "hash-nonce-sequential/1"
    transcript = Transcript.create(tmp_path / "s", free)
    assert Transcript(tmp_path / "s").session == free
    leaves, charged = free.leaves(registration), [free.looks_bits(())]
    for leaf in leaves[:4]:
        transcript.add("trigger", GREY, leaves=[leaf], decoded=GREY)
        transcript.add("ordinary", GREY, decoded=GREY)
        charged.append(free.looks_bits(transcript.lines))
    assert charged == [0, 1, 3, 4, 5]  # log2 of 2, 6, 12, 20, rounded up
    assert sum(2.0**-bits for bits in charged[1:]) < 1
    assert free.asked(registration, transcript.lines) == leaves[:4]
    assert fixed.asked(registration, transcript.lines) == leaves
    assert fixed.looks_bits(transcript.lines) == 0


def test_line_cut_by_a_crash_is_dropped_on_resume(transcript):
    for _ in range(2):
        transcript.add("control", GREY, decoded=GREY)
    path = transcript.folder / "transcript.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    again = Transcript(transcript.folder)
    assert len(again.lines) == 1
    again.add("control", GREY, decoded=GREY)
    assert path.read_bytes().count(b"\n") == 2
    assert path.read_bytes().startswith(whole.splitlines(keepends=True)[0])


def test_a_damaged_folder_is_not_resumed(transcript, tmp_path):
    line = transcript.add("control", GREY, decoded=GREY)
    blob = transcript.folder / "blobs" / line.decoded
    blob.write_bytes(b"changed")
    with pytest.raises(EvidenceError, match="changed"):
        Transcript(transcript.folder)
    blob.unlink()
    with pytest.raises(EvidenceError, match="cannot be read"):
        Transcript(transcript.folder)
    with pytest.raises(EvidenceError):
        Transcript(tmp_path)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("trigger", {}),
        ("control", {"leaves": [1]}),
        ("trigger", {"leaves": [1, 1]}),
        ("trigger", {"leaves": [-1]}),
        ("other", {}),
        ("control", {"raw": b"x"}),
        ("control", {"raw_type": "image/png"}),
        ("control", {"status": 1000}),
        ("control", {"decoded": np.zeros((4, 4), np.uint8)}),
        ("control", {"decoded": np.zeros((4, 4, 3), np.float32)}),
        ("control", {"decoded": np.zeros((4, 4, 5), np.uint8)}),
        ("control", {"decoded": np.zeros((0, 4, 3), np.uint8)}),
        ("control", {"raw": bytes(17 << 20), "raw_type": "x"}),
    ],
)
def test_add_refuses_and_writes_no_line(transcript, kind, change):
    with pytest.raises(InputError):
        transcript.add(kind, GREY, **change)
    assert not (transcript.folder / "transcript.jsonl").read_bytes()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_is_lossless(channels):
    image = np.random.default_rng(0).integers(0, 256, (5, 7, channels)).astype(np.uint8)
    assert np.array_equal(decode_png(encode_png(image)), image)


def test_png_reader_refuses(tmp_path):
    def saved(image, kind):
        file = BytesIO()
        image.save(file, kind)
        return file.getvalue()

    grey = Image.new("L", (4, 4))
    huge = saved(Image.new("L", (5000, 5000)), "PNG")
    for data in (
        b"",
        b"noise",
        saved(grey, "PNG")[:40],
        saved(grey, "BMP"),
        saved(grey.convert("P"), "PNG"),
        saved(Image.new("I;16", (4, 4)), "PNG"),
        huge,
    ):
        with pytest.raises(MalformedEvidenceError, match="PNG"):
            decode_png(data)


def test_array_digest_binds_the_shape():
    assert array_digest(GREY) != array_digest(GREY.reshape(6, 4, 1))
    assert array_digest(GREY[::-1]) == array_digest(GREY.copy())


def test_cut_line():
    with pytest.raises(MalformedEvidenceError, match="last line is cut"):
        parse_lines(b"{}")


def test_too_many_lines():
    with pytest.raises(MalformedEvidenceError, match="100000 lines"):
        parse_lines(b"\n" * 100_001)


class TestAnswers:
    def lines(self, transcript, *calls):
        for leaves, value, answered in calls:
            image = np.full((2, 2, 1), value, np.uint8)
            transcript.add("trigger", image, leaves=leaves, decoded=image if answered else None)
        return transcript.lines

    def test_refused_may_be_asked_again(self, transcript):
        lines = self.lines(transcript, ([1, 2], 0, False), ([3], 1, True), ([1, 2], 0, True))
        assert [(leaves, decoded is not None) for leaves, _, decoded in answers(lines, (1, 2, 3))] == [
            ((1, 2), True),
            ((3,), True),
        ]

    def test_refused_to_the_end(self, transcript):
        lines = self.lines(transcript, ([1], 0, False), ([1], 0, False))
        assert [decoded for _, _, decoded in answers(lines, (1,))] == [None]

    @pytest.mark.parametrize(
        "calls",
        [
            [([1], 0, True), ([1], 0, True)],
            [([1], 0, True), ([1], 0, False)],
            [([1], 0, False), ([1], 1, True)],
            [([2], 0, True)],
            [([1, 2], 0, True)],
            [([1], 0, True), ([2], 0, False)],
            [],
        ],
        ids=["twice", "answer dropped", "other image", "other leaf", "one more", "one more refused", "none"],
    )
    def test_anything_else_is_refused(self, transcript, calls):
        with pytest.raises(EvidenceError, match="transcript"):
            answers(self.lines(transcript, *calls), (1,))

    def test_order_is_that_of_the_selection(self, transcript):
        lines = self.lines(transcript, ([2], 0, True), ([1], 1, True))
        with pytest.raises(EvidenceError, match="not the selected leaves"):
            answers(lines, (1, 2))
