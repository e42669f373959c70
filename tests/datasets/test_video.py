from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from modelguard.datasets import VideoSet, read_frames, windows, write_image
from modelguard.errors import InputError


def encode(path: Path, frames: Tensor, *, gaps: list[int] | None = None, **options: str) -> Path:
    """Write (T, 3, H, W) uint8 as H.264; `gaps` are milliseconds from frame to frame."""
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width = frames.shape[2:]
        stream.pix_fmt, stream.options = "yuv444p", {"crf": "5"}
        if gaps:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(frame.permute(1, 2, 0).numpy()), format="rgb24"
            )
            if gaps:
                picture.pts, picture.time_base = sum(gaps[:number]), Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="session")
def scene(make_photo: Callable[..., Tensor]) -> Tensor:
    """Eleven frames of 36 x 52, each brighter than the one before."""
    photo = make_photo(8, 3, 36, 52)
    return torch.stack([(photo * (100 + 12 * number)).to(torch.uint8) for number in range(11)])


def folder_of(frames: Tensor, folder: Path, name: str = "frame_{}.png") -> Path:
    for number, frame in enumerate(frames):
        write_image(folder / name.format(number), frame.float() / 255)
    return folder


def test_frames_of_a_folder_come_by_the_number_in_their_name(scene: Tensor, tmp_path: Path) -> None:
    folder = folder_of(scene, tmp_path / "clip")
    (folder / "notes.txt").write_text("no frame")
    read = torch.stack(list(read_frames(folder)))
    assert torch.equal((read * 255).round().to(torch.uint8), scene)


@pytest.mark.parametrize("gaps", [None, [10, 90, 20, 300, 40, 40, 5, 80, 40, 40]], ids=["steady", "variable"])
@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_frames_of_a_file_come_once_each_whatever_their_times(
    scene: Tensor, tmp_path: Path, gaps: list[int] | None, ending: str
) -> None:
    read = torch.stack(list(read_frames(encode(tmp_path / f"a.{ending}", scene, gaps=gaps))))
    assert read.shape == scene.shape
    assert (read * 255 - scene).abs().mean() < 2


def test_odd_sizes_are_read_as_they_are(tmp_path: Path) -> None:
    frames = torch.full((2, 3, 17, 33), 128, dtype=torch.uint8)
    assert next(read_frames(encode(tmp_path / "odd.mp4", frames))).shape == (3, 17, 33)
    assert next(read_frames(folder_of(frames, tmp_path / "odd"))).shape == (3, 17, 33)


def test_a_frame_of_another_size_is_named_after_those_before_it(scene: Tensor, tmp_path: Path) -> None:
    folder = folder_of(scene[:3], tmp_path / "clip")
    write_image(folder / "frame_3.png", torch.zeros(3, 36, 50))
    read = read_frames(folder)
    assert len([next(read) for _ in range(3)]) == 3
    with pytest.raises(InputError, match=r"frame 3 of .*clip is 50 x 36 px, the first is 52 x 36 px"):
        next(read)


def damage(path: Path, start: float, end: float) -> Path:
    data = bytearray(path.read_bytes())
    data[int(start * len(data)) : int(end * len(data))] = b"Z" * (
        int(end * len(data)) - int(start * len(data))
    )
    path.write_bytes(data)
    return path


def cut(path: Path, part: float) -> Path:
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    return path


BAD: dict[str, tuple[Callable[[Tensor, Path], Path], str]] = {
    "absent": (lambda scene, folder: folder / "none.mp4", "there is no"),
    "empty folder": (lambda scene, folder: folder, "there is no frame in"),
    "text": (lambda scene, folder: _text(folder / "a.mp4"), "cannot be read beyond 0 frames"),
    "damaged": (
        lambda scene, folder: damage(encode(folder / "a.mp4", scene), 0.3, 0.5),
        "cannot be read beyond|is damaged|can be read",
    ),
    "cut, index lost": (
        lambda scene, folder: cut(encode(folder / "a.mp4", scene), 0.5),
        "cannot be read beyond 0 frames",
    ),
    "cut, index first": (
        lambda scene, folder: cut(encode(folder / "a.mp4", scene, movflags="faststart"), 0.7),
        "cannot be read beyond|is damaged|can be read",
    ),
}


def _text(path: Path) -> Path:
    path.write_bytes(b"no video " * 100)
    return path


@pytest.mark.parametrize("name", list(BAD))
def test_what_is_no_whole_video_is_an_error(name: str, scene: Tensor, tmp_path: Path) -> None:
    make, message = BAD[name]
    with pytest.raises(InputError, match=message):
        list(read_frames(make(scene, tmp_path)))


def test_files_need_pyav_and_folders_do_not(
    scene: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(scene[:2], tmp_path / "clip")
    monkeypatch.setitem(sys.modules, "av", None)
    assert len(list(read_frames(folder))) == 2
    with pytest.raises(InputError, match="needs PyAV") as raised:
        next(read_frames(_text(tmp_path / "a.mp4")))
    assert "modelguard-sdk[video]" in raised.value.remedy


def test_a_set_of_videos_skips_and_reports_bad_ones(scene: Tensor, tmp_path: Path) -> None:
    folder_of(scene, tmp_path / "calendar")
    encode(tmp_path / "walk.mp4", scene[:4])
    _text(tmp_path / "bad.mp4")
    (tmp_path / "README.txt").write_text("no video")
    folder_of(scene[:2, :, :8], tmp_path / "flat")
    with pytest.warns(UserWarning, match="skipped 2 videos"):
        videos = VideoSet.from_folder(tmp_path, smallest=16)
    assert {name: len(frames) for name, frames in videos.videos.items()} == {"calendar": 11, "walk.mp4": 4}
    assert torch.equal(videos.videos["calendar"], scene)
    assert [text.split()[0] for text in videos.skipped] == ["video:", "flat:"]
    with pytest.raises(InputError, match="none of the 0"):
        VideoSet.from_folder(tmp_path / "flat")
    with pytest.raises(InputError, match="no folder"):
        VideoSet.from_folder(tmp_path / "absent")


@given(frames=st.integers(1, 30), length=st.integers(1, 7), data=st.data())
def test_every_frame_is_the_own_of_one_window(frames: int, length: int, data: st.DataObject) -> None:
    step = data.draw(st.integers(1, length))
    read = 0

    def stream() -> Iterator[Tensor]:
        nonlocal read
        for number in range(frames):
            read += 1
            yield torch.full((1, 1, 1), float(number))

    own: list[float] = []
    for window, count in windows(stream(), length, step):
        values = window.flatten().tolist()
        assert len(values) == length
        assert read <= len(own) + length + 1
        first = len(own)
        assert values == [min(first + number, frames - 1) for number in range(length)]
        own += values[:count]
    assert own == list(range(frames))
