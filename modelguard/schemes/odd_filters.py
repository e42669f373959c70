"""Odd filters: how far an answer leans to one side of its query, band by band, with secret signs.

A filter h with h(-u) = -h(u) is uncorrelated, in any picture, with what a symmetric filter makes of the same
picture; and blur, JPEG, resizing and most networks are about symmetric. Little but the mark answers to it.
Yet it is a filter, which a network that imitates the marked one learns early.

Everything a third party recomputes is integer arithmetic on bytes, the same on every machine.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from modelguard.evidence import Decoder, stream
from modelguard.schemes import photo_marks, planes
from modelguard.schemes.photo_marks import CELLS, Public
from modelguard.schemes.planes import ONE, REACH, Integers, Pixels, detail, in_size_of_query, mean

ID, INSIDE_ID = "mg.odd-filters/1", "mg.odd-filters-inside/1"
"""Of models with a barrier behind them, and of those that have learnt it."""
RADIUS = 10
"""Of the filters, in pixels."""
WINDOW = (256, 251, 238, 217, 190, 161, 131, 103, 78, 57, 40)
"""Of the filters, from the centre outwards: a Gaussian of 5.2 pixels."""
FREQUENCIES = tuple((i, j) for i in range(7) for j in range(-6, 7) if (i, j) > (0, 0) and i * i + j * j <= 36)
"""Of the filters, down and right, in 18/256 of a turn a pixel; the other half-plane holds their negatives."""
CLASSES = 3
"""Every filter is taken as it is, by brightness, and by how bright or dark it is."""
FEATURES = CLASSES * len(FREQUENCIES)
AT_ONCE = 2
"""Leaves that so many features can tell apart."""
CUT, FARTHEST = 96, 192
"""Where the values of a filter, and brightness, are cut."""
SHIFT = 33
"""Bits by which the sums of a filter are made smaller."""
BRIGHT, EXTREME = 112, 80
"""Of photos the mean brightness, and of its square when a step is two grey levels."""
STEPS = 100
"""Steps in which the overlap of the carriers in a photo is taken away."""
DEFINITION = (  # its digest is in every registration: to change a letter is to make another decoder
    "mg.odd-correlation/1: all in 1/16 grey level, // and >> round down, Br is the mean over (2r+1)^2 pixels "
    "with the border repeated, L the mean of the channels of the answer Y, Q of the query;\n"
    "filters h of radius 10, for 0 <= i < 7, -7 < j < 7, (i, j) > (0, 0), ii + jj <= 36, in this order: "
    "wave(18 (i y + j x)) g(y) g(x) isqrt(64 (ii + jj)), wave(t) = sgn t (128 - t) >> 5 of t mod 128, "
    "g = 256 251 238 217 190 161 131 103 78 57 40 of |y|; F = sum of h L >> 33, cut at -96 and 96;\n"
    "classes: 128; b = 2 (B2 B2 L // 16 - 112) cut at -192 and 192; (bb >> 7) - 80; "
    "features: class F >> 7, class by class; carriers: signs of SHAKE256 stream W, 64 times all features;\n"
    "E = (L - B3 B3 L) - (Q - B3 B3 Q) cut at -96 and 96; z = carriers <E, features>; "
    "N = carriers <features, features> carriers, of every third pixel; "
    "x += ((z << 8) - (N >> 8) x) // (max row of |N >> 8|, + 2^22), 100 times from 0; "
    "score x times (mean diagonal of N // (mean of EE // 1 + 256))"
)
DECODER = Decoder("mg.odd-correlation/1", hashlib.sha256(DEFINITION.encode()).hexdigest())
PHOTOS = 16
"""Asked unless said."""
fitted = planes.fitted
"""How a photo is asked."""

_ROWS = 16  # of pixels whose features are held at a time


def public(
    *, channels: int, scale: int, per_session: int = 2, levels: int = 15, inside: bool = False
) -> dict[str, int | str]:
    """Return the public parameters of the scheme.

    Args:
        channels: of the model's images, 1 or 3.
        scale: of the model's output against its input, 1 to 4.
        per_session: leaves that a session reads, 1 to 16.
        levels: weights of the sign test go from 0 to this, 1 to 255.
        inside: whether the model makes its marks by itself, with nothing behind it.

    Raises:
        InputError: a number is out of range.
    """
    return photo_marks.public(INSIDE_ID if inside else ID, channels, scale, per_session, levels)


def bits(scheme: Public, secret: bytes, salt: bytes) -> npt.NDArray[np.int8]:
    """Return the secret signs of a leaf from its x_b: int8 (64,) of -1 and +1."""
    photo_marks.channels_and_scale(scheme, _id(scheme))
    return photo_marks.bits(secret, salt)


def carriers(scheme: Public, secret: bytes, salt: bytes) -> Integers:
    """Return the carriers of a leaf from its x_K: int64 (64, features) of -1 and +1."""
    photo_marks.channels_and_scale(scheme, _id(scheme))
    packed = np.frombuffer(stream("W", salt, secret, CELLS * FEATURES // 8), np.uint8)
    return np.unpackbits(packed).reshape(CELLS, FEATURES).astype(np.int64) * 2 - 1


def filters() -> Integers:
    """Return the filters: int64 (frequencies, 21, 21), each the negative of itself turned by half."""
    axis = np.arange(-RADIUS, RADIUS + 1)
    window = np.array(WINDOW)[abs(axis)]
    found = []
    for i, j in FREQUENCIES:
        turn = 18 * (i * axis[:, None] + j * axis) % 256
        wave = np.where(turn < 128, 1, -1) * (turn % 128 * (128 - turn % 128) >> 5)
        # photos have less of a frequency the higher it is
        found.append(wave * window[:, None] * window * math.isqrt(64 * (i * i + j * j)))
    return np.stack(found)


def decode_photo(
    scheme: Public, secrets: Sequence[bytes], salt: bytes, query: Pixels, response: Pixels
) -> Integers:
    """Return one integer a bit: how much of its carrier the answer holds beyond what the query explains.

    What carriers have in common in this photo is taken away by steps towards their least-squares fit. Photos
    weigh by the power of the carriers over that of the change. All of it is blind to the bits.

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
    channels, scale = photo_marks.channels_and_scale(scheme, _id(scheme))
    photo_marks.check_session(scheme, secrets, query, response)
    tone = in_size_of_query(response, query.shape[:2], scale).sum(axis=2) // channels
    asked = ONE * query.astype(np.int64).sum(axis=2) // channels
    seen = np.clip(detail(tone) - detail(asked), -REACH * ONE, REACH * ONE)
    shared, overlap = _sums(tone, seen)
    chosen = np.concatenate([carriers(scheme, secret, salt) for secret in secrets])
    overlap = chosen @ overlap @ chosen.T
    power = int(np.trace(overlap)) // len(overlap)
    noise = int((seen * seen).sum()) // seen.size + ONE**2
    scores: Integers = _disentangled(chosen @ shared, overlap) * (power // noise)
    return scores


def _sums(tone: Integers, seen: Integers) -> tuple[Integers, Integers]:
    """Return <E, features> and, of every third pixel, <features, features>."""
    flat = filters().reshape(len(FREQUENCIES), -1).T.astype(np.float64)
    padded = np.pad(tone, RADIUS, mode="edge").astype(np.float64)
    classes = _classes(tone)
    shared, overlap = np.zeros(FEATURES, np.int64), np.zeros((FEATURES, FEATURES), np.int64)
    side = 2 * RADIUS + 1
    for top in range(0, len(tone), _ROWS):
        rows = padded[top : top + _ROWS + 2 * RADIUS]
        near = np.lib.stride_tricks.sliding_window_view(rows, (side, side)).reshape(-1, side * side)
        # floats below 2^53 add up exactly in any order, and are what fast matrix products are made for
        leaning = np.clip((near @ flat).astype(np.int64) >> SHIFT, -CUT, CUT)
        kinds = classes[top : top + _ROWS].reshape(-1, CLASSES, 1)
        features = (kinds * leaning[:, None] >> 7).reshape(-1, FEATURES).astype(np.float64)
        shared += (seen[top : top + _ROWS].reshape(-1).astype(np.float64) @ features).astype(np.int64)
        few = features.reshape(-1, tone.shape[1], FEATURES)[-top % 3 :: 3, ::3].reshape(-1, FEATURES)
        overlap += (few.T @ few).astype(np.int64)
    return shared, overlap


def _classes(tone: Integers) -> Integers:
    """Return what each filter is multiplied with: (H, W, 3), in 1/128."""
    brightness = np.clip(2 * (mean(mean(tone, 2), 2) // ONE - BRIGHT), -FARTHEST, FARTHEST)
    return np.stack([np.full_like(tone, 128), brightness, (brightness * brightness >> 7) - EXTREME], axis=2)


def _disentangled(scores: Integers, overlap: Integers) -> Integers:
    """Return scores less what the other carriers put into each: a fixed number of Landweber's steps."""
    overlap = overlap >> 8
    step = int(np.abs(overlap).sum(axis=1).max()) + (1 << 22)
    aim, found = scores << 8, np.zeros_like(scores)
    for _ in range(STEPS):
        found = found + (aim - overlap @ found) // step
    return found


def _id(scheme: Public) -> str:
    return INSIDE_ID if scheme.get("id") == INSIDE_ID else ID
