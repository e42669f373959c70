"""Reading videos frame by frame: folders of images, and video files through PyAV (extra `video`)."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from modelguard.datasets.images import SUFFIXES, read_image, to_uint8
from modelguard.datasets.windows import size_of
from modelguard.errors import InputError

VIDEO_SUFFIXES = {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".y4m"}


def read_frames(source: str | Path) -> Iterator[Tensor]:
    """Yield the frames of a video as (3, H, W) floats in [0, 1], one at a time.

    Frames come in the order in which they are shown, each once. Their times are not used, so a variable frame
    rate changes nothing: each coded frame is a frame. Files in a folder come in the order of their names,
    numbers by their value.

    Args:
        source: a folder of images, or a video file (needs PyAV).

    Raises:
        InputError: nothing there, no video, or no PyAV; or, after the frames before it, a frame that is
            damaged, missing or of another size.
    """
    source = Path(source)
    if not source.exists():
        raise InputError(f"video: there is no {source}", "give a folder of frames or a video file")
    first: Tensor | None = None
    for number, frame in enumerate(_from_folder(source) if source.is_dir() else _from_file(source)):
        first = frame if first is None else first
        if frame.shape != first.shape:
            raise InputError(
                f"video: frame {number} of {source} is {size_of(frame)} px, the first is {size_of(first)} px",
                "cut or resize the frames to one size",
            )
        yield frame
    if first is None:
        raise InputError(f"video: there is no frame in {source}", "give a folder of images or a video")


def _from_folder(folder: Path) -> Iterator[Tensor]:
    paths = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES]
    return (read_image(path) for path in sorted(paths, key=lambda path: _natural(path.name)))


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _from_file(path: Path) -> Iterator[Tensor]:
    try:
        import av
    except ImportError as error:
        raise InputError(
            f"video: reading {path} needs PyAV",
            "pip install 'modelguard-sdk[video]', or give a folder of images",
        ) from error
    number = 0
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise InputError(f"video: {path} has no pictures", "give a video file")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                if frame.is_corrupt:
                    raise InputError(f"video: frame {number} of {path} is damaged", "replace the file")
                yield torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1).float() / 255
                number += 1
            declared = stream.frames  # 0 where the format does not say
    except av.FFmpegError as error:
        raise InputError(
            f"video: {path} cannot be read beyond {number} frames ({error.strerror})", "replace the file"
        ) from error
    if number < declared:
        raise InputError(
            f"video: {path} says that it has {declared} frames, {number} can be read",
            "replace the file; if it was only trimmed, encode it anew",
        )


@dataclass(frozen=True)
class VideoSet:
    """Videos held in memory by name, as uint8 tensors (T, 3, H, W), with those that could not be read."""

    videos: dict[str, Tensor]
    skipped: tuple[str, ...] = field(default=())

    @classmethod
    def from_folder(cls, folder: str | Path, *, smallest: int = 1) -> VideoSet:
        """Read every video file in `folder` and every folder of images in it.

        Unreadable or too small ones are skipped and reported; a damaged video gives none of its frames.

        Args:
            folder: not searched any deeper.
            smallest: videos with a side shorter than this are skipped.

        Raises:
            InputError: no such folder, or no usable video in it.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise InputError(f"videos: there is no folder {folder}", "give a folder of videos")
        videos, skipped = {}, []
        for path in sorted(folder.iterdir()):
            if not path.is_dir() and path.suffix.lower() not in VIDEO_SUFFIXES:
                continue
            try:
                frames = torch.stack([to_uint8(frame) for frame in read_frames(path)])
            except InputError as error:
                skipped.append(error.message)
                continue
            if min(frames.shape[2:]) < smallest:
                skipped.append(f"{path.name}: smaller than {smallest} px")
                continue
            videos[path.name] = frames
        if not videos:
            raise InputError(
                f"videos: none of the {len(skipped)} in {folder} can be used",
                "give a folder with video files, or with a folder of images for each video",
            )
        if skipped:
            warnings.warn(f"skipped {len(skipped)} videos: {'; '.join(skipped[:5])}", stacklevel=2)
        return cls(videos, tuple(skipped))
