"""The public records: strict JSON, field tables and in-toto Statements.

Every record is checked against a table that names each field: an unknown field, a float, a duplicate key
or a number that JavaScript would round is an error, so that two readers never see two different records.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
import secrets
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from modelguard.errors import MalformedEvidenceError

DOMAIN = "https://modelguard.dev"
REGISTRATION_TYPE = f"{DOMAIN}/registration/v1"
VERIFICATION_TYPE = f"{DOMAIN}/verification/v1"
BITS_TYPE = f"{DOMAIN}/bits/v1"
REVOCATION_TYPE = f"{DOMAIN}/revocation/v1"
ROTATION_TYPE = f"{DOMAIN}/rotation/v1"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"

MAX_JSON_BYTES = 8 << 20
MAX_DEPTH = 24
MAX_INT = 2**53 - 1
MAX_LEAVES = 65536
MAX_SELECTED = 1024
MAX_LINES = 100_000
MAX_PHOTOS = 1024
MAX_FILES = 65536
MAX_LOG2_N = 20
TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
WEAKEST_ALPHA = Decimal("1e-6")

_ASK = "ask its author for a valid record"

Check = Callable[[str, Any], None]
"""Called with the place and the value; raises MalformedEvidenceError if the value breaks the table."""


# --- strict JSON ------------------------------------------------------------------------------------------


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise MalformedEvidenceError("record: a key appears twice in one object", _ASK)
    return result


def _integer_of(text: str) -> int:
    if len(text) > 17 or abs(int(text)) > MAX_INT:
        raise MalformedEvidenceError("record: an integer of 2^53 or more", _ASK)
    return int(text)


def _no_float(text: str) -> float:
    raise MalformedEvidenceError(f"record: the number {text[:20]} is not an integer", _ASK)


def loads(data: bytes, *, limit: int = MAX_JSON_BYTES) -> Any:
    """Parse strict JSON.

    Args:
        data: UTF-8 text.
        limit: most bytes to accept.

    Raises:
        MalformedEvidenceError: bad UTF-8 or JSON, a duplicate key, a float, NaN, an integer of 2^53 or more,
            more than 24 levels, or more than `limit` bytes.
    """
    if len(data) > limit:
        raise MalformedEvidenceError(f"record: {len(data)} bytes, at most {limit} are read", _ASK)
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_int=_integer_of,
            parse_float=_no_float,
            parse_constant=_no_float,
        )
        level, depth = [value], 0
        while level:
            depth += 1
            if depth > MAX_DEPTH:
                raise RecursionError
            for item in level:
                if isinstance(item, str):
                    item.encode("utf-8")  # "\ud800" parses but is no text
            level = [child for item in level for child in _children(item)]
    except RecursionError:
        raise MalformedEvidenceError(f"record: nested deeper than {MAX_DEPTH}", _ASK) from None
    except ValueError as error:
        raise MalformedEvidenceError(f"record: not JSON in UTF-8 ({error})", _ASK) from None
    return value


def _children(item: Any) -> list[Any]:
    if isinstance(item, dict):
        return [*item.keys(), *item.values()]
    return item if isinstance(item, list) else []


def dumps(value: Any) -> bytes:
    """Write JSON the one way every record here is written: sorted keys, no spaces, UTF-8."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def b64(data: bytes) -> str:
    """Encode as standard Base64 with padding."""
    return base64.b64encode(data).decode()


def unb64(text: str, where: str) -> bytes:
    """Decode standard Base64; anything else raises MalformedEvidenceError naming `where`."""
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        data = None
    if data is None or b64(data) != text:  # one text for the same bytes, down to the unused last bits
        raise MalformedEvidenceError(f"{where}: not Base64", _ASK)
    return data


def ulid() -> str:
    """Return a fresh ULID: 48 bits of milliseconds and 80 random bits in Crockford Base32."""
    value = time.time_ns() // 1_000_000 << 80 | secrets.randbits(80)
    return "".join("0123456789ABCDEFGHJKMNPQRSTVWXYZ"[value >> shift & 31] for shift in range(125, -1, -5))


def utc_now() -> str:
    """Return the time as RFC 3339 in whole seconds of UTC, the only form records use."""
    return datetime.now(UTC).strftime(TIME_FORMAT)


def validity(years: int) -> dict[str, str]:
    """Return a `validity` field that starts now and ends `years` later."""
    start = datetime.now(UTC)
    end = start + timedelta(days=math.ceil(365.25 * years))
    return {"notBefore": start.strftime(TIME_FORMAT), "notAfter": end.strftime(TIME_FORMAT)}


# --- field tables -----------------------------------------------------------------------------------------


def _fail(where: str, value: Any, wanted: str) -> MalformedEvidenceError:
    return MalformedEvidenceError(f"{where}: {str(value)[:60]!r} is not {wanted}", _ASK)


def table(optional: Mapping[str, Check] | None = None, **required: Check) -> Check:
    """Make the check of an object with these fields, no other, and none missing but the optional ones."""
    known = {**required, **(optional or {})}

    def check(where: str, value: Any) -> None:
        if not isinstance(value, dict):
            raise _fail(where, value, "an object")
        if missing := required.keys() - value.keys():
            raise MalformedEvidenceError(f"{where}.{min(missing)}: missing", _ASK)
        if unknown := value.keys() - known.keys():
            raise MalformedEvidenceError(f"{where}.{min(unknown)[:60]}: unknown field", "update modelguard")
        for name, item in known.items():  # in the order of the table: a statement's type before its predicate
            if name in value:
                item(f"{where}.{name}", value[name])

    return check


def each(item: Check, most: int, least: int = 1) -> Check:
    """Make the check of a list of `least` to `most` items."""

    def check(where: str, value: Any) -> None:
        if not isinstance(value, list) or not least <= len(value) <= most:
            raise _fail(where, value, f"a list of {least} to {most} items")
        for index, element in enumerate(value):
            item(f"{where}[{index}]", element)

    return check


def integer(low: int = 0, high: int = MAX_INT) -> Check:
    """Make the check of an integer from `low` to `high`."""

    def check(where: str, value: Any) -> None:
        if type(value) is not int or not low <= value <= high:
            raise _fail(where, value, f"an integer from {low} to {high}")

    return check


def pattern(expression: str, wanted: str) -> Check:
    """Make the check of a string that matches the whole `expression`."""
    compiled = re.compile(expression, re.ASCII)

    def check(where: str, value: Any) -> None:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise _fail(where, value, wanted)

    return check


def one_of(*values: str) -> Check:
    """Make the check of a string out of a fixed list."""

    def check(where: str, value: Any) -> None:
        if value not in values:
            raise _fail(where, value, "one of " + ", ".join(values))

    return check


def moment(where: str, value: Any) -> None:
    """Check a time such as 2026-11-21T06:50:00Z."""
    pattern(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "a time in UTC")(where, value)
    try:
        datetime.strptime(value, TIME_FORMAT)
    except ValueError:
        raise _fail(where, value, "a time in UTC") from None


def scheme(where: str, value: Any) -> None:
    """Check the public parameters of a scheme: integers and short strings, with an "id"."""
    if not isinstance(value, dict) or not isinstance(value.get("id"), str) or len(value) > 64:
        raise _fail(where, value, 'an object of at most 64 fields with an "id"')
    for name, item in value.items():
        pattern("[A-Za-z][A-Za-z0-9_]{0,63}", "a field name")(where, name)
        (text if isinstance(item, str) else integer(-MAX_INT))(f"{where}.{name}", item)
    if "levels" in value:
        integer(1, 255)(f"{where}.levels", value["levels"])


def _alpha(where: str, value: Any) -> None:
    pattern(r"[1-9](\.\d{1,6})?e-\d{1,3}", "a decimal such as 1e-6")(where, value)
    if Decimal(value) > WEAKEST_ALPHA:
        raise _fail(where, value, f"at most {WEAKEST_ALPHA}, the weakest level a registration may claim")


def _period(where: str, value: Any) -> None:
    table(notBefore=moment, notAfter=moment)(where, value)
    if value["notBefore"] > value["notAfter"]:
        raise _fail(f"{where}.notAfter", value["notAfter"], "after notBefore")


def _file_name(where: str, value: Any) -> None:
    text(where, value)
    if "\\" in value or any(part in ("", ".", "..") for part in value.split("/")):
        raise _fail(where, value, "a relative POSIX name without '..'")


base64_text = pattern("[A-Za-z0-9+/=]*", "Base64")
# no control characters and none that turn the direction of writing: a name looks like what it is
text = pattern(
    "[^\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]{1,1024}",
    "a line of 1 to 1024 characters",
)
digest = pattern("[0-9a-f]{64}", "64 hexadecimal digits")
leaf_list = each(integer(0, MAX_LEAVES - 1), MAX_SELECTED)
_keyid = pattern("sha256:[0-9a-f]{64}", "a key id")
_ulid = pattern("[0-7][0-9A-HJKMNP-TV-Z]{25}", "a ULID")
_owner_alg = one_of("ed25519", "ecdsa-p256")
_salt_source = pattern("scrypt/([1-9]|1[0-9]|20)|tst-signature/1", "a known salt source")

suspect = table(label=text, kind=text, endpoint=text, modelDigest=text)
selection = table(
    rule=one_of("hash-nonce/1", "hash-nonce-sequential/1"),
    nonce=digest,
    count=integer(1, MAX_SELECTED),
    exclude=each(integer(0, MAX_LEAVES - 1), MAX_LEAVES, 0),
    optional={"photos": integer(1, MAX_PHOTOS)},
)
_manifest = table(
    method=one_of("openssf-model-signing/v1.0 root"),
    hash=one_of("sha256"),
    root=digest,
    files=each(table(name=_file_name, sha256=digest, size=integer()), MAX_FILES),
)
_key_commitment = table(
    alg=one_of("merkle-sha256-rfc6962"),
    leaves=integer(1, MAX_LEAVES),
    root=digest,
    saltSource=_salt_source,
    optional={"precommitTst": base64_text},
)
_watermark = table(
    scheme=scheme,
    decoder=table(id=text, sha256=digest),
    reference=table(id=one_of("none", "model"), sha256=digest),
    keyCommitment=_key_commitment,
)
registration = table(
    schema=one_of("1.0"),
    recordId=_ulid,
    owner=table(
        name=text, keyid=_keyid, alg=_owner_alg, spki=base64_text, optional={"recovery": base64_text}
    ),
    model=table(name=text, version=text, task=text, input=text, output=text, manifest=_manifest),
    watermark=_watermark,
    policy=table(test=one_of("weighted-sign-exact/1"), alpha=_alpha, grindBits=integer(0, 1024)),
    validity=_period,
    optional={"prior": digest},
)
_result = table(
    bits=integer(1),
    matches=integer(),
    T=integer(-MAX_INT),
    W=integer(),
    tail=pattern("0x[0-9a-f]{1,65536}", "a hexadecimal number"),
    log10p=pattern(r"-?\d{1,6}\.\d\d", "a decimal with two places"),
    verdict=one_of("match", "inconclusive"),
    multiplicity=table(suspects=integer(1), registrations=integer(1), grindBits=integer(0, 1024)),
)
_opening = table(leaf=integer(0, MAX_LEAVES - 1), xK=digest, xb=digest, path=each(digest, 16, 0))
_transcript = table(alg=one_of("sha256-chain/1"), count=integer(1, MAX_LINES), sha256=digest, head=digest)
verification = table(
    schema=one_of("1.0"),
    certificateId=_ulid,
    registration=digest,
    suspect=suspect,
    examiner=table(name=text, mode=one_of("self", "witness", "arbiter"), keyid=_keyid),
    selection=selection,
    transcript=_transcript,
    openings=each(_opening, MAX_SELECTED),
    result=_result,
    validity=_period,
)
bits = table(
    schema=one_of("1.0"),
    registration=digest,
    transcript=_transcript,
    bits=each(table(leaf=integer(0, MAX_LEAVES - 1), xb=digest), MAX_SELECTED),
    optional={"transcriptToken": digest},
)
_revocation = table(
    schema=one_of("1.0"),
    recordId=_ulid,
    target=pattern("(sha256:)?[0-9a-f]{64}", "a key id or record id"),
    reason=text,
    effectiveAt=moment,
)
_rotation = table(
    schema=one_of("1.0"),
    recordId=_ulid,
    old=_keyid,
    new=table(keyid=_keyid, alg=_owner_alg, spki=base64_text, optional={"second": base64_text}),
    reason=text,
    effectiveAt=moment,
)
_PREDICATES = {
    REGISTRATION_TYPE: registration,
    VERIFICATION_TYPE: verification,
    BITS_TYPE: bits,
    REVOCATION_TYPE: _revocation,
    ROTATION_TYPE: _rotation,
}


# --- in-toto Statement v1 ---------------------------------------------------------------------------------


def build_statement(subject: Mapping[str, str], predicate_type: str, predicate: Mapping[str, Any]) -> bytes:
    """Build the bytes of an in-toto Statement v1 and check them as a reader would.

    Args:
        subject: file name -> sha256 in hexadecimal.
        predicate_type: one of the predicate types above.
        predicate: the record itself.

    Raises:
        MalformedEvidenceError: the predicate breaks its table.
    """
    data = dumps(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": name, "digest": {"sha256": value}} for name, value in subject.items()],
            "predicateType": predicate_type,
            "predicate": predicate,
        }
    )
    parse_statement(data, predicate_type)
    return data


def parse_statement(data: bytes, predicate_type: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Parse an in-toto Statement of the wanted type into its subject and its checked predicate.

    Raises:
        MalformedEvidenceError: not strict JSON, another type, or a predicate that breaks its table.
    """
    value = loads(data)
    check = table(
        _type=one_of(STATEMENT_TYPE),
        predicateType=one_of(predicate_type),
        subject=each(table(name=_file_name, digest=table(sha256=digest)), MAX_FILES),
        predicate=_PREDICATES[predicate_type],
    )
    check("statement", value)
    subject = {entry["name"]: entry["digest"]["sha256"] for entry in value["subject"]}
    if len(subject) != len(value["subject"]):
        raise MalformedEvidenceError("statement.subject: a file is named twice", _ASK)
    return subject, value["predicate"]
