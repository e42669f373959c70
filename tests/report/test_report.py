"""The page for people: complete, self-contained, and deaf to whatever a hostile bundle says."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from PIL import Image

import modelguard as mg
from modelguard.errors import EvidenceError, InputError
from modelguard.evidence import CheckedEvidence, Owner, register
from modelguard.protecting import Protected
from modelguard.report import render, write
from modelguard.suspects import Answer, ModuleSuspect

HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">{{7*7}}&lt;"
CHROMIUM = shutil.which("chromium", path="/usr/bin")


class Page(HTMLParser):
    """Collects tags, attributes and visible text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    @property
    def images(self) -> list[str]:
        return [str(attrs["src"]) for tag, attrs in self.tags if tag == "img"]


Made = tuple[Path, CheckedEvidence]


@pytest.fixture(scope="module")
def made(protected: Protected, owner: Owner, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A bundle of two queries that match."""
    folder = tmp_path_factory.mktemp("report")
    verdict = mg.verify(protected.model, protected.key, queries=2, label="vendor X")
    return folder / "evidence", verdict.certify(owner, folder / "evidence")


@pytest.fixture(scope="module")
def hostile(protected: Protected, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A bundle whose every free text attacks the page; validly signed."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "weights").write_bytes(b"w")
    mallory = Owner(HOSTILE, Ed25519PrivateKey.generate())
    key = mg.Key.create(mallory, protected.key.scheme, 2, decoder=protected.key.decoder, log2_n=1)
    info = dict.fromkeys(("name", "version", "task", "input", "output"), HOSTILE)
    registration = register(mallory, key, [("a" + HOSTILE.replace("/", "?"), folder / "weights")], info)
    key = replace(key, extras={"registration": registration.envelope})
    verdict = mg.verify(protected.model, key, label=HOSTILE)
    return folder / "evidence", verdict.certify(mallory, folder / "evidence")


def test_it_says_what_was_claimed_asked_and_found(made: Made) -> None:
    path, evidence = made
    page = Page(render(path, evidence))
    text = " ".join(page.text.split())
    for part in (
        "Acme Imaging",
        "vendor X",
        evidence.registration.record_id,
        evidence.statement,
        *evidence.limits,
        f"{evidence.matches} of {evidence.bits} secret bits agree",
        "the owner alone",
        evidence.transcript[0].at,
        "proves nothing",
    ):
        assert part in text
    flips = re.search(r"heads (\d+) times in a row", text)
    assert flips is not None
    assert -1e-9 <= -evidence.log10_p_adj / np.log10(2) - int(flips[1]) < 1


def test_its_pictures_are_those_that_were_asked_and_answered(made: Made) -> None:
    path, evidence = made
    images = Page(render(path, evidence)).images
    assert len(images) == 6  # trigger, answer and agreement of each query
    decoded = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,")))))
        for uri in images
    ]
    name = evidence.transcript[0].decoded
    answer = np.asarray(Image.open(path / "blobs" / str(name)))
    assert np.array_equal(decoded[1], answer)
    assert set(np.unique(decoded[0])) == {40, 215}
    blue = sum(int((cells == (0, 114, 178)).all(axis=2).sum()) for cells in (decoded[2], decoded[5]))
    assert blue == evidence.matches


def loads_nothing(page: Page) -> bool:
    allowed = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "div", "p", "strong", "table"}
    allowed |= {"tr", "th", "td", "br", "code", "figure", "img", "figcaption", "sup", "ul", "li"}
    return all(
        tag in allowed
        and not any(name.startswith("on") or name in ("href", "srcset", "style") for name in attrs)
        and (attrs.get("src") or "data:image/png;base64,").startswith("data:image/png;base64,")
        for tag, attrs in page.tags
    )


def test_it_needs_no_network_and_no_script(made: Made) -> None:
    html = render(*made)
    assert loads_nothing(Page(html))
    assert "default-src 'none'; img-src data:" in html
    assert "url(" not in html
    assert "@import" not in html


def test_a_hostile_bundle_cannot_inject_anything(hostile: Made) -> None:
    page = Page(render(*hostile))
    assert loads_nothing(page)
    assert page.text.count(HOSTILE) >= 6  # shown as what it is
    assert "49" not in page.text.split("owner")[0]


def test_inconclusive_is_not_innocent(
    protected: Protected, unmarked: object, owner: Owner, tmp_path: Path
) -> None:
    verdict = mg.verify(unmarked, protected.key)  # type: ignore[arg-type]
    evidence = verdict.certify(owner, tmp_path / "evidence")
    text = Page(render(tmp_path / "evidence", evidence)).text
    assert "Nothing was shown" in text
    assert "does not mean that the suspect is innocent" in text
    assert "coin" not in text


def test_refused_queries_are_shown_as_refused(protected: Protected, owner: Owner, tmp_path: Path) -> None:
    class Refusing(ModuleSuspect):
        def ask(self, query: np.ndarray) -> Answer:
            self.endpoint += "?"
            return Answer(None, b"", "", 403) if self.endpoint.count("?") == 1 else super().ask(query)

    verdict = mg.verify(Refusing(protected.model), protected.key, queries=2)
    evidence = verdict.certify(owner, tmp_path / "evidence")
    page = Page(render(tmp_path / "evidence", evidence))
    assert "Refused with status 403" in page.text
    assert len(page.images) == 1 + 3  # what was asked, and the query that was answered


def test_only_the_first_queries_are_drawn(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelguard.report.MOST_QUERIES", 1)
    page = Page(render(*made))
    assert len(page.images) == 3
    assert "1 more are in the bundle" in " ".join(page.text.split())


def test_an_existing_page_is_kept(made: Made, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("mine")
    with pytest.raises(InputError, match="exists"):
        write(tmp_path / "page.html", *made)
    assert (tmp_path / "page.html").read_text() == "mine"


def test_another_bundle_is_not_illustrated(made: Made, hostile: Made) -> None:
    with pytest.raises(EvidenceError):
        render(hostile[0], made[1])


def test_without_jinja2_it_says_what_to_install(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(InputError, match="jinja2") as caught:
        render(*made)
    assert "modelguard-sdk[report]" in caught.value.remedy


@pytest.mark.skipif(CHROMIUM is None, reason="/usr/bin/chromium is not installed")
def test_a_browser_shows_it_from_the_disk(hostile: Made, tmp_path: Path) -> None:
    """Headless Chromium runs no script of the bundle and draws every picture without a network."""
    page = write(tmp_path / "page.html", *hostile)
    # the probe is ours, beside the page: it reads what the browser made of it
    probe = "document.body.dataset.drawn=[...document.images].every(i=>i.complete&&i.naturalWidth>0)"
    digest = base64.b64encode(hashlib.sha256(probe.encode()).digest()).decode()
    policy = "style-src 'unsafe-inline'"
    html = page.read_text().replace(policy, f"{policy}; script-src 'sha256-{digest}'")
    page.write_text(html.replace("</body>", f"<script>{probe}</script></body>"))
    shot = tmp_path / "page.png"
    result = subprocess.run(
        [
            str(CHROMIUM),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--screenshot={shot}",
            "--dump-dom",
            "--virtual-time-budget=5000",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert 'data-drawn="true"' in result.stdout
    title = re.search("<title>(.*?)</title>", result.stdout, re.DOTALL)
    assert title is not None
    assert title[1] != "owned"
    assert len({*np.asarray(Image.open(shot).convert("L")).ravel()[::97].tolist()}) > 3
