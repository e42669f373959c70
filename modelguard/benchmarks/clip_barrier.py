"""A barrier behind RISTN: what it costs on Vid4, whether it flickers, and how stills read it.

    modelguard bench clip_barrier --tests DIR_WITH_Vid4_AND_Kodak24

Stills are asked as clips of five frames in which nothing moves, and the middle frame is read.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from torch import Tensor, nn

from modelguard import networks
from modelguard.benchmarks import hosts, record
from modelguard.benchmarks.barrier import centre, crops, fresh_key, readings, scores
from modelguard.benchmarks.ristn import compare, vid4
from modelguard.datasets import to_uint8
from modelguard.distortions import H264
from modelguard.evidence import Owner
from modelguard.networks import Still, evaluating, upscale
from modelguard.networks.ristn import SCALE
from modelguard.schemes import Barrier

FRAMES = 5
CODED = {"8 bit": nn.Identity(), **{f"H.264, CRF {crf}": H264(crf) for crf in (18, 23, 28)}}


def steadiness(plain: Tensor, marked: Tensor) -> dict[str, float]:
    """Return how strong a mark is and how much it changes from frame to frame, in grey levels (RMS).

    Args:
        plain: frames (T, C, H, W) in [0, 1].
        marked: the same with the mark.
    """
    shown, other = (to_uint8(frames).float() for frames in (plain, marked))
    mark = other - shown
    return {
        "mark": _rms(mark),
        "mark_changes": _rms(mark[1:] - mark[:-1]),
        "frames_change": _rms(shown[1:] - shown[:-1]),
    }


def _rms(values: Tensor) -> float:
    return round(float(values.square().mean().sqrt()), 3)


def main(
    tests: Annotated[Path, typer.Option(help="folder of test sets, with Vid4 and Kodak24")],
    weights: Annotated[str, typer.Option(help="name of shipped weights, or a safetensors file")] = "x4",
    photos: Annotated[int, typer.Option(help="asked as stills")] = 8,
    side: Annotated[int, typer.Option(help="of them, in pixels")] = 128,
    frames: Annotated[int, typer.Option(help="of each sequence")] = 11,
    out: record.Out = Path("docs/results"),
) -> None:
    """Put a barrier behind RISTN and measure cost, flicker and evidence."""
    hosts.reproducible()
    net, scheme = networks.ristn(pretrained=weights), Barrier()
    stills = [centre(photo, side) for photo in crops(tests / "Kodak24", 3, photos)]
    owner = Owner("Benchmark", Ed25519PrivateKey.generate())
    key = fresh_key(owner, scheme, 3, SCALE)
    barred = scheme.attach(net, key)
    rows: dict[str, Any] = {"weights": Path(weights).stem, "scheme": repr(scheme), "sequences": []}
    for name, (low, high) in vid4(tests, frames).items():
        plain = torch.stack(list(upscale(net, low)))
        marked = barred.mark(plain)
        rows["sequences"].append(
            {
                "sequence": name,
                "psnr": round(compare(plain, high).psnr, 3),
                "psnr_marked": round(compare(marked, high).psnr, 3),
                "to_unmarked": round(compare(marked, plain).psnr, 2),
                **steadiness(plain.clamp(0, 1), marked),
            }
        )
    rows["read"] = [
        {"channel": name, "read": list(readings(key, [scores(key, *pair) for pair in asked]))}
        for name, asked in (
            *((name, _asked(nn.Sequential(barred, channel), stills)) for name, channel in CODED.items()),
            ("unmarked", _asked(net, stills)),
        )
    ]
    rows["mean_loss"] = round(
        statistics.mean(row["psnr"] - row["psnr_marked"] for row in rows["sequences"]), 3
    )
    notes = f"first {frames} frames of each sequence, luma; {photos} stills of {side} px as clips of {FRAMES}"
    record.write("clip_barrier", out, rows, seed=0, notes=notes)


def _asked(net: nn.Module, stills: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    model = Still(net, FRAMES)
    with evaluating(model):
        return [(photo, model(photo[None])[0]) for photo in stills]


if __name__ == "__main__":
    typer.run(main)
