from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from modelguard.benchmarks import record, tables
from modelguard.errors import InputError


def reading(log10_p_adj: float) -> dict[str, Any]:
    verdict = "match" if log10_p_adj <= -6 else "inconclusive"
    return {"log10_p": log10_p_adj - 18.06, "log10_p_adj": log10_p_adj, "verdict": verdict}


def attacked(name: str, psnr: float, one: float, every: float) -> dict[str, Any]:
    return {"attack": name, "set": "Set12", "psnr": psnr, "one": reading(one), "all": reading(every)}


def trigger_key(host: str, after: float = 30.39) -> dict[str, Any]:
    return {
        "host": host,
        "embed_seconds": 199.6,
        "fidelity": [{"set": "Set12", "before": 30.41, "after": after}],
        "marked": reading(-55.04),
        "unmarked": reading(0.0),
        "transport": [{"channel": "JPEG 50", **reading(-40.0)}, {"channel": "noise 25", **reading(-30.0)}],
        "attacks": [attacked("prune 0.35", 29.0, -20.0, -90.0), attacked("prune 0.6", 21.0, -1.0, -3.0)],
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout with a README and one page, without results."""
    (tmp_path / "docs" / "results").mkdir(parents=True)
    (tmp_path / "README.md").write_text("# x\n\n<!-- table:summary -->\n<!-- /table -->\n\ny\n")
    (tmp_path / "docs" / "page.md").write_text("a\n<!-- table:speed -->\nold\n<!-- /table -->\nb\n")
    return tmp_path


def write(root: Path, name: str, rows: Any, notes: str = "") -> None:
    record.write(name, root / "docs" / "results", rows, seed=0, notes=notes)


def test_what_is_not_measured_is_a_sentence(root: Path) -> None:
    tables.main(root)
    page = (root / "docs" / "page.md").read_text()
    sentence = "*Not measured yet: `modelguard bench speed` measures it.*"
    assert page == f"a\n<!-- table:speed -->\n{sentence}\n<!-- /table -->\nb\n"


def test_check_fails_until_pages_follow_the_results(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tables.main(root)
    tables.main(root, check=True)
    row = {"loop_images_per_second": 60.0, "plain_fp32_images_per_second": 20.0, "ratio": 3.0}
    write(root, "speed", row, notes="best of three")
    before = (root / "docs" / "page.md").read_text()
    with pytest.raises(typer.Exit) as raised:
        tables.main(root, check=True)
    assert raised.value.exit_code == 1
    assert "page.md: stale" in capsys.readouterr().out
    assert (root / "docs" / "page.md").read_text() == before
    tables.main(root)
    tables.main(root, check=True)
    after = (root / "docs" / "page.md").read_text()
    assert "| 60 | 20 | 3.00 |" in after
    assert "*From `speed.json` (" in after
    assert "): best of three.*" in after


def test_hosts_become_columns_in_a_fixed_order_and_other_runs_none(root: Path) -> None:
    for host in ("vdsr-2", "other", "dncnn-long", "dncnn"):
        write(root, f"trigger_key-{host}", trigger_key(host.removesuffix("-long")))
    text = tables.render("summary", root / "docs" / "results")
    assert text.startswith("| one query | DnCNN | VDSR x2 |\n")
    assert "| log10 p behind JPEG 50 | -40.0 | -40.0 |" in text
    assert "noise 25" not in text
    assert "prune 0.6" not in text


def test_files_stand_with_their_notes_and_those_without_a_row_not_at_all(root: Path) -> None:
    for host, notes in (("vdsr-2", "short"), ("dncnn-two", "long"), ("dncnn", "long")):
        write(root, f"trigger_key-{host}", trigger_key(host.removesuffix("-two")), notes)
    write(root, "trigger_key-kair", {**trigger_key("kair"), "attacks": [], "fidelity": []})
    text = re.sub(r" \(\d{4}-\d\d-\d\d\)", "", tables.render("robustness", root / "docs" / "results"))
    dncnn = "`trigger_key-dncnn.json`, `trigger_key-dncnn-two.json`: long"
    assert text.endswith(f"*From {dncnn}; `trigger_key-vdsr-2.json`: short.*\n")


def test_a_verdict_that_is_no_match_says_so(root: Path) -> None:
    write(root, "trigger_key-dncnn", trigger_key("dncnn"))
    folder = root / "docs" / "results"
    for name, line in (
        (
            "robustness",
            "| DnCNN | prune 0.6 | Set12 | 21.00 | -1.0, inconclusive | -3.0, inconclusive | -13.8 |",
        ),
        ("fidelity", "| DnCNN | Set12 | 30.41 | 30.39 | -0.020 | 200 | -55.0 | 0.0, inconclusive |"),
        ("transport", "| JPEG 50 | -40.0 |"),
    ):
        assert line in tables.render(name, folder).splitlines()


HOSTS = {"host": "kair", "parameters": 555137, "set": "Set12", "images": 12, "psnr": 30.436}
LEVEL = {"rejected": 41, "share": 0.041, "low": 0.027, "high": 0.06, "level_within": True}
CLAIMS = {"suspect": "grey service", "keys": 1000, "lowest_log10_p": -3.21, "at_0.05": LEVEL}
READ = {"agree": 1.0, "bits": 256, "log10_p": -77.1}
CARRIERS = {"variant": "chips", "settings": "", "seconds": 9.0, "psnr_change": -0.01, "marked": READ}
OURS = {"psnr": 26.3, "d": 0.00239}
PAPER = {"table": "VI", "model": "red", "case": {"pruned": 0.08}, "ours": OURS, "paper": [26.26, 2.41e-3]}
PAPER["keyed"] = {"bits": "200 of 256"}


@pytest.mark.parametrize(
    ("name", "file", "row", "line"),
    [
        (
            "hosts",
            "hosts",
            {**HOSTS, "published": None, "without_model": 20.17},
            "| DnCNN, public weights | 555,137 | Set12 (12) | 30.44 |  | 20.17 |",
        ),
        (
            "false-claims",
            "false_claims",
            CLAIMS,
            "| grey service | 1000 | 0.0410 (0.0270 to 0.0600) | -3.2 |",
        ),
        ("carriers", "carriers-dncnn", CARRIERS, "| DnCNN | chips | -0.010 | 100% of 256, -77.1 |"),
        (
            "paper",
            "paper_tables-red",
            PAPER,
            "| VI | RED | pruned 0.08 | 26.26, 0.00241 | psnr 26.3, d 0.00239 | bits 200 of 256 |",
        ),
    ],
)
def test_each_benchmark_has_its_table(root: Path, name: str, file: str, row: Any, line: str) -> None:
    write(root, file, [row])
    assert line in tables.render(name, root / "docs" / "results").splitlines()


def test_a_marker_without_end_and_an_unknown_table_are_named(root: Path) -> None:
    (root / "README.md").write_text("<!-- table:speed -->\n")
    with pytest.raises(InputError, match=r"README\.md"):
        tables.main(root)
    with pytest.raises(InputError, match="sped"):
        tables.render("sped", root)


def test_a_damaged_result_is_an_error(root: Path) -> None:
    (root / "docs" / "results" / "speed.json").write_text("{")
    with pytest.raises(InputError, match=r"speed\.json"):
        tables.render("speed", root / "docs" / "results")


def test_the_papers_barrier_is_shown_with_empty_and_wrong_logos(root: Path) -> None:
    case = {
        "case": "own outputs",
        "mark": 0,
        "images": 24,
        "nc": 0.9991,
        "centred_nc": 0.99,
        "sr_nc": 1.0,
        "sr_centred": 0.875,
        "sr_c": 1.0,
        "blank_nc": 0.911,
        "wrong_nc": 0.88,
        "wrong_centred_nc": 0.1,
        "before_refining": {"sr_nc": 0.25},
        "psnr": 41.234,
        "ssim": 0.987,
        "psnr_to_photo": None,
    }
    thief = {**case, "case": "cnet-32, l2", "sr_c": None, "before_refining": None}
    write(root, "logo_barrier-grey", {"cases": [case, {**case, "mark": 1, "sr_nc": 0.5}, thief]})
    text = tables.render("logo_barrier", root / "docs" / "results")
    own = "| grey | own outputs, 2 logos | 41.23 | 0.987 |  | 0.999 | 0.911 | 0.880 | 0.990 | 0.100 | 75 % |"
    assert own + " 88 % | 100 % | 25 % |  |\n" in text
    assert " | 88 % |  |  | 93% / 100%; 100% / 100% |\n" in text
    assert "| grey | cnet-32, l2 |" in text
