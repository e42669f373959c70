"""What RIIS is good for, measured: edits located, QR codes photographed, colours carried by a grey."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from modelguard.benchmarks.train_riis import psnr
from modelguard.codecs import RIIS
from modelguard.codecs.qr import qr_code, read_qr
from modelguard.datasets import to_uint8
from modelguard.distortions import Grey, Jpeg, PrintAndPhoto, Quantise
from modelguard.networks import bicubic

EDITS = ("5%", "10%", "20%", "stretched", "trimmed")


def edited(picture: Tensor, other: Tensor, edit: str, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return an edited picture and where it differs, bool (H, W).

    Args:
        picture: (3, H, W).
        other: of the same size, which fills what is replaced.
        edit: a share such as "5%", of which a rectangle is replaced; "stretched": all beyond a column is
            widened by a quarter; "trimmed": a strip is cut out and the rest moves up. The frame stays.
        generator: of the place; the column lies a fifth to two fifths from the right.
    """
    height, width = picture.shape[1:]
    inside = torch.zeros(height, width, dtype=torch.bool)
    if edit.endswith("%"):
        part = (float(edit.rstrip("%")) / 100) ** 0.5
        high, wide = round(part * height), round(part * width)
        top = int(torch.randint(height - high + 1, (), generator=generator))
        left = int(torch.randint(width - wide + 1, (), generator=generator))
        inside[top : top + high, left : left + wide] = True
        return torch.where(inside, other, picture), inside
    cut = width - int(torch.randint(width // 5, 2 * width // 5, (), generator=generator))
    inside[:, cut:] = True
    kept, moved = picture[..., :cut], picture[..., cut:]
    if edit == "stretched":
        moved = bicubic(moved[None], (height, round(1.25 * (width - cut))))[0].clamp(0, 1)
    else:
        gone = int(torch.randint(width // 32, width // 8, (), generator=generator))
        moved = torch.cat([moved[..., gone:], other[..., :gone]], 2)
    return torch.cat([kept, moved], 2)[..., :width], inside


def locating(codec: RIIS, groups: Tensor, seed: int = 0) -> dict[str, Any]:
    """Return how well edits are located, and what is marked where there is none.

    Args:
        codec: that hides the secrets of each group.
        groups: (B, 1 + S, 3, H, W), of three groups at least.
        seed: of the places.
    """
    generator = torch.Generator().manual_seed(seed)
    rows: dict[str, Any] = {}
    for name, distortion in {"8 bits": Quantise(), "JPEG 80": Jpeg(80)}.items():
        overlaps: dict[str, list[float]] = {edit: [] for edit in EDITS}
        alarms = []
        for number, group in enumerate(groups):
            host, *secrets = group
            container = codec.hide(host, secrets)
            untouched = distortion(container[None])[0]
            alarms.append(codec.locate(untouched, secrets, distortion).share)
            other = groups[(number + groups.shape[1]) % len(groups), 0]
            for edit, found in overlaps.items():
                picture, inside = edited(container, other, edit, generator)
                marked = codec.locate(distortion(picture[None])[0], secrets, distortion)
                mask = torch.from_numpy(marked.mask)
                found.append(float((mask & inside).sum() / (mask | inside).sum()))
        rows[name] = {
            "overlap": {edit: round(sum(found) / len(found), 4) for edit, found in overlaps.items()},
            "false_area": round(sum(alarms) / len(alarms), 4),
        }
    return rows


def photographing(codec: RIIS, groups: Tensor, trials: int, seed: int = 0) -> dict[str, int]:
    """Return how many QR codes are read from the first secret, of containers as saved and of photos of them.

    Args:
        codec: is not told what happened.
        groups: (B, 1 + S, 3, H, W), whose hosts take turns.
        trials: each with another text, photo and error of the corners.
        seed: of all three.
    """
    generator = torch.Generator().manual_seed(seed)
    distortion = PrintAndPhoto(seed=seed)
    read = {"saved": 0, "photographed": 0}
    for trial in range(trials):
        host = groups[trial % len(groups), 0]
        text = f"MG{int(torch.randint(2**31, (), generator=generator)):08X}"
        container = codec.hide(host, qr_code(text, min(host.shape[1:])))
        for name, picture in (("saved", container), ("photographed", distortion(container[None])[0])):
            read[name] += read_qr(codec.reveal(to_uint8(picture)).secrets[0]) == text
    return {"trials": trials, **read}


def colouring(codec: RIIS, groups: Tensor) -> dict[str, Any]:
    """Return PSNRs in dB of pictures that look grey to grey ones, and of their colours to what these were.

    Args:
        codec: that carries them.
        groups: (B, 1 + S, 3, H, W); the hosts are used.
    """
    colour = groups[:, 0]
    grey = Grey()(colour)
    container = torch.stack([codec.decolour(one) for one in colour])
    rows: dict[str, Any] = {"grey": round(psnr(container, grey), 3), "without": round(psnr(grey, colour), 3)}
    rows["colour"] = {}
    for name, distortion in {"8 bits": Quantise(), "JPEG 80": Jpeg(80)}.items():
        back = [codec.recolour(one, distortion) for one in distortion(container)]
        rows["colour"][name] = round(psnr(torch.stack(back), colour), 3)
    return rows
