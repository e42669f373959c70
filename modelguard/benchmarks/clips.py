"""A marked RISTN: what the mark costs on Vid4, what becomes of it in transport and theft, and innocents.

    modelguard bench clips --train DIR --tests DIR_WITH_Vid4

The trigger is one clip of five frames. Low resolution is bicubic with antialias, a quarter of the size.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from torch import Tensor, nn

from modelguard import networks
from modelguard.attacks import Attack, FineTune, Int8, Loot, Prune
from modelguard.benchmarks import hosts, record
from modelguard.benchmarks.false_claims import fresh_key, log10_p, rejections
from modelguard.benchmarks.hosts import Host
from modelguard.benchmarks.ristn import compare, luma, vid4
from modelguard.benchmarks.trigger_key import Keep, figures, kept, reading
from modelguard.datasets import Downscale, Filmed, ImageSet
from modelguard.distortions import H264, Jpeg, Noise, Quantise
from modelguard.evidence import Owner
from modelguard.networks import FilmStrip, bicubic, evaluating, upscale
from modelguard.networks.ristn import FAMILY, SCALE
from modelguard.schemes import Contract, TriggerKey
from modelguard.suspects import ClipSuspect, ModuleSuspect, Suspect
from modelguard.suspects.base import Pixels
from modelguard.verifying import verify

FRAMES = 5
TASK = Filmed(Downscale(SCALE), FRAMES)
CHANNELS: dict[str, nn.Module] = {
    "8 bit": Quantise(),
    **{f"H.264, CRF {crf}": FilmStrip(H264(crf), FRAMES) for crf in (18, 23, 28, 33)},
    "JPEG 75": Jpeg(75),
    "noise 5": Noise(5),
}
RETURNED: dict[str, list[int]] = {
    "third frame dropped": [0, 1, 3, 4],
    "first and last frame cut": [1, 2, 3],
    "first frame sent twice, last dropped": [0, 0, 1, 2, 3],
}
"""The frames that a service gives back, in its order."""


class Bicubic(nn.Module):
    """Enlarges each frame by itself, as any player does."""

    def forward(self, clip: Tensor) -> Tensor:
        """Return (B, T, C, 4h, 4w) for (B, T, C, h, w)."""
        return _clip(bicubic(clip.flatten(0, 1), _larger(clip)), len(clip))


class LumaNet(nn.Module):
    """Puts the luma of each frame through a net of one channel, and enlarges the colours bicubically."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, clip: Tensor) -> Tensor:
        """Return (B, T, 3, 4h, 4w) for (B, T, 3, h, w)."""
        frames = clip.flatten(0, 1)
        brightness = luma(frames)
        change: Tensor = self.net(brightness) - bicubic(brightness, _larger(clip))
        # as much to each colour as brings the luma there
        return _clip(bicubic(frames, _larger(clip)) + change * 255 / 219, len(clip))


def _clip(frames: Tensor, batch: int) -> Tensor:
    return frames.reshape(batch, -1, *frames.shape[1:])


def _larger(clip: Tensor) -> tuple[int, int]:
    return clip.shape[-2] * SCALE, clip.shape[-1] * SCALE


def psnr(strip: nn.Module, pairs: Mapping[str, tuple[Tensor, Tensor]]) -> float:
    """Return the mean luma PSNR in dB over sequences of a film strip's net."""
    assert isinstance(strip, FilmStrip)
    found = [
        compare(torch.stack(list(upscale(strip.net, low))), high).psnr  # type: ignore[arg-type]
        for low, high in pairs.values()
    ]
    return round(sum(found) / len(found), 3)


def service(strip: nn.Module, frames: list[int]) -> ClipSuspect:
    """Return a suspect around a film strip's net that gives back only these frames, in this order."""
    assert isinstance(strip, FilmStrip)
    net = strip.net

    def enlarge(clip: Pixels) -> np.ndarray:
        given = torch.from_numpy(clip).permute(0, 3, 1, 2)[None].float() / 255
        with evaluating(net):
            answer: Tensor = net(given)
        return answer[0, frames].clamp(0, 1).permute(0, 2, 3, 1).numpy()

    return ClipSuspect(enlarge, FRAMES)


def innocents(unmarked: nn.Module) -> dict[str, Suspect]:
    """Return models of clips that never saw a key, by name."""
    by_frame = {"VDSR, frame by frame": LumaNet(hosts.load("vdsr-4").model), "bicubic": Bicubic()}
    return {
        "RISTN, unmarked": ModuleSuspect(unmarked),
        **{name: ModuleSuspect(FilmStrip(net.eval(), FRAMES)) for name, net in by_frame.items()},
    }


def main(
    train: hosts.Train,
    tests: Annotated[Path, typer.Option(help="folder of test sets, of which Vid4 is one")],
    weights: Annotated[str, typer.Option(help="name of shipped weights, or a safetensors file")] = "x4",
    embed_steps: Annotated[int, typer.Option(help="embedding steps of the owner")] = TriggerKey.steps,
    patch: Annotated[int, typer.Option(help="side of the stills in embedding, px; the camera moves 24")] = 88,
    tune_steps: Annotated[int, typer.Option(help="fine-tuning steps of the thief")] = 500,
    tune_batch: Annotated[int, typer.Option(help="clips a step of it")] = 4,
    frames: Annotated[int, typer.Option(help="of each sequence on which quality is measured")] = 11,
    keys: Annotated[int, typer.Option(help="fresh keys for each innocent")] = 200,
    keep: Keep = None,
    out: record.Out = Path("docs/results"),
) -> None:
    """Mark RISTN with one clip, then measure cost, transport, lost frames, theft and innocents."""
    hosts.reproducible()
    net = networks.ristn(pretrained=weights)
    host = Host(FAMILY, FilmStrip(net, FRAMES).eval(), TASK, ("Vid4",))
    stills = ImageSet.from_folder(train, 3, smallest=patch)
    pairs = vid4(tests, frames)
    scheme = TriggerKey(leaves=2 * FRAMES, per_query=FRAMES, steps=embed_steps, patch=patch)
    model, key, facts = kept(host, stills, keep, scheme)
    rows: dict[str, Any] = {
        "weights": Path(weights).stem,
        "scheme": repr(scheme),
        **facts,
        "frames": frames,
        "psnr": {"before": psnr(host.model, pairs), "after": psnr(model, pairs)},
        "transport": [
            {"channel": name, **reading(model, key, channel=one)} for name, one in CHANNELS.items()
        ],
        "returned": [
            {"case": name, **figures(verify(service(model, pick), key))} for name, pick in RETURNED.items()
        ],
        "attacks": [],
        "innocents": [],
    }
    notes = (
        f"luma PSNR on the first {frames} frames of each sequence; fine-tuning with batches of {tune_batch}"
    )

    def save() -> None:
        record.write("clips", out, rows, seed=0, notes=notes)

    save()
    loot = Loot(stills, TASK)
    tuning = FineTune(steps=tune_steps, batch=tune_batch, patch=patch, progress="fine-tune")
    planned: list[Attack] = [Prune(0.2), Prune(0.35), Int8(), tuning]
    for attack in planned:
        stolen = attack(model, loot)
        rows["attacks"].append({"attack": attack.name, "psnr": psnr(stolen, pairs), **reading(stolen, key)})
        save()
    owner, one_clip = Owner("Stranger", Ed25519PrivateKey.generate()), TriggerKey(FRAMES, FRAMES)
    for name, suspect in innocents(host.model).items():
        contract = Contract(3, SCALE, FRAMES)
        values = [log10_p(suspect, fresh_key(owner, one_clip, contract)) for _ in range(keys)]
        rows["innocents"].append({"suspect": name, **rejections(values)})
        save()


if __name__ == "__main__":
    typer.run(main)
