"""Protect a video super-resolver, ask a copy of it with one clip, and write the evidence.

    pip install 'modelguard-sdk[video]'
    python examples/protect_video.py FOLDER

The model is a small one, trained here for a while; yours is any nn.Module that maps (B, T, C, h, w) in [0, 1]
to (B, T, C, sh, sw). What the suspect sends back is an H.264 file.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

import modelguard as mg
from modelguard import photos
from modelguard.datasets import Downscale, Filmed, ImageSet, Patches, read_frames
from modelguard.distortions import H264
from modelguard.networks import FilmStrip, RISTNSizes, ristn
from modelguard.suspects import ClipSuspect
from modelguard.training import TrainConfig, fit, restoration

PASSPHRASE = "for this example only"
FRAMES = 5
TASK = Filmed(Downscale(4), FRAMES)
SMALL = RISTNSizes(width=8, stages=((2,), (2, 2)), layers=2, growth=8, features=48, skip=True)
Clip = npt.NDArray[np.uint8]


def train(steps: int, stills: ImageSet) -> FilmStrip:
    """Return a super-resolver of clips; yours has been trained long ago."""
    torch.manual_seed(0)
    model = FilmStrip(ristn(SMALL), FRAMES)
    config = TrainConfig(steps=steps, batch=2, lr=1e-3)
    fit(model, Patches(stills, TASK, 88, 2 * steps), restoration(F.mse_loss), config, progress="training")
    model.eval()
    return model


def service(net: nn.Module) -> ClipSuspect:
    """Return a stranger's service: frames in, a coded clip out."""
    coded = H264(crf=23)

    def ask(frames: Clip) -> npt.NDArray[np.float32]:
        clip = torch.from_numpy(frames).permute(0, 3, 1, 2)[None].float() / 255
        with torch.no_grad():
            large = coded(net(clip).clamp(0, 1))
        answer: npt.NDArray[np.float32] = large[0].permute(0, 2, 3, 1).numpy()
        return answer

    return ClipSuspect(ask, FRAMES)


def main(folder: Path, steps: int, scheme: mg.TriggerKey, video: Path | None = None) -> None:
    """Train, protect, save, ask and certify; leave the result in `folder`."""
    stills = photos.load(3) if video is None else ImageSet.of(list(read_frames(video)))
    model = train(steps, stills)

    folder.mkdir(parents=True)
    owner = mg.Owner.create(folder / "acme.pem", name="Acme Imaging", passphrase=PASSPHRASE)
    protected = mg.protect(model, scheme, data=stills, task=TASK, owner=owner, progress=True)
    protected.save(folder / "protected", PASSPHRASE)
    print(protected.report)

    assert isinstance(protected.model, FilmStrip)
    verdict = mg.verify(service(protected.model.net), protected.key, label="vendor X")
    print(verdict)
    verdict.certify(owner, folder / "evidence")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("video"), help="new folder")
    parser.add_argument("--steps", type=int, default=300, help="training steps (default: 300)")
    parser.add_argument("--video", type=Path, help="a video, or a folder of frames, to train on")
    given = parser.parse_args()
    try:
        main(given.folder, given.steps, mg.TriggerKey(leaves=10, per_query=5, patch=88, batch=2), given.video)
    except mg.ModelGuardError as error:
        raise SystemExit(error.diagnostics()) from error
