"""DBMARK as a codec: any image in, the same with hidden bits out, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from modelguard.codecs.bits import ALPHA, Bits, payload_bits
from modelguard.codecs.payload import PayloadCode
from modelguard.codecs.pictures import Picture, like, opened
from modelguard.codecs.pretrained import pretrained
from modelguard.codecs.strengths import check_survives, least
from modelguard.errors import EmbeddingError, InputError
from modelguard.networks import bicubic, device_of, evaluating
from modelguard.networks.dbmark import DBMarkNet, DBMarkSizes

Payload = Sequence[int] | npt.NDArray[np.generic] | int | np.integer[Any] | str

PREFIX = "dbmark-"
BATCH = 32  # small images that go through the net at once
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Capacity:
    """What an image can hold; of a batch, the worst of each.

    Attributes:
        bits: raw bits.
        id_bits: bits of an id, errors corrected.
        characters: bytes of a text, errors corrected.
        psnr: of a trial mark, dB after rounding to 8 bits.
        errors: bits of it that are read wrongly from the rounded image.
        holds: whether the payload comes back, an id or text at the level 1e-6.
    """

    bits: int
    id_bits: int
    characters: int
    psnr: float
    errors: int
    holds: bool


class DBMark:
    """Hides bits in images with a trained invertible net.

    The net works on the image shrunk to its own square. What it changes there is enlarged to the size of the
    image and added, scaled by a strength; reading shrinks again. So a mark outlives changes of size, and is
    lost with the frame: when the image is cut, turned or mirrored. Grey images get the luma of the mark.

    Args:
        net: trained.
        name: fixes the mask of ids and texts, see `PayloadCode`; another name reads none of them.
    """

    def __init__(self, net: DBMarkNet, name: str) -> None:
        self.net, self.name = net.eval(), name
        self.code = PayloadCode(net.sizes.bits, name)

    @classmethod
    def from_pretrained(cls, name: str | Path) -> DBMark:
        """Return the codec with weights that ship, such as "combined-30", or from a safetensors file.

        The sizes of the net and its name are in the file, which may be renamed. Its SHA-256 is checked
        against the card beside it, which a file of yours may lack.

        Raises:
            InputError: nothing of that name ships, or the file holds no DBMARK net.
            WeightsError: the file is not the one its card describes.
        """
        return cls(*pretrained("dbmark", name, lambda sizes: DBMarkNet(DBMarkSizes(**sizes))))

    @property
    def bits(self) -> int:
        """Bits an image carries."""
        return self.net.sizes.bits

    def payload(self, payload: Payload) -> npt.NDArray[np.uint8]:
        """Return as (bits,) of 0 and 1 what `embed` would hide for `payload`.

        Raises:
            InputError: it does not fit, or is no payload.
        """
        if isinstance(payload, str):
            if not payload or not payload.isprintable():  # `Message.text` would not give it back
                raise InputError(
                    f"payload: {payload!r} is empty or holds signs that cannot be printed", "give letters"
                )
            return self.code.encode(payload.encode())
        if isinstance(payload, (int, np.integer)):
            payload = int(payload)
            if not 0 <= payload < 2**self.code.data_bits:
                raise InputError(
                    f"payload: the id {payload} does not fit {self.code.data_bits} bits",
                    f"use 0 to {2**self.code.data_bits - 1}, or a codec of more bits",
                )
            return self.code.encode(payload.to_bytes(self.code.data_bytes, "big"))
        return payload_bits(payload, self.bits)

    @overload
    def embed(
        self, image: Tensor, payload: Payload, strength: float = 1.0, survives: Sequence[nn.Module] = ()
    ) -> Tensor: ...
    @overload
    def embed(
        self,
        image: npt.NDArray[np.uint8],
        payload: Payload,
        strength: float = 1.0,
        survives: Sequence[nn.Module] = (),
    ) -> npt.NDArray[np.uint8]: ...
    @overload
    def embed(
        self,
        image: Image.Image | Path | str,
        payload: Payload,
        strength: float = 1.0,
        survives: Sequence[nn.Module] = (),
    ) -> Image.Image: ...
    def embed(
        self, image: Picture, payload: Payload, strength: float = 1.0, survives: Sequence[nn.Module] = ()
    ) -> Tensor | npt.NDArray[np.uint8] | Image.Image:
        """Return `image` with `payload` in it, rounded to 8 bits and read back as a check.

        Args:
            image: (C, H, W) or (B, C, H, W) tensor, float in [0, 1] or uint8; uint8 array (H, W) or
                (H, W, C); PIL picture; path. Grey or RGB, with or without alpha, which is kept as it is.
            payload: a text or an id, with error correction; or as many zeros and ones as `bits`, bare.
            strength: factor on what the net changes; the PSNR falls by 20 log10 of it.
            survives: distortions such as `Jpeg(50)`, after each of which every bit must be read. The image is
                marked as little as this takes, from .9 to 2.5 times the strength: pictures full of texture
                more, most others less than without.

        Returns:
            The same form and size; a PIL picture for a path.

        Raises:
            InputError: the image, the payload, the strength or a distortion cannot be used.
            EmbeddingError: the mark cannot be found in what came out.
        """
        wanted = self.payload(payload)
        given = opened(image)
        pixels = given.rounded(self.mark(given.colour, wanted, strength, survives))
        for read in self._read(pixels[:, : given.colour.shape[1]].float() / 255):
            self.check(read, payload)
        return like(image, pixels)

    def extract(self, image: Picture) -> Bits:
        """Return the bits of one image, in any of the forms that `embed` takes.

        Raises:
            InputError: the image cannot be used, or is a batch of several; see `extract_batch`.
        """
        bits = self.extract_batch(image)
        if len(bits) != 1:
            raise InputError(f"image: {len(bits)} images at once", "use extract_batch")
        return bits[0]

    def extract_batch(self, images: Picture) -> list[Bits]:
        """Return the bits of each image of a (B, C, H, W) tensor."""
        return self._read(opened(images).colour)

    def capacity(self, image: Picture, strength: float = 1.0, payload: Payload | None = None) -> Capacity:
        """Return what `image` can hold, found out by marking it and reading that back.

        Args:
            image: see `embed`.
            strength: see `embed`.
            payload: to try; by default an id.

        Raises:
            InputError: the image, the strength or the payload cannot be used.
        """
        given = opened(image)
        payload = 2 ** (self.code.data_bits - 1) - 1 if payload is None else payload
        wanted = self.payload(payload)
        marked = given.rounded(self.mark(given.colour, wanted, strength))[:, : given.colour.shape[1]] / 255
        read = self._read(marked)
        squares = (marked - given.colour).pow(2).mean((1, 2, 3)).clamp_min(1e-12)
        return Capacity(
            self.bits,
            self.code.data_bits,
            self.code.data_bytes,
            float(-10 * torch.log10(squares).max()),
            max(int((one.hard != wanted).sum()) for one in read),
            all(self._holds(one, payload) for one in read),
        )

    def check(self, read: Bits, payload: Payload) -> None:
        """Raise EmbeddingError unless a marked image gives its payload back: bare bits all of them.

        Args:
            read: of the image as it is to be used.
            payload: that was embedded.
        """
        if not self._holds(read, payload):
            errors = int((read.hard != self.payload(payload)).sum())
            raise EmbeddingError(
                f"image: this picture does not hold the mark ({errors} of {self.bits} bits are read wrongly)",
                "raise the strength, or mark a picture with more detail",
            )

    def mark(
        self,
        colour: Tensor,
        wanted: npt.NDArray[np.uint8],
        strength: float,
        survives: Sequence[nn.Module] = (),
    ) -> Tensor:
        """Return marked images, neither rounded nor checked.

        Args:
            colour: (B, 1 or 3, H, W) in [0, 1].
            wanted: (bits,) of 0 and 1, or (B, bits) with other ones for each image.
            strength: see `embed`.
            survives: see `embed`.

        Raises:
            InputError: the strength is out of range, a distortion is none, or an image is too small.
            EmbeddingError: an image would have to be marked too strongly to survive.
        """
        check_strength(strength)
        check_survives(survives)
        marked = []
        payloads = torch.from_numpy(wanted).expand(len(colour), -1)
        for some, bits in zip(_batches(colour), _batches(payloads), strict=True):
            small = self._shrunk(some)
            with evaluating(self.net):
                change = self.net.embed(small, bits.to(small.device)) - small
            change = bicubic(change, (some.shape[-2], some.shape[-1])).to(some.device)
            if some.shape[1] == 1:
                change = torch.einsum("c,bchw->bhw", change.new_tensor(_LUMA), change)[:, None]
            if not survives:
                marked.append(some + strength * change)
                continue
            for one, moved, right in zip(some[:, None], change[:, None], bits, strict=True):
                margin = partial(self._margin, right)
                marked.append(one + least(one, moved, strength, survives, margin) * moved)
        return torch.cat(marked)

    def _holds(self, read: Bits, payload: Payload) -> bool:
        wanted = self.payload(payload)
        if not isinstance(payload, (str, int, np.integer)):
            return np.array_equal(read.hard, wanted)
        message = read.message()
        return (
            message is not None
            and np.array_equal(self.code.encode(message.data), wanted)
            and message.log10_p <= math.log10(ALPHA)
        )

    def _read(self, colour: Tensor) -> list[Bits]:
        soft = torch.cat([self._soft(some) for some in _batches(colour)])
        return [Bits(one, self.code) for one in soft.numpy()]

    def _margin(self, right: Tensor, colour: Tensor) -> float:
        return float((self._soft(colour) * (2.0 * right - 1)).min())

    def _soft(self, colour: Tensor) -> Tensor:
        with evaluating(self.net):
            return self.net.extract(self._shrunk(colour)).cpu()

    def _shrunk(self, colour: Tensor) -> Tensor:
        side = self.net.sizes.side
        if min(colour.shape[-2:]) < side:
            raise InputError(
                f"image: {colour.shape[-1]} x {colour.shape[-2]} px are too small for {self.name}",
                f"give at least {side} x {side} px",
            )
        small = bicubic(colour.to(device_of(self.net)), (side, side)).clamp(0, 1)
        return small.expand(-1, 3, -1, -1)


def _batches(images: Tensor) -> list[Tensor]:
    return [images[start : start + BATCH] for start in range(0, len(images), BATCH)]


def check_strength(strength: float) -> None:
    """Raise InputError unless a mark can be scaled by `strength`."""
    if not isinstance(strength, (int, float)) or not 0 < strength < 100:
        raise InputError(f"strength: {strength!r} is no factor", "use a number above 0, such as 1")
