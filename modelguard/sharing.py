"""The last verb: give a protected model to others, by folder or Hugging Face Hub, with its registration."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import HfApi, ModelCardData
from huggingface_hub.errors import HFValidationError
from torch import nn

from modelguard._files import atomic_write_bytes, new_folder
from modelguard.errors import InputError, SharingError
from modelguard.evidence import PublicKey, Registration
from modelguard.evidence.stamped import token_path
from modelguard.protecting import REGISTRATION_NAME, WEIGHTS_NAME
from modelguard.schemes import shell
from modelguard.weights import dump_state, load_state

CARD_NAME = "README.md"
TOKEN_NAME = token_path(Path(REGISTRATION_NAME)).name
NEEDED = (WEIGHTS_NAME, REGISTRATION_NAME, CARD_NAME)
SHARED = [*NEEDED, TOKEN_NAME]
"""All that is ever uploaded or downloaded."""


class Pretrained(NamedTuple):
    """A shared model with the registration its weights were checked against."""

    model: nn.Module
    registration: Registration


def save_pretrained(model: nn.Module, registration: Registration, folder: str | Path) -> Path:
    """Write a new folder that can be given away: safetensors, signed registration and model card.

    A registration with a timestamp has it beside it, as registration.tsr.
    The card states what is registered; complete it (licence, data, limits) before you push. Nothing here is
    secret, and nothing secret is written.

    Args:
        model: `Protected.model`, with the very weights that were registered.
        registration: `Protected.registration`.
        folder: new.

    Raises:
        InputError: the folder exists, or the model's weights are not the registered ones.
    """
    weights = dump_state(model)
    _check(weights, registration, "model")
    with new_folder(folder) as whole:
        atomic_write_bytes(whole / WEIGHTS_NAME, weights)
        registration.save(whole / REGISTRATION_NAME)
        atomic_write_bytes(whole / CARD_NAME, _card(registration).encode())
    return Path(folder)


def push_to_hub(
    folder: str | Path, repo: str, *, private: bool | None = None, token: str | None = None
) -> str:
    """Upload what `save_pretrained` wrote, and no other file of the folder, as one commit.

    Args:
        folder: written by `save_pretrained`.
        repo: such as "acme/denoiser"; made if it is not there.
        private: of a new repository; None leaves it to the hub's default.
        token: for the hub; by default the one you logged in with, or HF_TOKEN.

    Returns:
        The address of the commit.

    Raises:
        InputError: a file is missing in the folder, or `repo` is no name of a repository.
        SharingError: the hub cannot be reached, or refuses.
    """
    folder = Path(folder)
    missing = [name for name in NEEDED if not (folder / name).is_file()]
    if missing:
        raise InputError(f"folder: {folder} has no {missing[0]}", "write it with modelguard.save_pretrained")
    api = HfApi(token=token, library_name="modelguard")
    with _hub(api, repo):
        api.create_repo(repo, private=private, exist_ok=True)
        done = api.upload_folder(
            repo_id=repo, folder_path=folder, allow_patterns=SHARED, commit_message="Protected model"
        )
    return str(done.commit_url)


def from_pretrained(
    source: str | Path,
    model: nn.Module,
    *,
    trust: Sequence[PublicKey | str | Path],
    revision: str | None = None,
    token: str | None = None,
) -> Pretrained:
    """Load a shared model, and check its weights against the registration its owner signed.

    Args:
        source: folder written by `save_pretrained`, or the name of a repository such as "acme/denoiser".
        model: built by you, with any weights; changed in place only if all is well.
        trust: public keys, or their PEM files, of the owner you believe in.
        revision: branch, tag or commit on the hub.
        token: for the hub; by default the one you logged in with, or HF_TOKEN.

    Returns:
        The model, in evaluation mode, and the registration. Of a model protected by `Barrier` it is `model`
        behind its barrier.

    Raises:
        InputError: no such key file, a missing file, weights that are not the registered ones or do not fit
            `model`.
        SignatureError: nobody trusted signed the registration.
        MalformedEvidenceError: the registration breaks its format.
        SharingError: the hub cannot be reached, or refuses.
    """
    keys = [one if isinstance(one, PublicKey) else PublicKey.load(one) for one in trust]
    folder = Path(source)
    if not folder.is_dir():
        api = HfApi(token=token, library_name="modelguard")
        with _hub(api, str(source)):
            folder = Path(api.snapshot_download(str(source), revision=revision, allow_patterns=SHARED))
    for name in (WEIGHTS_NAME, REGISTRATION_NAME):
        if not (folder / name).is_file():
            raise InputError(f"source: {source} has no {name}", "it must be written by save_pretrained")
    stamp = (folder / TOKEN_NAME).read_bytes() if (folder / TOKEN_NAME).is_file() else b""
    registration = Registration.from_envelope((folder / REGISTRATION_NAME).read_bytes(), keys, stamp)
    weights = (folder / WEIGHTS_NAME).read_bytes()
    _check(weights, registration, "source")
    model = shell(model, registration.scheme, registration.leaves)
    load_state(model, weights)
    return Pretrained(model.eval(), registration)


def _check(weights: bytes, registration: Registration, name: str) -> None:
    files = {file["name"]: file["sha256"] for file in registration.fields["model"]["manifest"]["files"]}
    if files.get(WEIGHTS_NAME) != hashlib.sha256(weights).hexdigest():
        raise InputError(
            f"{name}: its weights are not those of registration {registration.record_id[:16]}",
            "share the protected model as it came from `protect`, and check what you got with its owner",
        )


@contextmanager
def _hub(api: HfApi, repo: str) -> Iterator[None]:
    """Turn whatever the hub's client raises into one kind; its own are many, of different bases."""
    try:
        yield
    except HFValidationError as error:
        raise InputError(
            f"repo: {error}", "name an existing folder, or a repository as owner/name"
        ) from error
    except Exception as error:
        raise SharingError(
            f"hub: {api.endpoint} did not serve {repo!r} ({type(error).__name__}: {error})",
            "check the name, your network and your token, or share the folder by other means",
        ) from error


def _card(registration: Registration) -> str:
    about, watermark = registration.fields["model"], registration.fields["watermark"]
    validity = registration.fields["validity"]
    data = ModelCardData(
        library_name="modelguard", pipeline_tag="image-to-image", tags=["modelguard", "watermark"]
    )
    digests = [(f"sha256 of `{file['name']}`", file["sha256"]) for file in about["manifest"]["files"]]
    facts = [
        ("owner", registration.owner_name),
        ("key of the owner", registration.owner.keyid),
        ("record", registration.record_id),
        ("mark", watermark["scheme"]["id"]),
        ("commitment to the secret key", registration.root.hex()),
        *digests,
        ("valid", f"{validity['notBefore']} to {validity['notAfter']}"),
    ]
    rows = "\n".join(f"| {what} | {value} |" for what, value in facts)
    return f"""---
{data.to_yaml()}
---

# {about["name"]} {about["version"]}

Input: {about["input"]}. Output: {about["output"]}. Task: {about["task"]}.

## Registration

This model carries a mark of its owner, registered before its release in `{REGISTRATION_NAME}`, a signed file.

| | |
|---|---|
{rows}

## Use

```python
import modelguard as mg

model, registration = mg.from_pretrained("THIS REPOSITORY", YourModule(), trust=["owner.pub.pem"])
```

It maps (B, C, H, W) in [0, 1] to images in [0, 1]. Get the owner's public key from the owner, not from here.
"""
