"""RISTN on Vid4 beside bicubic, VDSR and the published frames; its cost, and what the carried state gives.

    modelguard bench ristn --tests DIR_WITH_Vid4

Low resolution is bicubic with antialias, a quarter of the size, 8 bits. PSNR and SSIM are of the BT.601 luma,
rounded to 8 bits, as means over the frames of a sequence and then over sequences.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, nn
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from modelguard import networks
from modelguard.benchmarks import hosts, record
from modelguard.datasets import Downscale, VideoSet, degraded, to_uint8
from modelguard.networks import RISTN, bicubic, device_of, evaluating, upscale
from modelguard.networks.ristn import SCALE

PUBLISHED = {
    "calendar": {"psnr": 22.99, "psnr_crop8": 22.92, "ssim": 0.752},
    "city": {"psnr": 27.08, "psnr_crop8": 27.00, "ssim": 0.750},
    "foliage": {"psnr": 25.49, "psnr_crop8": 25.58, "ssim": 0.715},
    "walk": {"psnr": 29.28, "psnr_crop8": 29.22, "ssim": 0.878},
}
"""Measured on the frames that the authors published: 33, 27, 42 and 39 of a sequence, JPEG of quality 75."""
NOTES = (
    "BT.601 luma in 8 bits; low resolution bicubic with antialias; the published frames are JPEG 75 and more "
    "frames of the same sequences (calendar 33, city 27, foliage 42, walk 39), their SSIM of every third"
)
Enlarge = Callable[[Tensor], Iterable[Tensor]]


@dataclass(frozen=True)
class FrameQuality:
    """Luma PSNR in dB of whole frames and without a border of 8 pixels, and SSIM; means over frames."""

    psnr: float
    psnr_crop8: float
    ssim: float


def luma(frames: Tensor) -> Tensor:
    """Return BT.601 luma with headroom (16 to 235 of 255): (T, 3, H, W) in [0, 1] to (T, 1, H, W)."""
    weight = torch.tensor([65.481, 128.553, 24.966], device=frames.device).view(3, 1, 1) / 255
    return (frames * weight).sum(1, keepdim=True) + 16 / 255


def compare(answer: Tensor, target: Tensor) -> FrameQuality:
    """Compare frames (T, 3 or 1, H, W) in [0, 1], after rounding; of one channel they are luma already."""
    one, two = (_rounded_luma(frames) for frames in (answer, target))
    crop = (slice(None), slice(None), slice(8, -8), slice(8, -8))
    pairs = list(zip(one[:, None], two[:, None], strict=True))
    psnrs = [float(peak_signal_noise_ratio(a, b, data_range=1.0)) for a, b in pairs]
    inner = [float(peak_signal_noise_ratio(a[crop], b[crop], data_range=1.0)) for a, b in pairs]
    ssims = [float(structural_similarity_index_measure(a, b, data_range=1.0)) for a, b in pairs]  # type: ignore[arg-type]
    return FrameQuality(*(sum(each) / len(each) for each in (psnrs, inner, ssims)))


def _rounded_luma(frames: Tensor) -> Tensor:
    frames = to_uint8(frames).float() / 255
    return frames if frames.shape[1] == 1 else to_uint8(luma(frames)).float() / 255


def by_luma(net: nn.Module) -> Enlarge:
    """Return how a net of one channel enlarges the luma of frames, one by one."""

    def enlarge(low: Tensor) -> Iterable[Tensor]:
        for frame in luma(low):
            with evaluating(net):
                yield net(frame[None])[0]

    return enlarge


def enlargers(net: RISTN, weights: Path | None) -> dict[str, Enlarge]:
    """Return what is compared, by name: each maps (T, 3, h, w) to frames of four times the size."""

    def idle(low: Tensor) -> Tensor:
        return bicubic(low, (low.shape[2] * SCALE, low.shape[3] * SCALE))

    found: dict[str, Enlarge] = {"bicubic": idle, "vdsr-4": by_luma(hosts.load("vdsr-4").model)}
    if weights is not None:
        found["vdsr-public-4"] = by_luma(hosts.load("vdsr-public-4", weights).model)
    found["ristn"] = lambda low: upscale(net, low)
    # five frames are one window, in which nothing is carried; three of these are in five frames
    for carry, name in ((True, "carried"), (False, "not carried")):
        found[f"windows of 3, {name}"] = lambda low, carry=carry: upscale(  # type: ignore[misc]
            net, low, length=3, step=1, carry=carry
        )
    return found


def vid4(tests: Path, frames: int | None = None) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the sequences of the folder Vid4 in `tests`, small and large, or so many frames of each."""
    videos, task = VideoSet.from_folder(tests / "Vid4", smallest=17).videos, Downscale(SCALE)
    large = {name: video[:frames].float() / 255 for name, video in videos.items()}
    return {name: degraded(clip, task, torch.Generator()) for name, clip in large.items()}


def cost(net: RISTN, clip: Tensor) -> dict[str, Any]:
    """Measure a window of a stream in fp32 and bf16: seconds a new frame, and memory beyond what was held.

    Two windows go through either way; the second is measured.

    Args:
        net: in evaluation mode.
        clip: (T, 3, h, w).
    """
    window, device = clip[:5][None], device_of(net)
    row: dict[str, Any] = {"size": f"{clip.shape[3] * SCALE} x {clip.shape[2] * SCALE}"}
    for name, half in (("fp32", False), ("bf16", True)):
        _frames(net, window, half)
        before = _reset_peak(device)
        wall, processor = time.monotonic(), time.process_time()
        _frames(net, window, half)
        # a stream takes a window for every three frames
        row[f"{name}_seconds"] = round((time.monotonic() - wall) / 3, 3)
        row[f"{name}_processor_seconds"] = round((time.process_time() - processor) / 3, 3)
        row[f"{name}_peak_megabytes"] = None if before is None else round((_peak(device) - before) / 2**20)
    seconds = "seconds" if device.type == "cuda" else "processor_seconds"
    row["bf16_ratio"] = round(row[f"fp32_{seconds}"] / max(row[f"bf16_{seconds}"], 1e-3), 2)
    return row


def _frames(net: RISTN, window: Tensor, half: bool) -> Tensor:
    device = device_of(net)
    with evaluating(net), torch.autocast(device.type, torch.bfloat16, enabled=half):
        frames: Tensor = net(window.to(device))
    return frames.cpu()


def _reset_peak(device: torch.device) -> int | None:
    """Forget the peak of memory so far and return what is held now, in bytes; None where it is not known."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not Linux, or not allowed
        return None
    return _status("VmRSS")


def _peak(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _status("VmHWM")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def main(
    tests: Annotated[Path, typer.Option(help="folder of test sets, of which Vid4 is one")],
    weights: Annotated[str, typer.Option(help="name of shipped weights, or a safetensors file")] = "x4",
    independent: Annotated[
        Path | None, typer.Option("--hosts", help="folder of independent weights, for their VDSR")
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="folder that train_ristn wrote, for the learning curve")
    ] = None,
    tag: Annotated[str, typer.Option(help="added to the name of the result")] = "",
    out: record.Out = Path("docs/results"),
) -> None:
    """Measure quality by sequence, speed and memory."""
    net = networks.ristn(pretrained=weights)
    pairs = vid4(tests)
    sequences = [
        {
            "sequence": name,
            "frames": len(high),
            "quality": {
                method: _short(compare(torch.stack(list(enlarge(low))), high))
                for method, enlarge in enlargers(net, independent).items()
            },
            "published": PUBLISHED.get(name),
        }
        for name, (low, high) in pairs.items()
    ]
    curve = [] if run is None else (run / "validation.jsonl").read_text().splitlines()
    rows = {
        "weights": Path(weights).stem,
        "parameters": sum(p.numel() for p in net.parameters()),
        "sizes": asdict(net.sizes),
        "sequences": sequences,
        "cost": cost(net, next(iter(pairs.values()))[0]),
        "learning": [json.loads(line) for line in curve],
    }
    record.write(f"ristn{tag}", out, rows, seed=0, notes=NOTES)


def _short(found: FrameQuality) -> dict[str, float]:
    return {name: round(value, 4) for name, value in asdict(found).items()}


if __name__ == "__main__":
    typer.run(main)
