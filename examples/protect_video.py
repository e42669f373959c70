"""Protect a video super-resolution model: frames in, larger frames out, and evidence against a copy.

    python examples/protect_video.py FOLDER
    python examples/protect_video.py FOLDER --video clip.mp4

Without --video, which takes a folder of frames too, a camera moves over a photo that ships. Wants
`pip install 'modelguard-sdk[video]'`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn
from torchmetrics.functional.image import peak_signal_noise_ratio
from torchvision.transforms.v2.functional import to_pil_image

import modelguard as mg
from modelguard import photos
from modelguard.cli.sheet import draw_sheet
from modelguard.datasets import Downscale, Filmed, moved, read_frames, to_uint8, write_image
from modelguard.distortions import H264
from modelguard.networks import FilmStrip, bicubic, evaluating, upscale
from modelguard.suspects import ClipSuspect

PASSPHRASE = "for this example only"
FRAMES = 5


def film(video: Path | None) -> Iterator[Tensor]:
    """Yield up to twelve large frames (3, H, W), of a video or of a camera that moves over a photo."""
    if video is not None:
        yield from islice(read_frames(video), 12)
    else:
        yield from moved(photos.load(3)[0], 12, 192, (127.5, 127.5), shift=(1.0, 3.0), zoom=1.004)


def enlarge(net: mg.networks.RISTN, video: Path | None, folder: Path) -> None:
    """Shrink a video, enlarge it again, and write its frames and a picture of bicubic, net and truth."""
    pairs = [Downscale(4)(frame, torch.Generator()) for frame in film(video)]
    small, large = (list(frames) for frames in zip(*pairs, strict=True))
    answers = upscale(net, small)
    answers = [answer.clamp(0, 1) for answer in track(answers, "enlarging", total=len(small))]
    for number, answer in enumerate(answers):
        write_image(folder / "large" / f"{number:05}.png", answer)
    middle = len(small) // 2
    truth = large[middle]
    idle = bicubic(small[middle][None], (truth.shape[1], truth.shape[2]))[0].clamp(0, 1)
    shown = {"bicubic": idle, "RISTN": answers[middle]}
    tiles = []
    for name, one in shown.items():
        psnr = float(peak_signal_noise_ratio(one, truth, data_range=1.0))
        tiles.append((name, f"{psnr:.2f} dB", to_pil_image(one)))
    draw_sheet(folder / "side-by-side.png", [*tiles, ("truth", "", to_pil_image(truth))])


def stolen_service(net: nn.Module) -> Callable[[np.ndarray], np.ndarray]:
    """Return what the owner can reach: uint8 clips (T, H, W, 3) in, clips out, as H.264."""

    def answer(clip: np.ndarray) -> np.ndarray:
        given = torch.from_numpy(clip).permute(0, 3, 1, 2)[None].float() / 255
        with evaluating(net):
            coded = H264(crf=23)(net(given))
        return to_uint8(coded[0]).permute(0, 2, 3, 1).numpy()

    return answer


def main(folder: Path, weights: str, video: Path | None, scheme: mg.TriggerKey) -> None:
    """Enlarge, mark, recognise and prove; leave everything in the new `folder`."""
    net = mg.networks.ristn(pretrained=weights)
    folder.mkdir(parents=True)
    enlarge(net, video, folder)

    # A model of clips is protected as a film strip; the trigger is one clip.
    owner = mg.Owner.create(folder / "acme.pem", name="Acme Imaging", passphrase=PASSPHRASE)
    owner.save_public(folder / "acme.pub.pem")
    task, stills = Filmed(Downscale(4), FRAMES), photos.load(3)
    strip = FilmStrip(net, FRAMES)
    protected = mg.protect(strip, scheme, data=stills, owner=owner, task=task, progress=True)
    protected.save(folder / "protected", PASSPHRASE)
    print(protected.report)

    suspect = ClipSuspect(stolen_service(protected.model.net), FRAMES)
    verdict = mg.verify(suspect, protected.key, label="vendor X", transcript=folder / "session")
    print(f"vendor X  {verdict}")
    verdict.certify(owner, folder / "evidence")
    print(f"proven: {mg.check(folder / 'evidence', trust=[folder / 'acme.pub.pem']).statement}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "folder", type=Path, nargs="?", default=Path("film"), help="new folder (default: film)"
    )
    parser.add_argument("--weights", default="x4", help="RISTN weights: a name, or a file (default: x4)")
    parser.add_argument("--video", type=Path, help="a video file, or a folder of frames")
    given = parser.parse_args()
    try:
        main(
            given.folder,
            given.weights,
            given.video,
            mg.TriggerKey(leaves=10, per_query=5, steps=250, batch=4, patch=88),
        )
    except mg.ModelGuardError as error:
        raise SystemExit(error.diagnostics()) from error
