"""How a web service is asked: a small TOML file that says where the image goes and where the answer is."""

from __future__ import annotations

import base64
import binascii
import json
import math
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from modelguard.errors import InputError, SuspectError
from modelguard.suspects.base import Pixels, encode
from modelguard.suspects.contract import FORMATS

IMAGE = "${image}"
_VARIABLE = re.compile(r"\$\{(\w+)\}")
BODIES = ("raw", "multipart", "json")


def _texts(value: object) -> bool:
    return isinstance(value, Mapping) and all(isinstance(one, str) for one in value.values())


_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "url": (lambda v: isinstance(v, str), "a text"),
    "body": (lambda v: v in BODIES, 'one of "raw", "multipart" and "json"'),
    "image": (lambda v: isinstance(v, str), "the name of a form field"),
    "format": (lambda v: v in ("png", "jpeg", "webp"), 'one of "png", "jpeg" and "webp"'),
    "answer": (lambda v: isinstance(v, str), 'a path such as "output.0.image"'),
    "seconds": (
        lambda v: type(v) in (int, float) and math.isfinite(v) and v > 0,
        "a positive number",
    ),
    "redirects": (
        lambda v: isinstance(v, list) and all(isinstance(one, str) for one in v),
        "a list of hosts",
    ),
    "private": (lambda v: isinstance(v, bool), "true or false"),
    "headers": (_texts, "a table of texts"),
    "fields": (_texts, "a table of texts"),
    "json": (lambda v: isinstance(v, Mapping), "a table"),
}


@dataclass(frozen=True)
class Service:
    """A web service that answers an image with an image.

    Attributes:
        url: where it is, http or https.
        body: how the image is sent: "raw" (the file is the body), "multipart" (a form) or "json" (Base64).
        image: for "multipart", the form field of the image.
        format: of the image sent: "png", "jpeg" (quality 95) or "webp" (lossless).
        answer: where the image is in a JSON answer, such as "output.0.image"; "" if the body is the image.
        seconds: most time for one question with its answer.
        redirects: other hosts to which it may redirect.
        private: whether a service at a public address may redirect to a private one.
        headers: sent to `url` alone; `${NAME}` stands for an environment variable, read when asking starts.
        fields: for "multipart", further form fields.
        json: for "json", the body, in which `${image}` stands for the image.

    Raises:
        InputError: no http(s) address, or no place for the image.
    """

    url: str
    body: str = "raw"
    image: str = ""
    format: str = "png"
    answer: str = ""
    seconds: float = 30.0
    redirects: tuple[str, ...] = ()
    private: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, str] = field(default_factory=dict)
    json: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what cannot be asked."""
        try:
            parts = urlsplit(self.url)
            known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            known = False
        if not known:
            raise InputError(
                f"url: {self.url!r} is no http or https address", "write https://host/path of the service"
            )
        if parts.username or parts.password:
            raise InputError(
                "url: it holds a user name or password", "send them as a header from an environment variable"
            )
        if self.body == "multipart" and not self.image:
            raise InputError("image: missing", 'name the form field of the image, as in image = "file"')
        if self.body == "json" and IMAGE not in json.dumps(self.json, default=str):
            raise InputError(
                f"json: no {IMAGE} in it", f'say where the image goes, as in json = {{ image = "{IMAGE}" }}'
            )

    @classmethod
    def load(cls, path: str | Path) -> Service:
        """Read a service from a TOML file.

        Raises:
            InputError: no such file, not TOML, or a field that is unknown, missing or of the wrong kind.
        """
        try:
            found = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"service: cannot read {path} ({error})", "give a TOML file") from error
        if unknown := found.keys() - _FIELDS.keys():
            raise InputError(
                f"service: {path} has an unknown field {min(unknown)!r}", f"known are {', '.join(_FIELDS)}"
            )
        if "url" not in found:
            raise InputError(f"service: {path} has no url", 'add url = "https://host/path"')
        for name, value in found.items():
            check, wanted = _FIELDS[name]
            if not check(value):
                raise InputError(f"service: {path}: {name} = {value!r} is not {wanted}", "correct it")
        if "redirects" in found:
            found["redirects"] = tuple(found["redirects"])
        return cls(**found)

    @property
    def endpoint(self) -> str:
        """The address for the record, without its query, which may hold a secret."""
        parts = urlsplit(self.url)
        return urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))

    def secrets(self) -> dict[str, str]:
        """Return the environment variables named in `headers`.

        Raises:
            InputError: one of them is not set.
        """
        names = {name for value in self.headers.values() for name in _VARIABLE.findall(value)}
        if missing := names - os.environ.keys():
            raise InputError(
                f"headers: the environment variable {min(missing)} is not set", "set it before asking"
            )
        return {name: os.environ[name] for name in names}

    def request(self, query: Pixels, secrets: Mapping[str, str]) -> dict[str, Any]:
        """Return headers and body of one question, as arguments for an HTTP client."""
        form = self.format.upper()
        headers = {
            name: _VARIABLE.sub(lambda found: secrets[found[1]], value)
            for name, value in self.headers.items()
        }
        file = encode(query, form)
        if self.body == "multipart":
            upload = (f"image.{self.format}", file, FORMATS[form])
            return {"headers": headers, "files": {self.image: upload}, "data": dict(self.fields)}
        if self.body == "json":
            return {"headers": headers, "json": _filled(self.json, base64.b64encode(file).decode())}
        return {"headers": {"Content-Type": FORMATS[form], **headers}, "content": file}

    def image_in(self, body: bytes) -> bytes:
        """Return the image file in the body of an answer.

        Raises:
            SuspectError: the body is not JSON, or has no Base64 where `answer` says.
        """
        if not self.answer:
            return body
        try:
            value = json.loads(body)
            for step in self.answer.split("."):
                value = value[int(step)] if isinstance(value, list) else value[step]
            text = value.partition("base64,")[2] if value.startswith("data:") else value
            return base64.b64decode("".join(text.split()), validate=True)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError, binascii.Error) as error:
            raise SuspectError(
                f"suspect: no Base64 at {self.answer!r} in {body[:60]!r} ({type(error).__name__})",
                "look at an answer by hand and correct `answer`",
            ) from error


def _filled(template: Any, image: str) -> Any:
    if isinstance(template, str):
        return template.replace(IMAGE, image)
    if isinstance(template, Mapping):
        return {name: _filled(value, image) for name, value in template.items()}
    if isinstance(template, list):
        return [_filled(value, image) for value in template]
    return template if isinstance(template, (int, float)) else str(template)  # TOML has dates, JSON has not
