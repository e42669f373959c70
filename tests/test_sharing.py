from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from torch import nn

import modelguard as mg
from modelguard.errors import InputError, SharingError, SignatureError
from modelguard.networks import DnCNN
from modelguard.protecting import Protected

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """The part of the hub's HTTP API that a push and a pull use, with every file in git as small ones are."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.repos: dict[str, dict[str, bytes]] = {}
        self.received = b""
        self.tokens: set[str | None] = set()


class Request(BaseHTTPRequestHandler):
    """One request to the hub."""

    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def answer(self, status: int, body: Any = b"", **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.received += body
        self.server.tokens.add(self.headers.get("Authorization"))
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            self.server.repos.setdefault(name, {})
            self.answer(200, {"url": f"{self.server.url}/{name}"})
        elif self.path == "/api/validate-yaml":
            self.answer(200, {"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = [one["path"] for one in json.loads(body)["files"]]
            modes = [{"path": one, "uploadMode": "regular", "shouldIgnore": False} for one in files]
            self.answer(200, {"files": modes})
        elif found := re.fullmatch(r"/api/models/(.+)/commit/main", self.path):
            repo = self.server.repos[found[1]]
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    repo[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            address = f"{self.server.url}/{found[1]}/commit/{COMMIT}"
            self.answer(200, {"success": True, "commitOid": COMMIT, "commitUrl": address})
        else:
            self.answer(404)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if found := re.fullmatch(r"/api/models/(acme/[^/]+)(?:/revision/[^/]+)?", path):
            files = self.server.repos.get(found[1])
            if files is None:
                self.answer(404, X_Error_Code="RepoNotFound")
                return
            siblings = [{"rfilename": name} for name in files]
            self.answer(
                200, {"id": found[1], "sha": COMMIT, "siblings": siblings, "private": False, "tags": []}
            )
        elif found := re.fullmatch(r"/api/models/(acme/[^/]+)/tree/[^/]+", path):
            entries = [
                {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for name, data in self.server.repos[found[1]].items()
            ]
            self.answer(200, entries)
        elif found := re.fullmatch(r"/(acme/[^/]+)/resolve/[^/]+/(.+)", path):
            data = self.server.repos[found[1]][found[2]]
            tag = f'"{hashlib.sha1(data).hexdigest()}"'
            self.answer(200, data, ETag=tag, X_Repo_Commit=COMMIT)
        else:
            self.answer(404)

    do_HEAD = do_GET


def connect(patch: pytest.MonkeyPatch, url: str, folder: Path) -> None:
    """Do what HF_ENDPOINT and HF_HUB_CACHE do before huggingface-hub is imported."""
    constants = huggingface_hub.constants
    patch.setattr(constants, "ENDPOINT", url)
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    patch.setattr(constants, "HF_HUB_CACHE", str(folder / "cache"))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub on loopback, the one that huggingface-hub talks to during the test."""
    server = Hub()
    connect(monkeypatch, server.url, tmp_path)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def fresh() -> nn.Module:
    return DnCNN(depth=3, width=24, batch_norm=False)


@pytest.fixture
def release(protected: Protected, tmp_path: Path) -> Path:
    """A folder that can be given away."""
    return mg.save_pretrained(protected.model, protected.registration, tmp_path / "release")


def test_what_is_saved_loads_and_still_verifies(release: Path, protected: Protected, owner: mg.Owner) -> None:
    model, registration = mg.from_pretrained(release, fresh(), trust=[owner.public])
    assert registration.record_id == protected.registration.record_id
    assert not model.training
    assert mg.verify(model, protected.key).match
    for name, value in protected.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)


def test_the_card_states_what_is_registered(release: Path, protected: Protected, owner: mg.Owner) -> None:
    card = huggingface_hub.ModelCard.load(release / "README.md")
    assert card.data.pipeline_tag == "image-to-image"
    registration = protected.registration
    weights = hashlib.sha256((release / "model.safetensors").read_bytes()).hexdigest()
    for fact in ("tiny 1", owner.name, owner.keyid, registration.record_id, registration.root.hex(), weights):
        assert fact in card.text


def secrets_of(protected: Protected) -> list[bytes]:
    """Everything secret in a key, raw, hexadecimal and in Base64."""
    key = protected.key
    raw = [key.master, key.salt, *(part for leaf in range(key.leaves) for part in key.leaf(leaf))]
    return [form for one in raw for form in (one, one.hex().encode(), base64.b64encode(one))]


def test_nothing_secret_leaves(release: Path, protected: Protected, hub: Hub) -> None:
    protected.key.save(release / "key.mgkey", "a passphrase")
    (release / "notes.txt").write_text("private")
    mg.push_to_hub(release, "acme/denoiser", token="hf_secret")
    files = hub.repos["acme/denoiser"]
    assert set(files) == {"model.safetensors", "registration.dsse.json", "README.md"}
    found = b"".join(files.values())
    payload = json.loads(files["registration.dsse.json"])["payload"]
    found += base64.b64decode(payload) + hub.received
    secrets = secrets_of(protected)
    assert len(secrets) >= 3 * (2 + 2 * protected.key.leaves)
    assert not [one for one in secrets if one in found]
    assert b"hf_secret" not in found
    assert hub.tokens == {"Bearer hf_secret"}


def test_a_push_is_a_pull_elsewhere(
    release: Path, protected: Protected, owner: mg.Owner, hub: Hub, tmp_path: Path
) -> None:
    (release / "README.md").write_text((release / "README.md").read_text() + "\nLicence: ours.\n")
    address = mg.push_to_hub(release, "acme/denoiser")
    assert address == f"{hub.url}/acme/denoiser/commit/{COMMIT}"
    owner.save_public(tmp_path / "acme.pub.pem")
    model, _ = mg.from_pretrained("acme/denoiser", fresh(), trust=[tmp_path / "acme.pub.pem"])
    assert mg.verify(model, protected.key).match
    assert b"Licence: ours." in hub.repos["acme/denoiser"]["README.md"]


def test_the_timestamp_of_a_registration_is_shared_with_it(
    protected: Protected, owner: mg.Owner, hub: Hub, tmp_path: Path
) -> None:
    stamped = replace(protected.registration, token=b"a timestamp")
    mg.push_to_hub(mg.save_pretrained(protected.model, stamped, tmp_path / "release"), "acme/denoiser")
    loaded = mg.from_pretrained("acme/denoiser", fresh(), trust=[owner.public]).registration
    assert (loaded.token, loaded.stamped) == (b"a timestamp", None)


def test_other_weights_than_the_registered_are_refused(
    release: Path, protected: Protected, owner: mg.Owner, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="not those of registration"):
        mg.save_pretrained(copy.deepcopy(protected.model).half(), protected.registration, tmp_path / "half")
    assert not (tmp_path / "half").exists()
    weights = bytearray((release / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (release / "model.safetensors").write_bytes(weights)
    model = fresh()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(InputError, match="not those of registration"):
        mg.from_pretrained(release, model, trust=[owner.public])
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_strangers_registration_is_refused(release: Path) -> None:
    stranger = mg.Owner("Stranger", Ed25519PrivateKey.generate())
    with pytest.raises(SignatureError):
        mg.from_pretrained(release, fresh(), trust=[stranger.public])


def test_a_folder_that_lacks_a_file_is_named(release: Path, owner: mg.Owner) -> None:
    (release / "registration.dsse.json").unlink()
    for call in (
        lambda: mg.push_to_hub(release, "acme/denoiser"),
        lambda: mg.from_pretrained(release, fresh(), trust=[owner.public]),
    ):
        with pytest.raises(InputError, match=r"has no registration\.dsse\.json"):
            call()


@pytest.mark.parametrize("name", ["no/such/folder", "--bad--"])
def test_what_is_no_folder_and_no_repository_is_told_so(name: str, release: Path, owner: mg.Owner) -> None:
    with pytest.raises(InputError, match="repo:"):
        mg.from_pretrained(name, fresh(), trust=[owner.public])
    with pytest.raises(InputError, match="repo:"):
        mg.push_to_hub(release, name)


def test_a_missing_repository_is_told_so(hub: Hub, owner: mg.Owner) -> None:
    with pytest.raises(SharingError, match="acme/nothing"):
        mg.from_pretrained("acme/nothing", fresh(), trust=[owner.public])


@pytest.mark.parametrize("offline", [True, False])
def test_no_network_is_told_so(
    release: Path, owner: mg.Owner, monkeypatch: pytest.MonkeyPatch, offline: bool, tmp_path: Path
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", offline)
    connect(monkeypatch, "http://127.0.0.1:9", tmp_path)
    calls: list[Callable[[], object]] = [
        lambda: mg.push_to_hub(release, "acme/denoiser"),
        lambda: mg.from_pretrained("acme/denoiser", fresh(), trust=[owner.public]),
    ]
    for call in calls:
        with pytest.raises(SharingError, match=r"127\.0\.0\.1:9 did not serve 'acme/denoiser'") as caught:
            call()
        assert "network" in caught.value.remedy
