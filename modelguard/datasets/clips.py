"""Short clips to train on, cut from videos or made from still photos by a known motion."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from modelguard.datasets.seeds import mixed_seed
from modelguard.datasets.tasks import Task
from modelguard.errors import InputError


@dataclass(frozen=True)
class Motion:
    """How far stills are moved, at most, from frame to frame; drawn anew for each clip, steady within it.

    Half of the clips only shift, by whole pixels: their frames are exact, and shift by parts of a pixel once
    they are shrunk. The others are interpolated (bicubic), and so a little soft.

    Args:
        shift: pixels, in any direction.
        turn: degrees, either way.
        zoom: part by which a frame may be larger or smaller than the one before.
    """

    shift: float = 6.0
    turn: float = 0.5
    zoom: float = 0.01

    def draw(self, generator: torch.Generator) -> tuple[tuple[float, float], float, float]:
        """Return (down, right) in pixels, degrees and the factor of size, each from frame to frame."""
        length, angle, kind, turn, zoom = torch.rand(5, generator=generator).tolist()
        length, angle = self.shift * length, 2 * math.pi * angle
        down, right = length * math.sin(angle), length * math.cos(angle)
        if kind < 0.5:
            return (float(round(down)), float(round(right))), 0.0, 1.0
        return (down, right), self.turn * (2 * turn - 1), (1 + self.zoom) ** (2 * zoom - 1)


def moved(
    still: Tensor,
    frames: int,
    size: int,
    centre: tuple[float, float],
    shift: tuple[float, float] = (0.0, 0.0),
    turn: float = 0.0,
    zoom: float = 1.0,
) -> Tensor:
    """Return what a camera of `size` x `size` pixels sees that moves steadily over a still.

    The frame in the middle of the clip, the earlier of two, is seen upright and unscaled around `centre`.
    Beyond its edge the still is mirrored.

    Args:
        still: (C, H, W).
        frames: length of the clip.
        size: side of the frames.
        centre: (row, column) in the still; whole numbers for odd sizes, halves for even ones hit its pixels.
        shift: of the camera from frame to frame, (down, right) in pixels.
        turn: of the camera from frame to frame, in degrees clockwise.
        zoom: factor from frame to frame by which the camera sees more.

    Returns:
        (frames, C, size, size).
    """
    height, width = still.shape[1:]
    time = torch.arange(frames, dtype=torch.float64) - (frames - 1) // 2
    angle, scale = torch.deg2rad(turn * time), zoom**time
    axis = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    row, column = axis[None, :, None], axis[None, None, :]
    cosine, sine = (scale * angle.cos())[:, None, None], (scale * angle.sin())[:, None, None]
    rows = centre[0] + shift[0] * time[:, None, None] + cosine * row + sine * column
    columns = centre[1] + shift[1] * time[:, None, None] + cosine * column - sine * row
    grid = torch.stack([2 * columns / (width - 1) - 1, 2 * rows / (height - 1) - 1], -1)
    seen = F.grid_sample(
        still[None].expand(frames, -1, -1, -1),
        grid.to(still.dtype),
        mode="bicubic",
        padding_mode="reflection",
        align_corners=True,
    )
    return seen.clamp(0, 1)


def degraded(clip: Tensor, task: Task, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Apply an image task to each frame of (T, C, H, W); return the inputs and targets, both (T, ...)."""
    inputs, targets = zip(*(task(frame, generator) for frame in clip), strict=True)
    return torch.stack(inputs), torch.stack(targets)


@dataclass(frozen=True)
class Filmed:
    """A task for models of clips: a camera moves over an image, `task` degrades each frame; see `FilmStrip`.

    The frames are square and keep clear of the image's edges by as much as the camera may travel; a turn or
    zoom may show a little beyond them, mirrored.

    Args:
        task: makes (input, target) from a clean frame.
        frames: of a clip.
        motion: of the camera, drawn anew for each clip.
    """

    task: Task
    frames: int = 5
    motion: Motion = Motion()

    def __call__(self, clean: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return (input, target) for a clean (C, H, W): the frames of each, one below the other.

        Raises:
            InputError: the image leaves no room for the camera's travel.
        """
        sides = clean.shape[1:]
        size = min(sides) - 2 * math.ceil(self.motion.shift) * (self.frames // 2)
        if size < 1:
            raise InputError(
                f"data: {sides[1]} x {sides[0]} px have no room to move {self.motion.shift:g} px a frame",
                "use larger patches, or a `Motion` of smaller shift",
            )
        row, column = ((side - size) // 2 + (size - 1) / 2 for side in sides)
        clip = moved(clean, self.frames, size, (row, column), *self.motion.draw(generator))
        given, target = degraded(clip, self.task, generator)
        return given.transpose(0, 1).flatten(1, 2), target.transpose(0, 1).flatten(1, 2)


class ClipPatches(Dataset[tuple[Tensor, Tensor]]):
    """`length` random square clips, each a pure function of (seed, index), degraded by `task`.

    A source of several frames gives consecutive ones, the last repeated where it is too short. A source of
    one frame is a still and is moved. Clips are mirrored, turned by quarters and reversed in time at random.
    Every source is drawn as often as any other.

    Args:
        sources: uint8 (T, C, H, W), such as the videos of a `VideoSet` and the images of an `ImageSet`, each
            with a leading dimension of one.
        task: makes (input, target) from a clean frame.
        size: side of the clean frames in pixels.
        length: how many clips there are; item i is always the same clip.
        frames: of a clip.
        motion: of stills.
        seed: another seed, other clips.
    """

    def __init__(
        self,
        sources: Sequence[Tensor],
        task: Task,
        size: int,
        length: int,
        *,
        frames: int = 5,
        motion: Motion = Motion(),
        seed: int = 0,
    ) -> None:
        if not sources:
            raise InputError("sources: there are none", "give videos or stills")
        smallest = min(min(source.shape[2:]) for source in sources)
        if smallest < size:
            raise InputError(
                f"sources: one has a side of {smallest} px, clips need {size}", "leave small ones out"
            )
        self.sources, self.task, self.size, self.length = sources, task, size, length
        self.frames, self.motion, self.seed = frames, motion, seed

    def __len__(self) -> int:
        """Return the number of clips."""
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return (input, target) of clip `index`, each (T, C, ...)."""
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, index))
        pick = torch.randint(2**31, (4,), generator=generator).tolist()
        source = self.sources[pick[0] % len(self.sources)]
        cut = self._moved if len(source) == 1 else self._window
        clip = torch.rot90(cut(source, generator), pick[1] % 4, (2, 3))
        clip = clip.flip(3) if pick[2] % 2 else clip
        return degraded(clip.flip(0) if pick[3] % 2 else clip, self.task, generator)

    def _window(self, video: Tensor, generator: torch.Generator) -> Tensor:
        count, _, height, width = video.shape
        pick = torch.randint(2**31, (3,), generator=generator).tolist()
        start = pick[0] % max(1, count - self.frames + 1)
        top, left = pick[1] % (height - self.size + 1), pick[2] % (width - self.size + 1)
        numbers = torch.arange(start, start + self.frames).clamp(max=count - 1)
        return video[numbers, :, top : top + self.size, left : left + self.size].float() / 255

    def _moved(self, still: Tensor, generator: torch.Generator) -> Tensor:
        shift, turn, zoom = self.motion.draw(generator)
        centre = []
        for side, step in zip(still.shape[2:], shift, strict=True):
            travel = abs(step) * (self.frames // 2)
            first = min(math.ceil(travel), (side - self.size) // 2)  # mirrored only where there is no room
            free = side - self.size - 2 * first
            offset = int(torch.randint(free + 1, (1,), generator=generator))
            centre.append(first + offset + (self.size - 1) / 2)
        image = still[0].float() / 255
        return moved(image, self.frames, self.size, (centre[0], centre[1]), shift, turn, zoom)
