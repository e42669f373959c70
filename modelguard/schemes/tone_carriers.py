"""Tone carriers: waves in the tone, colour and texture of any photo, each of a secret sign.

Everything a third party recomputes is integer arithmetic on bytes, the same on every machine. An answer to
any photo carries every bit at once; `decode_photo` never sees the bits, and its scores of several photos are
added (evidence: the exact sign test).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from modelguard.evidence import Decoder, stream
from modelguard.schemes import photo_marks, planes
from modelguard.schemes.photo_marks import Public
from modelguard.schemes.planes import ONE, Integers, Pixels, beyond, detail, in_size_of_query, mean, wave

ID = "mg.tone-carriers/1"
CELLS = 64
"""Bits of a leaf."""
CONTRAST = 8
"""Grey levels of contrast that are half-way to the most that counts."""
EDGE = 4
"""Factor on fine structure, so that a grey level of it counts as much as several of tone."""
STEPS = 100
"""Steps in which the overlap of the carriers in a photo is taken away."""
DEFINITION = (  # its digest is in every registration: to change a letter is to make another decoder
    "mg.tone-correlation/1: all in 1/16 grey level, // rounds down, Br is the mean over (2r+1)^2 pixels with "
    "the border repeated, contrast V = B2 B2 |B1 L - B4 L|, L the mean of the channels of the answer Y;\n"
    "coordinates: B1 B2 of each channel, 4 (B2 B2 L - B5 B5 L), 4096 V // (V + 128);\n"
    "wave(t) = sgn t (128 - t) >> 5 of t mod 128, of (<k, coordinates> >> 8) + phase, phase and k of "
    "SHAKE256 stream W, k signed;\n"
    "E = A - B6(AQ) Q // (B6(QQ) + 1024), A = L - B3 B3 L and Q likewise of the query, cut at -96 and 96; "
    "F = M - B3 B3 M of M = E G, G = V + 24 cut to 24 and 96;\n"
    "z = <F, waves>; N = <D, D>, D = G (wave - its mean) of every third pixel; "
    "x += ((z << 16) - (N >> 11) x) // (max row of |N| >> 11, + 2^26), 100 times from 0"
)
DECODER = Decoder("mg.tone-correlation/1", hashlib.sha256(DEFINITION.encode()).hexdigest())
PHOTOS = 3
"""Asked unless said."""
fitted = planes.fitted
"""How a photo is asked."""

_ROWS = 4096  # pixels whose waves are held at a time


def public(*, channels: int, scale: int, per_session: int = 4, levels: int = 15) -> dict[str, int | str]:
    """Return the public parameters of the scheme.

    Args:
        channels: of the model's images, 1 or 3.
        scale: of the model's output against its input, 1 to 4.
        per_session: leaves that a session reads, 1 to 16.
        levels: weights of the sign test go from 0 to this, 1 to 255.

    Raises:
        InputError: a number is out of range.
    """
    return photo_marks.public(ID, channels, scale, per_session, levels)


def bits(scheme: Public, secret: bytes, salt: bytes) -> npt.NDArray[np.int8]:
    """Return the secret signs of a leaf from its x_b: int8 (64,) of -1 and +1."""
    photo_marks.channels_and_scale(scheme, ID)
    return photo_marks.signs("b", secret, salt, CELLS)


def carriers(scheme: Public, secret: bytes, salt: bytes) -> tuple[Integers, Integers]:
    """Return the waves of a leaf from its x_K: wave numbers int64 (64, coordinates) and phases int64 (64,).

    A wave number counts 1/4096 turn a grey level of its coordinate, a phase 1/256 turn.
    """
    width = photo_marks.channels_and_scale(scheme, ID)[0] + 3
    drawn = np.frombuffer(stream("W", salt, secret, CELLS * width), np.uint8).reshape(CELLS, width)
    return drawn[:, 1:].astype(np.int8).astype(np.int64), drawn[:, 0].astype(np.int64)


def decode_photo(
    scheme: Public, secrets: Sequence[bytes], salt: bytes, query: Pixels, response: Pixels
) -> Integers:
    """Return one integer a bit: how much of its wave the answer holds beyond what the query explains.

    What a wave can be and where it can be seen is taken from the answer; the query is taken away from it by
    a factor fitted around each pixel; and what waves have in common in this photo is taken away by steps
    towards their least-squares fit. All of it is blind to the bits.

    Args:
        scheme: public parameters.
        secrets: x_K of each leaf that is read.
        salt: of the key.
        query: uint8 (H, W, C), the photo asked.
        response: uint8 (H', W', C); another size than registered is resampled first (bicubic).

    Returns:
        int64 (leaves * 64,), in the order of `bits`.

    Raises:
        InputError: `scheme` is not what `public` returns, or an image is of another number of channels, or
            the query of another size than `fitted` gives.
    """
    channels, scale = photo_marks.channels_and_scale(scheme, ID)
    photo_marks.check_session(scheme, secrets, query, response)
    answer = in_size_of_query(response, query.shape[:2], scale)
    tone = answer.sum(axis=2) // channels
    contrast = mean(mean(np.abs(mean(tone, 1) - mean(tone, 4)), 2), 2)
    gain = np.clip(contrast + 24, 24, 96)
    fine = EDGE * (mean(mean(tone, 2), 2) - mean(mean(tone, 5), 5))
    texture = 256 * ONE * contrast // (contrast + CONTRAST * ONE)
    planes = [mean(mean(answer[..., one], 2), 1) for one in range(channels)]
    coordinates = np.stack([*planes, fine, texture], axis=2)
    seen = beyond(tone, ONE * query.astype(np.int64).sum(axis=2) // channels)
    force = detail(seen * gain)
    waves = [carriers(scheme, secret, salt) for secret in secrets]
    numbers, phases = (np.concatenate(parts) for parts in zip(*waves, strict=True))
    scores = _correlation(coordinates.reshape(-1, channels + 2), force.reshape(-1), numbers, phases)
    every_third = coordinates[::3, ::3].reshape(-1, channels + 2)
    overlap = _overlap(every_third, gain[::3, ::3].reshape(-1), numbers, phases)
    return _disentangled(scores, overlap)


def _waves(coordinates: Integers, numbers: Integers, phases: Integers) -> npt.NDArray[np.float64]:
    """Return the waves at some pixels, (pixels, waves): integers from -128 to 128, as floats."""
    table = wave(np.arange(256))
    # floats below 2^53 add up exactly in any order, and are what fast matrix products are made for
    angle = (coordinates.astype(np.float64) @ numbers.T.astype(np.float64)).astype(np.int64)
    waves: npt.NDArray[np.float64] = table.astype(np.float64)[((angle >> 8) + phases) & 255]
    return waves


def _correlation(coordinates: Integers, force: Integers, numbers: Integers, phases: Integers) -> Integers:
    total = np.zeros(len(phases), np.int64)
    for at in range(0, len(force), _ROWS):
        waves = _waves(coordinates[at : at + _ROWS], numbers, phases)
        total += (force[at : at + _ROWS].astype(np.float64) @ waves).astype(np.int64)
    return total


def _overlap(coordinates: Integers, gain: Integers, numbers: Integers, phases: Integers) -> Integers:
    parts = [_waves(coordinates[at : at + _ROWS], numbers, phases) for at in range(0, len(gain), _ROWS)]
    mean = sum(part.sum(axis=0).astype(np.int64) for part in parts) // len(gain)
    total = np.zeros((len(phases), len(phases)), np.int64)
    for number, part in enumerate(parts):
        weighted = (part - mean) * gain[number * _ROWS : (number + 1) * _ROWS, None]
        total += (weighted.T @ weighted).astype(np.int64)
    return total


def _disentangled(scores: Integers, overlap: Integers) -> Integers:
    """Return scores less what the other waves put into each: a fixed number of Landweber's steps.

    A photo of few colours moves less in them, and so weighs less in the sum over photos.
    """
    step = (int(np.abs(overlap).sum(axis=1).max()) >> 11) + (1 << 26)
    overlap = overlap >> 11
    aim, found = scores << 16, np.zeros_like(scores)
    for _ in range(STEPS):
        found = found + (aim - overlap @ found) // step
    return found
