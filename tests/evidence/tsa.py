"""A timestamp authority (RFC 3161) on loopback, for tests.

`with Authority(folder) as tsa:` serves `tsa.url`; `tsa.root` is the PEM file of its root certificate. The
tokens are made by `openssl ts -reply`. Set `tsa.clock` to a timedelta to have them made here instead, with a
clock that is wrong by so much; set `tsa.change` to a function that spoils the answer on the way.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

YEAR = timedelta(days=365)
POLICY = "1.3.6.1.4.1.55555.1"
CONFIG = f"""
[tsa]
default_tsa = here
[here]
serial = serial
crypto_device = builtin
default_policy = {POLICY}
digests = sha256, sha384, sha512
signer_digest = sha256
ess_cert_id_alg = sha256
clock_precision_digits = 6
accuracy = secs:1
"""

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")


class Authority:
    """A root, a signing certificate below it, and a server that stamps.

    Args:
        folder: an empty folder for keys and certificates.
        kind: "rsa" or "ec", the kind of the signing key.
        valid: from when to when the signing certificate is valid; by default from a year ago for two.
        purpose: the extended key usage of the signing certificate.
    """

    def __init__(
        self,
        folder: Path,
        kind: str = "rsa",
        valid: tuple[datetime, datetime] | None = None,
        purpose: x509.ObjectIdentifier = ExtendedKeyUsageOID.TIME_STAMPING,
    ) -> None:
        now = datetime.now(UTC)
        self.folder = folder
        self.clock = timedelta(0)
        self.change: Callable[[bytes], bytes] = bytes
        self.status = 200
        self.root = folder / "root.pem"
        folder.mkdir(parents=True, exist_ok=True)
        root_key = ec.generate_private_key(ec.SECP256R1())
        self._key: Any = (
            rsa.generate_private_key(65537, 2048)
            if kind == "rsa"
            else ec.generate_private_key(ec.SECP256R1())
        )
        usage = x509.ExtendedKeyUsage([purpose])
        root = _certificate("Root", root_key, "Root", root_key, (now - 9 * YEAR, now + 9 * YEAR))
        valid = valid or (now - YEAR, now + YEAR)
        self.certificate = _certificate("Stamps", self._key, "Root", root_key, valid, usage)
        self.root.write_bytes(root.public_bytes(serialization.Encoding.PEM))
        (folder / "tsa.pem").write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        (folder / "tsa.key").write_bytes(
            self._key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        (folder / "serial").write_text("01\n")
        (folder / "tsa.cnf").write_text(CONFIG)
        self._lock = threading.Lock()  # openssl keeps its serial number in a file

    def __enter__(self) -> Authority:
        authority = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                query = self.rfile.read(int(self.headers["Content-Length"]))
                answer = authority.change(authority.reply(query))
                self.send_response(authority.status)
                self.send_header("Content-Type", "application/timestamp-reply")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.handle_error = lambda *_: None  # a client that hung up
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Where it is asked."""
        return f"http://127.0.0.1:{self._server.server_port}/"

    def reply(self, query: bytes) -> bytes:
        """Answer a TimeStampReq with a TimeStampResp."""
        if self.clock:
            return self._reply_at(query, datetime.now(UTC) + self.clock)
        with self._lock:
            (self.folder / "query").write_bytes(query)
            words = "ts -reply -config tsa.cnf -queryfile query -inkey tsa.key -signer tsa.pem -out reply"
            subprocess.run(
                ["openssl", *words.split()], cwd=self.folder, check=True, capture_output=True, timeout=60
            )
            return (self.folder / "reply").read_bytes()

    def _reply_at(self, query: bytes, time: datetime) -> bytes:
        """Answer as of `time`, which openssl cannot."""
        from rfc3161_client import _rust

        asked = _rust.parse_timestamp_request(query)
        sha256 = tlv(0x30, _oid("2.16.840.1.101.3.4.2.1"), tlv(5))
        digest = {32: "2.16.840.1.101.3.4.2.1", 64: "2.16.840.1.101.3.4.2.3"}[
            len(asked.message_imprint.message)
        ]
        info = tlv(
            0x30,
            _integer(1),
            _oid(POLICY),
            tlv(0x30, tlv(0x30, _oid(digest), tlv(5)), tlv(4, asked.message_imprint.message)),
            _integer(7),
            tlv(0x18, time.strftime("%Y%m%d%H%M%SZ").encode()),
            _integer(asked.nonce),
        )
        der = self.certificate.public_bytes(serialization.Encoding.DER)
        attributes = sorted(
            tlv(0x30, _oid(name), tlv(0x31, value))
            for name, value in (
                ("1.2.840.113549.1.9.3", _oid("1.2.840.113549.1.9.16.1.4")),
                ("1.2.840.113549.1.9.4", tlv(4, hashlib.sha256(info).digest())),
                (  # signingCertificateV2, whose digest is SHA-256 unless it says otherwise
                    "1.2.840.113549.1.9.16.2.47",
                    tlv(0x30, tlv(0x30, tlv(0x30, tlv(4, hashlib.sha256(der).digest())))),
                ),
            )
        )
        message = tlv(0x31, *attributes)
        if isinstance(self._key, rsa.RSAPrivateKey):
            signature = self._key.sign(message, padding.PKCS1v15(), hashes.SHA256())
            algorithm = tlv(0x30, _oid("1.2.840.113549.1.1.1"), tlv(5))
        else:
            signature = self._key.sign(message, ec.ECDSA(hashes.SHA256()))
            algorithm = tlv(0x30, _oid("1.2.840.10045.4.3.2"))
        signer = tlv(
            0x30,
            _integer(1),
            tlv(0x30, self.certificate.issuer.public_bytes(), _integer(self.certificate.serial_number)),
            sha256,
            tlv(0xA0, *attributes),
            algorithm,
            tlv(4, signature),
        )
        content = tlv(0x30, _oid("1.2.840.113549.1.9.16.1.4"), tlv(0xA0, tlv(4, info)))
        signed = tlv(0x30, _integer(3), tlv(0x31, sha256), content, tlv(0xA0, der), tlv(0x31, signer))
        token = tlv(0x30, _oid("1.2.840.113549.1.7.2"), tlv(0xA0, signed))
        return tlv(0x30, tlv(0x30, _integer(0)), token)


def _certificate(
    name: str,
    key: Any,
    issuer: str,
    issuer_key: Any,
    valid: tuple[datetime, datetime],
    usage: x509.ExtendedKeyUsage | None = None,
) -> x509.Certificate:
    def named(common: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"modelguard test {common}")])

    builder = (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(valid[0])
        .not_valid_after(valid[1])
        .add_extension(x509.BasicConstraints(ca=usage is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
    )
    if usage is not None:
        builder = builder.add_extension(usage, critical=True)
    return builder.sign(issuer_key, hashes.SHA256())


# --- as much DER as a token takes -------------------------------------------------------------------------


def tlv(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    size = len(body)
    if size < 128:
        return bytes([tag, size]) + body
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + body


def _integer(value: int) -> bytes:
    return tlv(2, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _oid(dotted: str) -> bytes:
    first, second, *rest = map(int, dotted.split("."))
    body = bytes([40 * first + second])
    for arc in rest:
        groups = [arc & 127]
        while arc := arc >> 7:
            groups.insert(0, arc & 127 | 128)
        body += bytes(groups)
    return tlv(6, body)
