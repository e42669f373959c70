"""What a scheme is: a frozen configuration that can be embedded, and a reader for what it left behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from modelguard.datasets import ImageSet, Task
from modelguard.errors import ModelContractError
from modelguard.evidence import Decoder, Key
from modelguard.networks import FilmStrip, device_of, evaluating

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Contract:
    """What a host takes and gives: (B, channels, H, W) to (B, channels, scale*H, scale*W).

    Of a `FilmStrip`, H is the height of so many frames, one below the other.
    """

    channels: int
    scale: int
    frames: int = 1


@dataclass(frozen=True)
class EmbedReport:
    """What embedding did: steps, seconds, roll-backs and the final training scalars."""

    steps: int
    seconds: float
    rollbacks: tuple[int, ...]
    scalars: Mapping[str, float]


class Scheme(Protocol):
    """How a model is marked. One file a scheme; `read` in `modelguard.schemes` finds its reader by id."""

    @property
    def leaves(self) -> int:
        """How many leaves a key of this scheme has."""
        ...

    def public(self, contract: Contract) -> dict[str, int | str]:
        """Return the public parameters for a host of this contract."""
        ...

    @property
    def decoder(self) -> Decoder:
        """The decoder, fixed before the key is salted."""
        ...


@runtime_checkable
class TrainedScheme(Scheme, Protocol):
    """A scheme that changes the host's weights."""

    def embed(
        self, host: nn.Module, key: Key, images: ImageSet, task: Task, progress: str | None
    ) -> EmbedReport:
        """Mark `host` in place with `key`."""
        ...


@runtime_checkable
class AttachedScheme(Scheme, Protocol):
    """A scheme that puts a module behind the host and leaves its weights alone."""

    def attach(self, host: nn.Module, key: Key) -> nn.Module:
        """Return the marked model, which holds `host` itself as `host`."""
        ...


class Reader(Protocol):
    """What is known of all readers: the secret bits, and which decoder. Decoding never sees the bits."""

    @property
    def DECODER(self) -> Decoder:
        """The decoder that registrations of this scheme name."""
        ...

    def bits(self, scheme: Mapping[str, Any], secret: bytes, salt: bytes, /) -> npt.NDArray[np.int8]:
        """Return the secret signs of a leaf from its x_b."""
        ...


@runtime_checkable
class TriggerReader(Reader, Protocol):
    """Turns leaves into queries, and the answers into integers."""

    def trigger(self, scheme: Mapping[str, Any], secrets: Sequence[bytes], salt: bytes, /) -> Pixels:
        """Return the query image of the leaves whose x_K are given."""
        ...

    def decode(
        self, scheme: Mapping[str, Any], secrets: Sequence[bytes], salt: bytes, response: Pixels, /
    ) -> npt.NDArray[np.int64]:
        """Return one integer a cell."""
        ...


@runtime_checkable
class PhotoReader(Reader, Protocol):
    """Turns the answers to ordinary photos into integers, the same leaves in each."""

    @property
    def PHOTOS(self) -> int:
        """How many photos are asked unless said."""
        ...

    def fitted(self, photo: Pixels, /) -> Pixels:
        """Return a photo as it is asked."""
        ...

    def decode_photo(
        self,
        scheme: Mapping[str, Any],
        secrets: Sequence[bytes],
        salt: bytes,
        query: Pixels,
        response: Pixels,
        /,
    ) -> npt.NDArray[np.int64]:
        """Return one integer a bit; those of several photos are added."""
        ...


def probe(model: nn.Module, image: Tensor, trained: bool = True, ordinary: bool = True) -> Contract:
    """Ask the model once and return what it takes and gives.

    Args:
        model: used in evaluation mode and put back.
        image: (C, H, W) in [0, 1].
        trained: whether its weights will be changed, so that it must have some.
        ordinary: whether it is meant for such images, and must answer in [0, 1].

    Raises:
        ModelContractError: it has no parameters, is not on one device, fails, changes shape in another way
            than by a whole-number scale, is not finite, or does not answer in [0, 1].
    """
    parameter = next(model.parameters(), None)
    if parameter is None and trained:
        raise ModelContractError(
            "model: it has no parameters to mark",
            "give a trained network, or protect an algorithm with `Barrier()`",
        )
    dtype = torch.float32 if parameter is None else parameter.dtype
    device = device_of(model)
    given = tuple(image[None].shape)
    try:
        with evaluating(model):
            answer = model(image[None].to(device, dtype))
    except Exception as error:
        raise ModelContractError(
            f"model: it fails on an input of shape {given}: {error}",
            "give images of its channels, use patches of a size it takes, and keep it in one precision",
        ) from error
    if not isinstance(answer, Tensor):
        raise ModelContractError(
            f"model: {given} came back as {type(answer).__name__}",
            "wrap it in a module whose `forward` picks the image, such as model(x)[0] or model(x)['image']",
        )
    if answer.ndim != 4 or answer.shape[:2] != given[:2]:
        raise ModelContractError(
            f"model: {given} came back as {tuple(answer.shape)}",
            "wrap it to return (B, C, sH, sW) for (B, C, H, W)",
        )
    scale = check_answer("model", given, answer, ordinary)
    return Contract(given[1], scale, model.frames if isinstance(model, FilmStrip) else 1)


def tone_ramp(image: Tensor) -> Tensor:
    """Return a ramp from black to white in the shape of an image: one photo may lack the tones that tell."""
    return torch.linspace(0, 1, image.shape[-1], dtype=image.dtype, device=image.device).repeat(
        *image.shape[:-1], 1
    )


def check_answer(who: str, given: Sequence[int], answer: Tensor, ordinary: bool = True) -> int:
    """Return by how much an answer (B, C, sH, sW) enlarges what was `given` (B, C, H, W).

    Args:
        who: "model" or "host", for messages.
        given: shape of the question.
        answer: to it.
        ordinary: whether it must be in [0, 1].

    Raises:
        ModelContractError: another scale than a whole number; NaN; or a fifth of it is well outside [0, 1].
    """
    height, width = (out / into for out, into in zip(answer.shape[2:], given[2:], strict=True))
    if height != width or height != int(height) or height < 1:
        raise ModelContractError(
            f"{who}: {tuple(given[2:])} px came back as {tuple(answer.shape[2:])}",
            f"a {who} must keep the size or enlarge both sides by the same whole number",
        )
    if not torch.isfinite(answer).all():
        raise ModelContractError(
            f"{who}: its answer holds NaN or infinity", "check its weights and its input range"
        )
    if ordinary and ((answer < -0.2) | (answer > 1.2)).float().mean() > 0.2:  # 0..255, or -1..1
        low, high = float(answer.min()), float(answer.max())
        raise ModelContractError(
            f"{who}: it answers an image in [0, 1] with values from {low:.4g} to {high:.4g}",
            f"wrap it so that it takes and returns [0, 1]: {who}(255 * x) / 255 in `forward`, or "
            f"({who}(2 * x - 1) + 1) / 2",
        )
    return int(height)
