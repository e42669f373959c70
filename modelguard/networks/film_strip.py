"""Models of clips as models of images: by all frames of a clip at once, or by still clips."""

from __future__ import annotations

from torch import Tensor, nn

from modelguard.errors import InputError, ModelContractError, check_counts


class _OfClips(nn.Module):
    """Holds a module of clips, and how many frames it is shown at once."""

    def __init__(self, net: nn.Module, frames: int) -> None:
        super().__init__()
        check_counts(frames=frames)
        self.net, self.frames = net, frames

    def extra_repr(self) -> str:
        """Return the settings."""
        return f"frames={self.frames}"


class FilmStrip(_OfClips):
    """Makes a module of clips one of images, which is protected, asked and attacked like any other.

    Shapes: (B, C, frames*h, w) to (B, C, frames*sh, sw), the first frame at the top.

    Args:
        net: maps (B, frames, C, h, w) to (B, frames, C, sh, sw): a model, or a channel such as `H264`.
        frames: of a clip.

    Raises:
        InputError: no such number of frames.
    """

    def forward(self, strip: Tensor) -> Tensor:
        """Return the answer to a strip.

        Raises:
            InputError: the strip is not (B, C, H, W), or H is not so many frames.
            ModelContractError: the net returned no clip, or one of another number of frames.
        """
        if strip.ndim != 4 or strip.shape[2] % self.frames:
            raise InputError(
                f"strip: {tuple(strip.shape)} is no strip of {self.frames} frames",
                "give (B, C, frames*h, w); a task for clips is `Filmed(task, frames)`",
            )
        batch, channels, height, width = strip.shape
        clip = strip.reshape(batch, channels, self.frames, height // self.frames, width).transpose(1, 2)
        return _answer(self.net, clip).transpose(1, 2).flatten(2, 3)


class Still(_OfClips):
    """Shows a module of clips an image as a clip in which nothing moves, and returns the middle frame.

    Shapes: (B, C, h, w) to (B, C, sh, sw). For marks that every frame carries, which photos ask for.

    Args:
        net: maps (B, frames, C, h, w) to (B, frames, C, sh, sw).
        frames: of a clip.

    Raises:
        InputError: no such number of frames.
    """

    def forward(self, image: Tensor) -> Tensor:
        """Return the answer to an image.

        Raises:
            ModelContractError: the net returned no clip, or one of another number of frames.
        """
        clip = image[:, None].expand(-1, self.frames, -1, -1, -1)
        return _answer(self.net, clip)[:, self.frames // 2]


def _answer(net: nn.Module, clip: Tensor) -> Tensor:
    answer = net(clip.contiguous())
    if not isinstance(answer, Tensor) or answer.ndim != 5 or answer.shape[1] != clip.shape[1]:
        found = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
        raise ModelContractError(
            f"net: {clip.shape[1]} frames came back as {found}",
            "wrap it to return (B, T, C, sh, sw) for (B, T, C, h, w), as many frames as it was given",
        )
    return answer
