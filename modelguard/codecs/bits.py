"""What was read from an image: soft bits, and how surprising they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelguard.codecs.payload import PayloadCode, as_scores
from modelguard.errors import InputError
from modelguard.statistics import SignTest, sign_test

ALPHA = 1e-6
"""Default level of "found": the rate at which images without a mark are said to have one."""


def payload_bits(payload: Sequence[int] | npt.NDArray[np.generic], count: int) -> npt.NDArray[np.uint8]:
    """Return `payload` as (count,) of 0 and 1; raises InputError if it is anything else."""
    try:
        array = np.asarray(payload)
    except ValueError as error:
        raise InputError(
            f"payload: {payload!r} are no bits ({error})", f"give {count} values of 0 and 1"
        ) from error
    if array.shape != (count,) or not np.isin(array, (0, 1)).all():
        raise InputError(
            f"payload: {array.shape} values are not {count} bits", f"give {count} values of 0 and 1"
        )
    return array.astype(np.uint8)


@dataclass(frozen=True)
class Message:
    """An id or text that was read, with the errors that were corrected.

    Attributes:
        data: the bytes.
        errors: bits that differed from the code word.
        log10_p: of the chance that an image marked by nobody agrees as well with any message.
    """

    data: bytes
    errors: int
    log10_p: float

    @property
    def id(self) -> int:
        """The data as a whole number."""
        return int.from_bytes(self.data, "big")

    @property
    def text(self) -> str | None:
        """The data as text, or None if it is none."""
        try:
            text = self.data.rstrip(b"\0").decode()
        except UnicodeDecodeError:
            return None
        return text if text.isprintable() and text else None


@dataclass(frozen=True, eq=False)
class Bits:
    """The bits of one image.

    Attributes:
        soft: (bits,) float32; the sign is the bit, the size how sure it is (about 1 in a clear image).
        code: of ids and texts.
    """

    soft: npt.NDArray[np.float32]
    code: PayloadCode

    @property
    def hard(self) -> npt.NDArray[np.uint8]:
        """The likelier value of each bit, 0 or 1."""
        return (self.soft > 0).astype(np.uint8)

    def test(self, expected: Sequence[int] | npt.NDArray[np.generic]) -> SignTest:
        """Test whether the image carries the bits `expected`, each weighted by how sure it is.

        Exact for every image that does not depend on `expected`, so these must have been drawn at random,
        and before the image existed to whoever made it: committed to, for evidence. The p-value cannot be
        below 2^-bits. For several images see `pooled`.

        Raises:
            InputError: `expected` is not as many zeros and ones.
        """
        signs = 2 * payload_bits(expected, self.soft.size).astype(np.int64) - 1
        return sign_test(signs, as_scores(self.soft))

    @classmethod
    def pooled(cls, reads: Sequence[Bits]) -> Bits:
        """Return the sum of what several images say, for one test of a payload they are said to share.

        That is the way to use many images. A payload fixed across them is one draw of as many bits as one
        image holds: multiplying the p-values of the images would count it again each time.

        Args:
            reads: of at least one image, all by one codec.

        Raises:
            InputError: there is none, or they are of different codecs.
        """
        if len({(read.code.bits, read.code.seed) for read in reads}) != 1:
            raise InputError(
                f"reads: {len(reads)} readings of no or of different codecs", "read all images with one codec"
            )
        return cls(np.sum([read.soft for read in reads], axis=0, dtype=np.float32), reads[0].code)

    def message(self) -> Message | None:
        """Return the id or text that agrees best, if any is near; found only if its p-value is small.

        The p-value is counted over the mask of the codec, which is fixed: see `PayloadCode`. It is for one
        image: of a million searched at level 1e-6 one is found by chance.
        """
        decoded = self.code.decode(self.soft)
        return None if decoded is None else Message(*decoded)
