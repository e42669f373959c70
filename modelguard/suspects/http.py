"""A suspect that is a web service: every read has a limit, and secrets go to nobody else."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import anyio
import httpx2
from anyio.from_thread import start_blocking_portal

from modelguard.errors import SuspectError
from modelguard.suspects.base import NO_RESPONSE, Answer, Pixels, check_query
from modelguard.suspects.contract import MAX_BYTES, decode, to_contract
from modelguard.suspects.service import Service

MAX_HOPS = 5
_MAX_REFUSAL_BYTES = 1 << 16
_HIDDEN = "[hidden]"


class HttpSuspect:
    """Asks a web service, one question a call; what is no image is a refusal, never an exception.

    Args:
        service: how it is asked; its address alone means that the file of the image is sent and comes back.

    Raises:
        InputError: the address is not http(s), or a header needs an environment variable that is not set.
    """

    kind = "http-api"

    def __init__(self, service: Service | str) -> None:
        self.service = service if isinstance(service, Service) else Service(service)
        self.endpoint = self.service.endpoint
        self._secrets = self.service.secrets()

    @classmethod
    def load(cls, path: str | Path) -> HttpSuspect:
        """Read the service from a TOML file; see `Service.load`."""
        return cls(Service.load(path))

    def ask(self, query: Pixels) -> Answer:
        """Put one query (H, W, C) to the service; see `Suspect`."""
        check_query(query)
        request = self.service.request(query, self._secrets)
        tls = self._tls  # made once, and before the clock starts
        # a loop of its own, since its cancellation alone bounds every wait, also if the caller runs a loop
        with start_blocking_portal() as portal:
            reply = portal.call(self._exchange, request, tls)
        return self._answer(reply, query)

    def __repr__(self) -> str:
        return f"HttpSuspect({self.endpoint!r})"

    @cached_property
    def _tls(self) -> Any:
        return httpx2.create_ssl_context()

    def _answer(self, reply: _Reply, query: Pixels) -> Answer:
        reason = reply.reason
        if not reason:
            try:
                raw = self.service.image_in(reply.body)
                pixels, media_type = decode(raw)
                image, converted = to_contract(pixels, query)
                return Answer(image, raw, media_type, reply.status, converted=converted)
            except SuspectError as error:
                reason = error.message.removeprefix("suspect: ")
        body = reply.body[:_MAX_REFUSAL_BYTES]
        for secret in filter(None, self._secrets.values()):  # some services repeat what they were sent
            body = body.replace(secret.encode(), _HIDDEN.encode())
            reason = reason.replace(secret, _HIDDEN)
        return Answer(None, body, reply.media_type, reply.status, reason, reply.retry_after)

    async def _exchange(self, request: Mapping[str, Any], tls: Any) -> _Reply:
        limit = self.service.seconds
        try:
            with anyio.fail_after(limit):
                async with httpx2.AsyncClient(verify=tls, timeout=limit) as client:
                    return await self._follow(client, request)
        except (TimeoutError, httpx2.TimeoutException):
            return _Reply(NO_RESPONSE, f"no complete answer within {limit:g} s")
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError) as error:
            return _Reply(NO_RESPONSE, f"connection failed: {type(error).__name__} {error}".strip())

    async def _follow(self, client: httpx2.AsyncClient, request: Mapping[str, Any]) -> _Reply:
        start = target = httpx2.URL(self.service.url)
        method, arguments = "POST", dict(request)
        for _ in range(MAX_HOPS + 1):
            if _origin(target) != _origin(start):
                arguments.pop("headers", None)  # they may hold a secret
            arguments["headers"] = {**arguments.get("headers", {}), "Accept-Encoding": "identity"}
            async with client.stream(method, target, **arguments) as response:
                if not response.has_redirect_location:
                    return await _read(response)
                target = target.join(response.headers["Location"])
                if problem := await self._forbidden(start, target):
                    return _Reply(response.status_code, f"redirected to {target.host}: {problem}")
                if response.status_code not in (307, 308):  # those alone repeat the question
                    headers = dict(request["headers"])
                    headers.pop("Content-Type", None)
                    method, arguments = "GET", {"headers": headers}
        return _Reply(response.status_code, f"redirected more than {MAX_HOPS} times")

    async def _forbidden(self, start: httpx2.URL, target: httpx2.URL) -> str:
        """Return why the service may not redirect there, or "" if it may."""
        if target.scheme not in ("http", "https") or (start.scheme, target.scheme) == ("https", "http"):
            return f"{target.scheme} is not allowed"
        if target.host == start.host:
            return ""
        if target.host not in self.service.redirects:
            return "it is not among `redirects`"
        if not self.service.private and await _is_public(start) and not await _is_public(target):
            return "a private address, and `private` is false"
        return ""


class _Reply:
    """What came back, before it is an answer or a refusal; no `reason` means it may be an answer."""

    def __init__(self, status: int, reason: str = "", body: bytes = b"", media_type: str = "") -> None:
        self.status, self.reason, self.body = status, reason, body
        self.media_type = "".join(filter(str.isprintable, media_type.split(";")[0]))[:100] or "unknown"
        self.retry_after = 0.0


async def _read(response: httpx2.Response) -> _Reply:
    status, headers = response.status_code, response.headers
    succeeded = 200 <= status < 300
    limit = MAX_BYTES * 3 // 2 if succeeded else _MAX_REFUSAL_BYTES  # Base64 is a third longer
    chunks, size = [], 0
    async for chunk in response.aiter_raw():  # raw: nothing is unpacked that could grow
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            break
    reason = "" if succeeded else f"HTTP {status} {response.reason_phrase}".strip()
    if succeeded and size > limit:
        reason, chunks = f"a body of more than {limit} bytes", []
    elif succeeded and headers.get("Content-Encoding", "identity").lower() != "identity":
        reason = f"a body in {headers['Content-Encoding']}, which was not asked for"
    reply = _Reply(status, reason, b"".join(chunks)[:limit], headers.get("Content-Type", ""))
    reply.retry_after = _seconds(headers.get("Retry-After", ""))
    return reply


def _seconds(retry_after: str) -> float:
    """Return what a Retry-After header asks for in seconds; 0 if it makes no sense."""
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            moment = parsedate_to_datetime(retry_after)
        except ValueError:
            return 0.0
        at = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        seconds = (at - datetime.now(UTC)).total_seconds()
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0


def _origin(url: httpx2.URL) -> tuple[str, str, int]:
    return url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80)


async def _is_public(url: httpx2.URL) -> bool:
    """Return whether every address of the host is a public one; False if it has none."""
    try:
        found = await anyio.getaddrinfo(url.host, _origin(url)[2])
    except OSError:
        return False
    addresses = [ipaddress.ip_address(entry[4][0].partition("%")[0]) for entry in found]
    return all(address.is_global for address in addresses)
