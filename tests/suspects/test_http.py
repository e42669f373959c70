from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from modelguard.benchmarks.faults import FAULTS, FaultyService, unmarked_answers
from modelguard.errors import InputError
from modelguard.suspects import HttpSuspect, Service, as_suspect
from modelguard.suspects.base import encode, may_pass
from modelguard.suspects.http import _seconds

QUERY = np.random.default_rng(0).integers(0, 256, (20, 24, 1), np.uint8)


class Loopback:
    """A service whose reply to (path, headers, body) is set by a test, and what it was sent."""

    def __init__(self) -> None:
        self.reply: Callable[[str, Any, bytes], tuple[int, dict[str, str], bytes]]
        self.requests: list[tuple[str, str, Any, bytes]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer.requests.append((self.command, self.path, self.headers, body))
                status, headers, answer = outer.reply(self.path, self.headers, body)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.base = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def loopback() -> Iterator[Loopback]:
    service = Loopback()
    yield service
    service.server.shutdown()
    service.server.server_close()


def png(*_: Any) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "image/png"}, encode(QUERY, "PNG")


def load(folder: Path, text: str) -> HttpSuspect:
    (folder / "service.toml").write_text(text)
    suspect = as_suspect(str(folder / "service.toml"))
    assert isinstance(suspect, HttpSuspect)
    return suspect


@pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
def test_an_address_alone_takes_and_gives_an_image_file(loopback: Loopback, form: str) -> None:
    loopback.reply = lambda path, headers, body: (200, {}, body)
    suspect = HttpSuspect(Service(f"{loopback.base}/denoise?key=secret", format=form))
    assert (suspect.kind, suspect.endpoint) == ("http-api", f"{loopback.base}/denoise")
    answer = suspect.ask(QUERY)
    assert answer.media_type == f"image/{form}"
    assert answer.raw == encode(QUERY, form.upper())
    assert answer.image is not None
    assert answer.image.shape == QUERY.shape
    if form == "png":
        assert np.array_equal(answer.image, QUERY)
        assert loopback.requests[0][1] == "/denoise?key=secret"
        assert loopback.requests[0][2]["Content-Type"] == "image/png"


def test_multipart_fields_and_headers_from_the_environment(
    loopback: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VENDOR_TOKEN", "s3cr3t-token")
    loopback.reply = png
    suspect = load(
        tmp_path,
        f"""
        url = "{loopback.base}/x"
        body = "multipart"
        image = "file"
        [headers]
        Authorization = "Bearer ${{VENDOR_TOKEN}}"
        [fields]
        strength = "25"
        """,
    )
    assert suspect.ask(QUERY).status == 200
    _, _, headers, body = loopback.requests[0]
    assert headers["Authorization"] == "Bearer s3cr3t-token"
    assert b'name="file"; filename="image.png"' in body
    assert encode(QUERY, "PNG") in body
    assert b'name="strength"\r\n\r\n25' in body
    assert "s3cr3t" not in f"{suspect!r} {suspect.service!r}"


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
def test_json_in_and_out(loopback: Loopback, tmp_path: Path, prefix: str) -> None:
    def reply(path: str, headers: Any, body: bytes) -> tuple[int, dict[str, str], bytes]:
        sent = json.loads(body)["inputs"]
        assert sent["steps"] == 3
        assert base64.b64decode(sent["image"].removeprefix("data:,")) == encode(QUERY, "PNG")
        return 200, {}, json.dumps({"output": [{"image": prefix + sent["image"][6:]}]}).encode()

    loopback.reply = reply
    suspect = load(
        tmp_path,
        f"""
        url = "{loopback.base}/x"
        body = "json"
        answer = "output.0.image"
        [json.inputs]
        image = "data:,${{image}}"
        steps = 3
        """,
    )
    answer = suspect.ask(QUERY)
    assert np.array_equal(answer.image, QUERY)  # type: ignore[arg-type]
    assert answer.raw == encode(QUERY, "PNG")


@pytest.mark.parametrize(
    "body",
    [b"{}", b'{"output": []}', b'{"output": [{"image": 7}]}', b'{"output": [{"image": "?"}]}', b"<html>"],
)
def test_json_without_the_image_is_a_refusal(loopback: Loopback, body: bytes) -> None:
    loopback.reply = lambda *_: (200, {"Content-Type": "application/json; charset=utf-8"}, body)
    answer = HttpSuspect(Service(loopback.base, answer="output.0.image")).ask(QUERY)
    assert answer.image is None
    assert "output.0.image" in answer.reason
    assert (answer.raw, answer.media_type) == (body, "application/json")


def test_secrets_that_a_service_repeats_are_hidden(
    loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VENDOR_TOKEN", "s3cr3t")
    loopback.reply = lambda path, headers, body: (403, {}, f"bad {headers['X-Key']}".encode())
    answer = HttpSuspect(Service(loopback.base, headers={"X-Key": "${VENDOR_TOKEN}"})).ask(QUERY)
    assert (answer.status, answer.raw) == (403, b"bad [hidden]")
    assert not may_pass(answer.status)


@pytest.mark.parametrize("fault", [name for name in FAULTS if name not in ("wrong size", "constant answer")])
def test_each_way_to_fail_is_a_refusal_in_bounded_time(fault: str) -> None:
    with FaultyService(unmarked_answers, share=1) as service:
        service.faults = [fault]
        limit = 0.3 if fault in ("time-out", "slow drip") else 10
        began = time.monotonic()
        answer = HttpSuspect(Service(service.url, seconds=limit)).ask(QUERY)
        assert time.monotonic() - began < 5
    if fault == "answered":
        assert answer.image is not None
        return
    assert answer.image is None
    assert answer.reason
    assert may_pass(answer.status)
    assert len(answer.raw) <= 1 << 16
    expected = {
        "429 with Retry-After": 429,
        "500": 500,
        "redirect elsewhere": 302,
        "time-out": 0,
        "slow drip": 0,
    }
    assert answer.status == expected.get(fault, answer.status)
    if fault == "429 with Retry-After":
        assert answer.retry_after == 1


@pytest.mark.parametrize("fault", ["wrong size", "constant answer"])
def test_odd_answers_are_answers(fault: str) -> None:
    with FaultyService(unmarked_answers, share=1) as service:
        service.faults = [fault]
        answer = HttpSuspect(service.url).ask(QUERY)
    assert answer.image is not None
    assert answer.image.shape == ((10, 12, 1) if fault == "wrong size" else QUERY.shape)


def test_nobody_there_is_a_refusal() -> None:
    answer = HttpSuspect("http://127.0.0.1:1/x").ask(QUERY)
    assert (answer.image, answer.status) == (None, 0)
    assert "connection failed" in answer.reason


def test_packed_bodies_are_not_unpacked(loopback: Loopback) -> None:
    loopback.reply = lambda *_: (200, {"Content-Encoding": "gzip"}, b"\x1f\x8b\x08" + bytes(99))
    answer = HttpSuspect(loopback.base).ask(QUERY)
    assert "a body in gzip" in answer.reason
    assert loopback.requests[0][2]["Accept-Encoding"] == "identity"


def test_a_caller_with_a_loop_of_its_own_may_ask(loopback: Loopback) -> None:
    loopback.reply = png

    async def notebook() -> int:
        return HttpSuspect(loopback.base).ask(QUERY).status

    assert asyncio.run(notebook()) == 200


class TestRedirects:
    def to(self, loopback: Loopback, target: str, status: int = 302) -> None:
        def reply(path: str, *_: Any) -> tuple[int, dict[str, str], bytes]:
            return (status, {"Location": target}, b"") if path == "/x" else png()

        loopback.reply = reply

    def test_within_the_service_are_followed(self, loopback: Loopback) -> None:
        for status, method in ((302, "GET"), (307, "POST")):
            loopback.requests.clear()
            self.to(loopback, "/y", status)
            assert HttpSuspect(f"{loopback.base}/x").ask(QUERY).image is not None
            assert [request[0] for request in loopback.requests] == ["POST", method]

    def test_in_a_circle_end(self, loopback: Loopback) -> None:
        self.to(loopback, "/x", 307)
        answer = HttpSuspect(f"{loopback.base}/x").ask(QUERY)
        assert "more than 5 times" in answer.reason
        assert len(loopback.requests) == 6

    def test_to_another_host_only_if_listed_and_without_headers(
        self, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("VENDOR_TOKEN", "s3cr3t")
        elsewhere = loopback.base.replace("127.0.0.1", "localhost") + "/y"
        self.to(loopback, elsewhere, 307)
        headers = {"Authorization": "${VENDOR_TOKEN}"}
        refused = HttpSuspect(Service(f"{loopback.base}/x", headers=headers)).ask(QUERY)
        assert "not among `redirects`" in refused.reason
        assert len(loopback.requests) == 1
        listed = Service(f"{loopback.base}/x", headers=headers, redirects=("localhost",))
        assert HttpSuspect(listed).ask(QUERY).image is not None
        sent = [request[2]["Authorization"] for request in loopback.requests]
        assert sent == ["s3cr3t", "s3cr3t", None]

    @pytest.mark.parametrize(
        ("start", "target", "private", "says"),
        [
            ("http://8.8.8.8/x", "http://10.0.0.1/", False, "a private address"),
            ("http://8.8.8.8/x", "http://127.0.0.1/", False, "a private address"),
            ("http://8.8.8.8/x", "http://[::1]/", False, "a private address"),
            ("http://8.8.8.8/x", "http://169.254.169.254/latest", False, "a private address"),
            ("http://8.8.8.8/x", "http://10.0.0.1/", True, ""),
            ("http://8.8.8.8/x", "http://1.1.1.1/", False, ""),
            ("http://10.0.0.2/x", "http://10.0.0.1/", False, ""),
            ("https://8.8.8.8/x", "http://8.8.8.8/x", False, "http is not allowed"),
            ("https://8.8.8.8/x", "file:///etc/passwd", False, "file is not allowed"),
        ],
    )
    def test_from_public_to_private_addresses(
        self, start: str, target: str, private: bool, says: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Only the network is played here: addresses are not looked up, since they are numbers."""
        seen: list[str] = []

        async def answer(self: Any, request: httpx2.Request) -> httpx2.Response:
            seen.append(str(request.url))
            if str(request.url) == start:
                return httpx2.Response(307, headers={"Location": target})
            return httpx2.Response(200, stream=httpx2.ByteStream(encode(QUERY, "PNG")))

        monkeypatch.setattr(httpx2.AsyncHTTPTransport, "handle_async_request", answer)
        hosts = ("10.0.0.1", "127.0.0.1", "::1", "169.254.169.254", "1.1.1.1")
        reply = HttpSuspect(Service(start, redirects=hosts, private=private)).ask(QUERY)
        assert (reply.image is None) == bool(says)
        assert says in reply.reason
        assert seen == ([start] if says else [start, target])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no url"),
        ("url = 7", "url = 7 is not a text"),
        ('url = "ftp://x/y"', "no http or https address"),
        ('url = "https:///y"', "no http or https address"),
        ('url = "https://x:99999/y"', "no http or https address"),
        ('url = "https://me:pw@x/y"', "user name or password"),
        ('url = "https://x"\nbody = "multipart"', "image: missing"),
        ('url = "https://x"\nbody = "json"', r"no \$\{image\} in it"),
        ('url = "https://x"\nbody = "json"\n[json]\nat = 2026-11-21', r"no \$\{image\} in it"),
        ('url = "https://x"\nbody = "xml"', "body = 'xml' is not one of"),
        ('url = "https://x"\nseconds = -1', "seconds = -1"),
        ('url = "https://x"\nseconds = nan', "seconds = nan"),
        ('url = "https://x"\nverify = false', "unknown field 'verify'"),
        ('url = "https://x"\nredirects = "y"', "not a list of hosts"),
        ('url = "https://x"\n[headers]\nA = "${NOWHERE_SET_1}"', "NOWHERE_SET_1 is not set"),
        ("url = ", "cannot read"),
    ],
)
def test_descriptions_that_do_not_do(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        load(tmp_path, text)
    assert caught.value.remedy


def test_a_missing_description_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        HttpSuspect.load(tmp_path / "none.toml")


def test_retry_after_is_read_as_seconds_or_date() -> None:
    assert [_seconds(text) for text in ("7", "0", "-3", "inf", "nan", "soon", "")] == [7, 0, 0, 0, 0, 0, 0]
    assert _seconds("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert _seconds("Wed, 21 Oct 2099 07:28:00 GMT") > 1e9
