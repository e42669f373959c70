"""Distortions of clips, as modules on (B, T, C, H, W) in [0, 1]; `FilmStrip` makes channels of them."""

from __future__ import annotations

import io

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelguard.datasets import to_uint8
from modelguard.errors import InputError


class H264(nn.Module):
    """H.264 compression by libx264 (PyAV, extra `video`) after rounding to 8 bits; passes no gradients.

    Chroma is halved (4:2:0); odd sides are filled up by repeating the last row or column, and cut again.

    Args:
        crf: constant rate factor, 0 (best) to 51; 23 is libx264's own.

    Raises:
        InputError: no such factor, or no PyAV.
    """

    def __init__(self, crf: int = 23) -> None:
        super().__init__()
        if not (isinstance(crf, int) and 0 <= crf <= 51):
            raise InputError(f"crf: {crf!r} is no rate factor", "use a whole number from 0 to 51")
        try:
            import av  # noqa: F401
        except ImportError as error:
            raise InputError("H264: it needs PyAV", "pip install 'modelguard-sdk[video]'") from error
        self.crf = crf

    def forward(self, clip: Tensor) -> Tensor:
        """Return the clip as decoded; raises InputError unless it is (B, T, 3, H, W)."""
        if clip.ndim != 5 or clip.shape[2] != 3 or not clip.is_floating_point() or not clip.numel():
            raise InputError(
                f"clip: {tuple(clip.shape)} of {clip.dtype} is no batch of clips",
                "give a float tensor (B, T, 3, H, W) in [0, 1]",
            )
        decoded = torch.stack([self._through(one) for one in to_uint8(clip).cpu()])
        return decoded.to(clip.device, clip.dtype) / 255

    def _through(self, clip: Tensor) -> Tensor:
        import av

        height, width = clip.shape[2:]
        even = F.pad(clip.float(), (0, width % 2, 0, height % 2), mode="replicate").to(torch.uint8)
        buffer = io.BytesIO()
        with av.open(buffer, "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.height, stream.width = even.shape[2:]
            stream.pix_fmt, stream.options = "yuv420p", {"crf": str(self.crf)}
            stream.codec_context.thread_count = 1  # so that equal clips become equal files
            for frame in even.permute(0, 2, 3, 1).contiguous().numpy():
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
        buffer.seek(0)
        with av.open(buffer, "r") as coded:
            frames = [frame.to_ndarray(format="rgb24") for frame in coded.decode(video=0)]
        return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)[:, :, :height, :width]

    def extra_repr(self) -> str:
        """Return the settings."""
        return f"crf={self.crf}"
